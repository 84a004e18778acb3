"""docs/search.md: its commands, run against a real service, and its table of fields."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.support.checkout import ROOT
from tests.support.pages import blocks, empty_folder, run, wanted
from tests.support.processes import serving
from tests.support.serving import build_gallery, photo
from threadmatch.model.inference import Model
from threadmatch.service.http.schemas.matches import MatchAnswer, SearchAnswer
from threadmatch.service.http.schemas.search import SearchOptions

PAGE = (ROOT / "docs" / "search.md").read_text("utf-8")


def test_every_command_runs(
    tmp_path: Path, commands: Path, tiny_model: Model, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed here")
    work, environment = empty_folder(tmp_path, commands)
    (work / "street.jpg").write_bytes(photo(3))
    gallery = build_gallery(tmp_path, tiny_model, [f"item-{number:02}" for number in range(12)])
    (work / "gallery").symlink_to(gallery)
    monkeypatch.chdir(work)
    serve = ("--gallery", str(gallery), "--model", str(tiny_model_folder), "--device", "cpu")
    with serving(*serve, THREADMATCH_FEEDBACK=str(work / "feedback")) as (log, address):
        outputs = [run(block, environment, address) for block in blocks(PAGE) if wanted(block)]
        lines = [json.loads(line) for line in log]
    assert "1 pairs, 2 gallery items, 0 hard negatives" in outputs[-1]
    statuses = [line["status"] for line in lines if line["message"] == "request"]
    assert len(statuses) == PAGE.count("curl -sS")
    assert set(statuses) == {200, 202}


def test_every_field_is_explained() -> None:
    explained = set(re.findall(r"`(\w+)`", PAGE))
    for model in (SearchOptions, SearchAnswer, MatchAnswer):
        assert model.model_fields.keys() <= explained
