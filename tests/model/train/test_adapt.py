"""A model made to keep its cells: the rest stays, the chain begins with the dense match."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from threadmatch.model.chain import Stage
from threadmatch.model.inference import load_model
from threadmatch.service.cli import app


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for n in range(24):
        folder = tmp_path / "photos" / f"{n % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        tiles = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        tiles.resize((80, 90)).save(folder / f"{n}.png")
    return tmp_path / "photos"


def test_only_cells_and_chain_are_new(tmp_path: Path, photos: Path, tiny_model_folder: Path) -> None:
    out = tmp_path / "adapted"
    arguments = ["adapt", str(tiny_model_folder), "--photos", str(photos), "--out", str(out), "--channels", "8"]
    done = CliRunner().invoke(app, [*arguments, "--depth", "5", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["photos"] == 24
    before, after = load_model(tiny_model_folder, device="cpu"), load_model(out, device="cpu")
    assert after.chain == (Stage("dense"), Stage("grnet", 5))
    assert [spec.name for spec in after.features] == ["embedding", "regions", "cells"]
    assert after.features_fingerprint != before.features_fingerprint
    pixels = np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    old, new = before.encode(pixels), after.encode(pixels)
    for name, values in old.items():
        np.testing.assert_array_equal(new[name], values)
    cells = new["cells"]
    [scores] = after.matchers["dense"].score_many([{"cells": cells[1]}], [{"cells": cells}])
    assert int(scores.argmax()) == 1
    assert scores[1] == pytest.approx(1, abs=1e-5)
    again = CliRunner().invoke(app, [*arguments[:-3], str(tmp_path / "again"), "--channels", "8", "--depth", "5"])
    assert again.exit_code == 0, again.output
    assert "shortlist -> dense all -> grnet 5" in again.stdout
    assert load_model(tmp_path / "again", device="cpu").fingerprint == after.fingerprint


def test_too_few_photos_are_said(tmp_path: Path, photos: Path, tiny_model_folder: Path) -> None:
    for path in sorted(photos.rglob("*.png"))[5:]:
        path.unlink()
    done = CliRunner().invoke(
        app, ["adapt", str(tiny_model_folder), "--photos", str(photos), "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 1
    assert "5 photos; the cells of a model are fitted on 20 at least" in done.stderr
