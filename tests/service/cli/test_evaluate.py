"""A manifest goes into `threadmatch evaluate` and into a recipe as two tables do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

from model.backbone import build_backbone
from model.data.manifest import Domain, ManifestRow, Split, write_manifest
from service.cli import app

SPLITS = {Split.TRAIN: range(12), Split.VAL: range(12, 24), Split.TEST: range(24, 30)}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stripes are the product; every third product is a skirt."""
    root = tmp_path_factory.mktemp("set")
    rows = []
    for split, products in SPLITS.items():
        for product in products:
            rng = np.random.default_rng(product)
            stripes = np.repeat(rng.integers(0, 256, (6, 1, 3)), 16, axis=0).repeat(96, axis=1)
            for domain, noise in ((Domain.SHOP, 4), (Domain.CUSTOMER, 30)):
                name = f"{domain}-{product}.png"
                pixels = np.clip(stripes + rng.normal(0, noise, stripes.shape), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / name)
                setup = "" if domain is Domain.SHOP else "hard_view+hard_occlusion" if product % 2 else "easy"
                category = "tops" if product % 3 else "skirts"
                rows.append(ManifestRow(name, f"p{product}", domain, split, category=category, setup=setup))
    write_manifest(root / "m.csv", rows)
    return root / "m.csv"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_split_of_a_manifest_is_measured(manifest: Path, tiny_model_folder: Path, tmp_path: Path) -> None:
    ask = ("evaluate", "--manifest", manifest, "--model", tiny_model_folder, "--out", tmp_path / "r.json", "--json")
    result = run(*ask)
    assert result.exit_code == 0, result.stderr
    answer = json.loads(result.stdout)
    assert (answer["gallery"], answer["queries"]) == (6, 6)
    queries = {setup: figures["queries"] for setup, figures in answer["by_setup"].items()}
    assert queries == {"easy": 3, "hard_occlusion": 3, "hard_view": 3}, "hard in two ways counts in both"
    answer = json.loads(run(*ask, "--gallery-split", "all", "--category", "tops").stdout)
    assert (answer["gallery"], answer["queries"]) == (20, 4)
    answer = json.loads(run(*ask, "--split", "val", "--gallery-split", "val", "--gallery-split", "test").stdout)
    assert (answer["gallery"], answer["queries"]) == (18, 12)


def test_wrong_use_of_evaluate_exits_2_and_an_empty_split_1(manifest: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "r.json")
    for wrong in (
        (),
        ("--gallery-csv", manifest),
        ("--manifest", manifest, "--gallery-csv", manifest, "--query-csv", manifest),
        ("--gallery-csv", manifest, "--query-csv", manifest, "--category", "tops"),
        ("--manifest", manifest, "--split", "all"),
    ):
        assert run("evaluate", *wrong, *out).exit_code == 2, wrong
    result = run("evaluate", "--manifest", manifest, "--category", "hats", *out)
    assert (result.exit_code, "of hats; found" in result.stderr) == (1, True)


def test_a_recipe_trains_on_a_manifests_splits(manifest: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    save_file(build_backbone("timm:test_efficientnet").body.state_dict(), tmp_path / "backbone.safetensors")
    (tmp_path / "recipe.toml").write_text(
        f"""
[data]
train = "{manifest}"
val = "{manifest}"
backbone_weights = "backbone.safetensors"
[model]
backbone = "timm:test_efficientnet"
image_px = 64
neck_channels = 8
similarity_channels = 8
node_channels = 8
[fit]
metric_steps = 2
head_steps = 2
metric_queries = 6
queries = 4
negatives = 2
shortlist = 4
evaluate_every = 2
"""
    )
    result = run("train", tmp_path / "recipe.toml", "--run", tmp_path / "run", "--json")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "run/checkpoint").is_dir()
