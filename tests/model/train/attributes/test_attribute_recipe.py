"""A recipe makes a model with attributes on top of one that stays as it is; the paper's form trains its backbone."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from threadmatch.model.attributes.config import Attribute, paper_config
from threadmatch.model.attributes.levels import Levels
from threadmatch.model.attributes.network import build_network
from threadmatch.model.backbone import build_backbone
from threadmatch.model.data.attribute_labels import read_attributes
from threadmatch.model.data.manifest.rows import Split
from threadmatch.model.errors import ConfigError, DataError
from threadmatch.model.inference import load_model
from threadmatch.model.train.attributes.attribute_phase import (
    AttributeSettings,
    LabelledMaps,
    paper_settings,
    train_attributes,
)
from threadmatch.model.train.attributes.attribute_recipe import read_attribute_recipe, train_attribute_recipe
from threadmatch.model.train.inputs.front_maps import MapSet
from threadmatch.model.train.loop.run_folder import Run
from threadmatch.service.cli import app

SHADES, WAYS = ("dark", "light"), ("across", "down")
RECIPE = """
name = "with-attributes"
model = "{model}"
[data]
train = ["m.csv"]
val = ["m.csv"]
[network]
early = 1
late = 2
width = 6
attributes = ["shade", "way"]
[train]
steps = 6
triplets = 4
evaluate_every = 3
"""


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 garments of two shades with stripes across or down, shared out over the splits."""
    root = tmp_path_factory.mktemp("labelled")
    lines = ["image,product_id,domain,split,shade,way"]
    rng = np.random.default_rng(0)
    for n in range(24):
        shade, way = SHADES[n % 2], WAYS[n // 2 % 2]
        pixels = np.full((64, 64, 3), 60 if shade == "dark" else 200, np.int16) + rng.integers(-20, 20, (64, 64, 3))
        stripes = (np.arange(64) // 8 % 2 * 50).astype(np.int16)
        pixels += stripes[:, None, None] if way == "across" else stripes[None, :, None]
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / f"{n}.png")
        lines.append(f"{n}.png,p{n},shop,{('train', 'train', 'val', 'test')[n // 4 % 4]},{shade},{way}")
    (root / "m.csv").write_text("\n".join(lines) + "\n")
    return root


def test_a_recipe_makes_a_checkpoint_with_the_part_and_an_evaluation_measures_it(
    labelled: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    recipe = labelled / "recipe.toml"
    recipe.write_text(RECIPE.format(model=tiny_model_folder))
    run = CliRunner().invoke(app, ["train-attributes", str(recipe), "--run", str(tmp_path / "run"), "--json"])
    assert run.exit_code == 0, run.output
    result = json.loads((tmp_path / "run/result.json").read_text())
    core, trained = load_model(tiny_model_folder), load_model(result["checkpoint"])
    assert trained.features_fingerprint == core.features_fingerprint
    assert trained.fingerprint == core.fingerprint
    assert trained.parts == {"attributes": result["part"]}
    assert trained.attributes is not None
    assert [(one.name, one.values) for one in trained.attributes.attributes] == [("shade", SHADES), ("way", WAYS)]
    assert all(one.scale != 16.0 for one in trained.attributes.attributes), "fitted on val"
    assert "classify" not in "".join(load_file(Path(result["checkpoint"]) / "attributes/model.safetensors"))
    steps = [json.loads(line)["step"] for line in (tmp_path / "run/attributes.jsonl").read_text().splitlines()]
    assert steps == [0, 3, 6]
    again = train_attribute_recipe(read_attribute_recipe(recipe), tmp_path / "run")
    assert again["part"] == result["part"], "a finished run is not trained again"

    out = tmp_path / "report.json"
    asked = ["--manifest", str(labelled / "m.csv"), "--out", str(out), "--split", "all"]
    told = CliRunner().invoke(app, ["evaluate-attributes", *asked, "--model", result["checkpoint"]])
    assert told.exit_code == 0, told.output
    report = json.loads(out.read_text())
    assert report["attributes"] == ["shade", "way"]
    assert report["queries"] == report["candidates"] == 24
    ours = report["map"][result["checkpoint"]]
    assert set(ours) == {"shade", "way", "all", "mean"}
    [gain] = report["gains"].values()
    assert gain["mean"] == pytest.approx(ours["mean"] - report["map"]["embedding"]["mean"])
    assert "| shade | 2 |" in out.with_suffix(".md").read_text()
    refused = CliRunner().invoke(app, ["evaluate-attributes", *asked, "--model", str(tiny_model_folder)])
    assert refused.exit_code == 1
    assert "has no attributes; train them with" in refused.output


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (('model = "', 'modle = "'), "a recipe has modle, known are"),
        (("[data]", 'backbone = "timm:resnet50"\n[data]'), "has both model and backbone"),
        (('train = ["m.csv"]', "train = []"), r"train is \[\], expected a list"),
        (("steps = 6", 'steps = "6"'), r"\[train\] steps: steps is '6'"),
        (("steps = 6", "stepps = 6"), r"\[train\] stepps: unknown"),
        (("steps = 6", "weights = {hinge = 1.0}"), r"weights has \['hinge'\]"),
        (("width = 6", "widht = 6"), r"\[network\] has widht"),
        (("name", "=name"), "cannot be read as TOML"),
    ],
)
def test_a_recipe_that_is_not_understood_is_named(tmp_path: Path, changed: tuple[str, str], says: str) -> None:
    path = tmp_path / "r.toml"
    path.write_text(RECIPE.replace(*changed, 1))
    with pytest.raises(ConfigError, match=says):
        read_attribute_recipe(path)


