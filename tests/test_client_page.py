"""docs/client.md: its commands and programs, run against a real service."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.support.checkout import ROOT
from tests.support.pages import ADDRESS, NOT_RUN, blocks, empty_folder, run, wanted
from tests.support.processes import serving
from tests.support.serving import build_gallery, photo
from threadmatch.model.inference import Model
from threadmatch.service.client import Client

PAGE = (ROOT / "docs" / "client.md").read_text("utf-8")


def test_every_block_runs(
    tmp_path: Path, commands: Path, tiny_model: Model, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed here")
    gallery = build_gallery(tmp_path, tiny_model, [f"item-{number:02}" for number in range(12)])
    work, environment = empty_folder(tmp_path, commands)
    (work / "street.jpg").write_bytes(photo(3))
    monkeypatch.chdir(work)
    outputs: list[str] = []
    options = ("--gallery", str(gallery), "--model", str(tiny_model_folder), "--device", "cpu")
    with serving(*options, THREADMATCH_FEEDBACK=str(tmp_path / "feedback")) as (log, address):
        for block in blocks(PAGE):
            if wanted(block):
                assert ADDRESS in block.code, f"line {block.line} calls nothing"
                outputs.append(run(block, environment, address))
        lines = [json.loads(line) for line in log]
    assert "422 InvalidImage" in outputs[-1]
    refused = [line for line in lines if line["message"] == "request" and line["status"] >= 400]
    assert [line["status"] for line in refused] == [422], "the one that shows an error"


def test_a_block_that_is_not_run_says_why() -> None:
    for block in blocks(PAGE):
        if not wanted(block):
            assert len(block.note) > len(NOT_RUN) + 10, f"line {block.line}"


def test_every_call_of_the_client_is_shown() -> None:
    for name in vars(Client):
        if not name.startswith("_") and name != "close":
            assert re.search(rf"client\.{name}\(", PAGE), f"docs/client.md does not show Client.{name}"
