"""A manifest goes into `threadmatch evaluate` and into a recipe as two tables do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

from tests.support import layouts
from threadmatch.model.backbone import build_backbone
from threadmatch.model.data.manifest.rows import Domain, Manifest, ManifestRow, Split, write_manifest
from threadmatch.service.cli import app

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
    which = ("--manifest", manifest, "--gallery-split", "val", "--gallery-split", "test", "--category", "tops")
    result = run("evaluate", *which, "--model", tiny_model_folder, "--out", tmp_path / "r.json", "--json")
    assert result.exit_code == 0, result.stderr
    answer = json.loads(result.stdout)
    assert (answer["gallery"], answer["queries"]) == (8 + 4, 4)
    queries = {setup: figures["queries"] for setup, figures in answer["by_setup"].items()}
    assert queries == {"easy": 2, "hard_occlusion": 2, "hard_view": 2}, "hard in two ways counts in both"
    assert list(answer["by_category"]) == ["tops"]


@pytest.mark.parametrize(
    ("make", "sizes"),
    [(layouts.in_shop, (4, 2)), (layouts.segmented_in_shop, (4, 2)), (layouts.consumer_to_shop, (2, 2))],
)
def test_deepfashions_protocols_are_measured_in_one_command(
    make: Callable[[Path], Path], sizes: tuple[int, int], tiny_model_folder: Path, tmp_path: Path
) -> None:
    root = make(tmp_path / "DeepFashion")
    result = run("evaluate", "--manifest", root, "--model", tiny_model_folder, "--out", tmp_path / "r.json", "--json")
    assert result.exit_code == 0, result.stderr
    answer = json.loads(result.stdout)
    assert (answer["gallery"], answer["queries"]) == sizes
    assert (tmp_path / "r.manifest.csv").is_file()


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


def test_a_recipe_takes_the_train_rows_of_a_manifest(manifest: Path, tmp_path: Path) -> None:
    others = [row for _, row in Manifest(manifest).rows() if row.split is not Split.TRAIN]
    write_manifest(tmp_path / "m.csv", others)
    torch.manual_seed(1)
    save_file(build_backbone("timm:test_efficientnet").body.state_dict(), tmp_path / "backbone.safetensors")
    (tmp_path / "recipe.toml").write_text(
        '[data]\ntrain = "m.csv"\nval = "m.csv"\nbackbone_weights = "backbone.safetensors"\n'
        '[model]\nbackbone = "timm:test_efficientnet"\nimage_px = 64\n'
    )
    result = run("train", tmp_path / "recipe.toml", "--run", tmp_path / "run")
    assert (result.exit_code, "no shop and no customer rows in split train" in result.stderr) == (1, True)