def test_garments_of_both_parts_are_refused(labelled: Path, tiny_model_folder: Path, tmp_path: Path) -> None:
    (labelled / "leaky.csv").write_text(
        (labelled / "m.csv").read_text().replace("val", "train") + "0.png,p0,shop,val,dark,\n"
    )
    recipe = labelled / "leaky.toml"
    recipe.write_text(RECIPE.format(model=tiny_model_folder).replace("m.csv", "leaky.csv"))
    with pytest.raises(DataError, match=r"1 products are in train and in val, such as .'p0'"):
        train_attribute_recipe(read_attribute_recipe(recipe), tmp_path / "run")


def test_in_the_papers_form_backbone_and_layer4_learn_along(labelled: Path, tmp_path: Path) -> None:
    config = paper_config((Attribute("shade", SHADES), Attribute("way", WAYS)))
    assert (config.early, config.late, config.width, config.classifier) == (2, 3, 512, "rest")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = build_backbone("timm:test_resnet")
        levels = Levels(backbone, early=config.early, late=config.late)
        network = build_network(config, levels.channels, rest=levels.rest, rest_channels=backbone.channels)
    photos = read_attributes([labelled / "m.csv"], Split.TRAIN, config.names)
    pixels = np.stack([np.asarray(Image.open(image.path), np.float16) for image in photos.images])
    data = LabelledMaps.of(photos, MapSet([image.product_id for image in photos.images], pixels), network)
    paper = paper_settings()
    assert (paper.rate, paper.triplets, paper.shared, dict(paper.weights)) == (
        1e-4,
        16,
        False,
        {"triplet": 1.0, "attribute": 1.0},
    )
    assert (paper.steps, paper.decay_every, paper.decay) == (150 * 6250, 3 * 6250, 0.9)
    short = AttributeSettings(
        steps=1, triplets=2, shared=False, weights=paper.weights, rate=0.1, decay_every=1, average=0.0
    )
    before = {name: value.detach().clone() for name, value in levels.named_parameters()}
    train_attributes(network, data, data, settings=short, run=Run(tmp_path), front=levels)
    state = torch.load(tmp_path / "attributes.pt", weights_only=True)["module"]
    for part in ("until_early", "until_late", "rest"):
        moved = [
            name for name in before if name.startswith(part) and not torch.equal(before[name], state[f"front.{name}"])
        ]
        assert moved, f"{part} learns"


def test_the_recipe_that_ships_reads_and_trained_what_ships() -> None:
    folder = Path(__file__).parents[4] / "model/weights/grnet-lite0/attributes"
    recipe = read_attribute_recipe(folder / "recipe.toml")
    settings = json.loads((folder / "config.json").read_text())["settings"]
    assert recipe.network["attributes"] == [one["name"] for one in settings["attributes"]]
    given = tomllib.loads((folder / "recipe.toml").read_text())["network"]
    assert {name: settings[name] for name in ("early", "late", "width")} == {
        name: given[name] for name in ("early", "late", "width")
    }
