"""An alignment learns behind a model that stays as it is, from a recipe to a part in a checkpoint, and is measured."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from threadmatch.model.data.pairs import read_labelled
from threadmatch.model.errors import ConfigError, DataError
from threadmatch.model.evaluate.alignment_report import measure
from threadmatch.model.evaluate.evaluation import EvaluationSettings, evaluate
from threadmatch.model.inference import load_model
from threadmatch.model.train.alignment_run import read_alignment_recipe, train_part

RECIPE = """
model = "{model}"
[data]
fit = ["{fit}:0.5"]
val = ["val"]
[form]
slot_channels = 16
sides = [1, 2]
[fit]
steps = {steps}
garments = 6
group = 2
others = 3
evaluate_every = 2
learning_rate = 0.01
"""


def write_set(folder: Path, products: range) -> None:
    """Striped garments; a query is its garment, darker and shifted."""
    folder.mkdir(parents=True)
    rows: dict[str, list[dict[str, object]]] = {"gallery": [], "queries": []}
    for n in products:
        colours = np.random.default_rng(n).integers(0, 256, (8, 1, 3))
        pixels = np.kron(colours, np.ones((8, 64, 1))).astype(np.uint8)
        for side, made in (("gallery", pixels), ("queries", np.roll(pixels // 2, 5, axis=0))):
            Image.fromarray(made).save(folder / f"{side}{n}.png")
            rows[side].append({"image": f"{side}{n}.png", "product_id": f"p{n}", "setup": "even" if n % 2 else "odd"})
    for side, own in rows.items():
        with (folder / f"{side}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(own[0]))
            writer.writeheader()
            writer.writerows(own)


def recipe(root: Path, model: Path, *, steps: int = 4, fit: str = "fit") -> Path:
    path = root / "recipe.toml"
    path.write_text(RECIPE.format(model=model, steps=steps, fit=fit))
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("alignment")
    write_set(root / "fit", range(10))
    write_set(root / "val", range(10, 18))
    # The tiny model has no cells: its network makes them, and a part reads them, so a model of the same weights with
    # the feature is what is trained on.
    model = with_cells(tiny_model_folder, root / "model")
    return root, train_part(read_alignment_recipe(recipe(root, model)), root / "run")


def with_cells(folder: Path, out: Path) -> Path:
    from threadmatch.model.checkpoint import save_checkpoint
    from threadmatch.model.grnet import load_checkpoint
    from threadmatch.model.train.sparse_run import with_cells as made

    save_checkpoint(made(load_checkpoint(folder)), out)
    return out


def test_a_recipe_becomes_a_part_that_leaves_the_core_as_it_is(trained: tuple[Path, dict[str, Any]]) -> None:
    root, result = trained
    model, core = (
        load_model(result["checkpoint"], device="cpu", engine="torch"),
        load_model(root / "model", device="cpu", engine="torch"),
    )
    assert model.parts == {"alignment": result["fingerprint"]}
    assert (model.fingerprint, model.features_fingerprint) == (core.fingerprint, core.features_fingerprint)
    assert (Path(result["checkpoint"]) / "alignment" / "recipe.toml").read_text() == (root / "recipe.toml").read_text()
    assert model.feature("slots").shape == (5, 16)
    assert result["val"].keys() >= {"mrr", "top1", "val_mrr", "val_top1"}
    steps = [json.loads(line)["step"] for line in (root / "run" / "curves.jsonl").read_text().splitlines()]
    assert steps == [0, 2, 4]


def test_it_is_evaluated_by_name_and_beside_the_others(trained: tuple[Path, dict[str, Any]]) -> None:
    root, result = trained
    gallery, queries = (read_labelled(root / "val" / f"{side}.csv") for side in ("gallery", "queries"))
    settings = EvaluationSettings(methods=("global", "greedy", "dense", "mga"), candidates=8, exhaustive=False)
    report, _ = evaluate(
        load_model(result["checkpoint"], device="cpu", engine="torch"), gallery, queries, settings=settings
    )
    assert report["methods"].keys() == {"global", "greedy", "dense", "mga"}
    found = measure(result["checkpoint"], gallery, queries, further=[Path(result["checkpoint"])])
    assert found["methods"]["mga"]["top1"] == pytest.approx(report["methods"]["mga"]["top1"], abs=0.13), "int8 slots"
    assert found["methods"]["checkpoint"] == found["methods"]["mga"], "the same part, as another training of it"
    assert found["by_setup"].keys() == {"even", "odd"}
    assert {"dense", "global", "mga 1x1", "mga 2x2", "mga_embedding", "mga without FGA", "mga without ATA"} <= found[
        "gain_of_mga_over"
    ].keys()
    with pytest.raises(ConfigError, match="has no part 'alignment'"):
        measure(str(root / "model"), gallery, queries)


def test_what_a_recipe_may_not_say_is_named(trained: tuple[Path, dict[str, Any]]) -> None:
    root, _ = trained
    path = recipe(root, root / "model", steps=6)
    with pytest.raises(ConfigError, match="steps was 4, is 6"):
        train_part(read_alignment_recipe(path), root / "run")
    with pytest.raises(DataError, match="8 products are in fit and in val"):
        train_part(read_alignment_recipe(recipe(root, root / "model", fit="val")), root / "other")
    for text, said in (
        ("[data]\nfit = ['a']\nval = []", "each need a set"),
        ("[data]\nfit = ['a:b']\nval = ['b']", "weight 'b', expected a number"),
        ("[data]\nfit = ['a']", "expected model"),
        ("[data]\nfit = ['a']\nval = ['b']\n[fit]\nstep = 3", r"\['step'\], known are"),
        ("[data]\nfit = ['a']\nval = ['b']\n[fit]\nsteps = 'x'", "steps is 'x'"),
        ("x", "not a readable recipe"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=said):
            read_alignment_recipe(path)
