"""Requests that schemathesis makes from the service's description, against a real process: every route, every check.

By hand, against any running service, from the repository's root:
    st run http://127.0.0.1:8000/openapi.json --checks all
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkout import IMPORT_PATH, ROOT
from tests.support.processes import serving
from tests.support.serving import build_gallery
from threadmatch.model.inference import Model

SEED = 7
EXAMPLES = 10
TIME_LIMIT_S = 150
IDS = ["MH06-black-main", "with space", "a/b", *(f"item-{number:02}" for number in range(12))]
"""The first is the one that the description takes as its example."""


@pytest.fixture(scope="module")
def own_gallery(tmp_path_factory: pytest.TempPathFactory, tiny_model: Model) -> Path:
    """A gallery that requests may change."""
    return build_gallery(tmp_path_factory.mktemp("schemathesis"), tiny_model, IDS)


def test_every_route_keeps_to_its_description(own_gallery: Path, tiny_model_folder: Path) -> None:
    with serving("--gallery", str(own_gallery), "--model", str(tiny_model_folder), "--device", "cpu") as (
        log,
        address,
    ):
        done = subprocess.run(
            [
                Path(sys.executable).with_name("st"), "run", f"{address}/openapi.json", "--checks", "all",
                "--seed", str(SEED), "--max-examples", str(EXAMPLES), "--continue-on-failure", "--no-color",
            ],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=TIME_LIMIT_S,
            env={**os.environ, "PYTHONPATH": IMPORT_PATH, "SCHEMATHESIS_HOOKS": "tests.support.photo_requests"},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-12_000:] + done.stderr[-2000:]
        lines = [json.loads(line) for line in log]
    asked = [line for line in lines if line["message"] == "request"]
    assert not [line for line in lines if line["level"] == "error"], "nothing a client sends is our error"
    assert max(line["status"] for line in asked) < 500
    answered = {line["path"] for line in asked if line["status"] == 200}
    assert {"/v1/search", "/v1/items/MH06-black-main", "/v1/items/MH06-black-main/image"} <= answered, "real work too"
