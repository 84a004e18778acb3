"""PartAndHead recipes over small sets: maps of earlier stages, and runs that go on."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.model.train.maps import CONFIG, STAGE, start, striped_maps
from tests.model.train.recipes import write_recipe
from threadmatch.model.backbone import Backbone
from threadmatch.model.checkpoint import save_checkpoint
from threadmatch.model.data.manifest.rows import Split
from threadmatch.model.data.sets import read_sets
from threadmatch.model.data.sides import Sides
from threadmatch.model.errors import ConfigError
from threadmatch.model.grnet import GRNet, load_checkpoint
from threadmatch.model.neck import HypercolumnNeck
from threadmatch.model.train.inputs.front_maps import MapSet
from threadmatch.model.train.joined_run import join_networks
from threadmatch.model.train.loop.run_folder import PLAN_FILE, keep_to_plan
from threadmatch.model.train.phases.backbone_phase import features_of
from threadmatch.model.train.phases.principal_components import start_from_data, start_hypercolumn
from threadmatch.model.train.phases.trained_part import TrainedPart
from threadmatch.model.train.recipe import Recipe, read_recipe, train
from threadmatch.model.train.start import CHECKPOINT, WORSE, settled

TAPPED = replace(CONFIG, hypercolumn=(STAGE,))
TUNING = "\n[finetune]\nfrom_stage = {stage}\nsteps = 2\nqueries = 4\ngroup = 2\nevaluate_every = 2\n"


def test_components_of_earlier_maps_are_white_and_what_is_joined_keeps_most(backbone: Backbone) -> None:
    backbone = copy.deepcopy(backbone)
    network, rest = start(backbone.tap((STAGE,)), TAPPED)
    neck = network.neck
    assert isinstance(neck, HypercolumnNeck)
    features = features_of(network, rest, striped_maps(copy.deepcopy(backbone), range(40), 0))
    start_from_data(network, features)
    regions = torch.cat([features.gallery.regions, features.queries.regions]).flatten(0, 1).float()
    channels = network.backbone.channels
    with torch.no_grad():
        [layer] = neck.components
        spread = torch.cov(layer(regions[:, channels:]).T)
        assert (spread - spread.diag().diag()).abs().max() < 0.02 * spread.diag().max()
        column = neck.column(neck.last(regions[:, :channels]), [regions[:, channels:]])
        joined = neck.join(column)
        kept = joined.square().sum() / column.square().sum()
        others = torch.linalg.qr(torch.randn(column.shape[1], joined.shape[1])).Q
    assert kept > (column @ others).square().sum() / column.square().sum(), "leading directions, not any"
    rows = neck.join.weight @ neck.join.weight.T
    torch.testing.assert_close(rows, torch.eye(len(rows)), rtol=0, atol=1e-4)
    before = neck.join.weight.clone()
    with torch.no_grad():
        neck.last.weight.normal_()
    start_hypercolumn(network, features)
    assert not torch.equal(neck.join.weight, before), "it follows what was learned"


def test_maps_of_the_front_are_made_once_whatever_is_read_after_it(photo_sets: Path, tmp_path: Path) -> None:
    made = []
    for model in ("", "hypercolumn = [3]\nregion_norm = 'l2'"):
        train(
            read_recipe(write_recipe(photo_sets, model=model, more=TUNING.format(stage=3))),
            tmp_path / "run",
            draw_curves=False,
        )
        made.append({path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "maps").glob("*.npy")})
        for left in ("finetune.pt", "state.pt"):
            (tmp_path / "run" / left).unlink()
    assert made[0] == made[1]
    assert len(made[0]) == 4


def test_a_run_goes_on_with_the_settings_it_began_with_or_not_at_all(photo_sets: Path, tmp_path: Path) -> None:
    def recipe(model: str = "", steps: int = 2, head: int = 3) -> Recipe:
        more = TUNING.replace("steps = 2", f"steps = {steps}").format(stage=3)
        path = write_recipe(photo_sets, model=model, more=more)
        path.write_text(path.read_text().replace("head_steps = 3", f"head_steps = {head}"))
        return read_recipe(path)

    run = tmp_path / "run"
    first = train(recipe(), run, draw_curves=False)
    assert first is not None
    again = train(recipe(), run, draw_curves=False)
    assert again is not None
    assert again["fingerprint"] == first["fingerprint"], "a finished run is only finished again"
    with pytest.raises(ConfigError, match=r"\[finetune\] steps was 2, is 4"):
        train(recipe(steps=4), run, draw_curves=False)
    with pytest.raises(ConfigError, match=r"\[fit\] head_steps was 3, is 5") as both:
        train(recipe(model="dropout = 0.1", head=5), run, draw_curves=False)
    assert "[model] dropout was 0.0, is 0.1" in str(both.value)
    with pytest.raises(ConfigError, match=r"\[model\] hypercolumn was \[\], is \[3\]"):
        train(recipe(model="hypercolumn = [3]"), run, draw_curves=False)
    (run / "state.pt").unlink()  # the head has not begun, so it may be another
    longer = train(recipe(head=5), run, draw_curves=False)
    assert longer is not None
    assert longer["fingerprint"] != first["fingerprint"]
    (run / "finetune.pt").unlink()
    (run / "state.pt").unlink()
    assert train(recipe(steps=4), run, draw_curves=False) is not None


def test_settings_that_an_older_release_did_not_know_are_no_change(tmp_path: Path) -> None:
    state = {"fit": tmp_path / "state.pt"}
    state["fit"].touch()
    keep_to_plan(tmp_path, {"model": {"steps": 3}, "fit": {"seed": 0}}, state)
    keep_to_plan(tmp_path, {"model": {"steps": 3, "new": 1}, "fit": {"seed": 0}}, state)
    with pytest.raises(ConfigError, match=r"\[fit\] was given"):
        keep_to_plan(tmp_path, {"model": {"steps": 3}, "fit": None}, state)
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / PLAN_FILE).write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        keep_to_plan(tmp_path / "torn", {"fit": {}}, state)
    with pytest.raises(ConfigError, match="seed was 0, is 1"):
        keep_to_plan(tmp_path, {"model": {"steps": 3}, "fit": {"seed": 1}}, state, write=False)


def test_the_trained_part_gives_the_regions_of_the_network(backbone: Backbone) -> None:
    tapped = copy.deepcopy(backbone).tap((STAGE,))
    network, rest = start(tapped, TAPPED)
    pairs: Sides[MapSet] = striped_maps(tapped, range(12), 0)
    start_from_data(network, features_of(network, rest, pairs))
    at = np.arange(4)
    maps = pairs.gallery.take(at)
    whole, plain = (TrainedPart(network, rest, maps, hypercolumn=both).eval() for both in (True, False))
    features = features_of(network, rest, pairs).gallery
    with torch.no_grad():
        embedding, regions, _ = whole(maps)
        expected = network.project(features.pooled[:4], features.regions[:4].float())
        torch.testing.assert_close(embedding, expected[0], rtol=1e-2, atol=1e-2)
        torch.testing.assert_close(torch.nn.functional.normalize(regions, dim=-1), expected[1], rtol=1e-2, atol=1e-2)
        last = network.neck.last(features.regions[:4, :, : network.backbone.channels].float())  # type: ignore[union-attr, operator]
        torch.testing.assert_close(plain(maps)[1], last, rtol=1e-2, atol=1e-2)
    learning = {name for name, value in whole.learn().named_parameters() if value.requires_grad}
    assert any(name.startswith("rest") for name in learning)
    assert not any(name.startswith("hypercolumn") for name in learning)


@pytest.mark.parametrize("more", [TUNING.format(stage=3), TUNING.format(stage=3) + "\n[end_to_end]\nfrom_stage = 3\n"
    "epochs = 1\ngarments = 4\noptimiser = 'adamw'\nrate = 0.0005\n", ""])  # fmt: skip
def test_every_phase_takes_maps_of_earlier_stages(photo_sets: Path, tmp_path: Path, more: str) -> None:
    path = write_recipe(photo_sets, model="hypercolumn = [3]\nregion_norm = 'l2'", more=more)
    result = train(read_recipe(path), tmp_path / "run", draw_curves=False)
    assert result is not None
    learned = load_checkpoint(Path(result["checkpoint"]))
    assert isinstance(learned.neck, HypercolumnNeck)
    rows = learned.neck.join.weight @ learned.neck.join.weight.T
    torch.testing.assert_close(rows, torch.eye(len(rows)), rtol=0, atol=1e-2)  # nothing trains it; float16 on disk


def _begun(root: Path, start: str, *, model: str = "", rate: float = 1e-6) -> Path:
    """A recipe that begins with a model and tunes it a little."""
    path = root / "begun.toml"
    path.write_text(
        f'start = "{start}"\n[data]\ntrain = "train"\nval = "val"\n{model}'
        f"[finetune]\nfrom_stage = 3\nsteps = 2\nqueries = 4\ngroup = 2\nevaluate_every = 1\nrate = {rate}\n"
        "[fit]\nhead_steps = 2\nqueries = 4\nnegatives = 3\nshortlist = 6\nevaluate_every = 2\n"
    )
    return path


def test_a_recipe_can_begin_with_a_trained_model_and_says_what_it_gained(photo_sets: Path, tmp_path: Path) -> None:
    first = train(read_recipe(write_recipe(photo_sets)), tmp_path / "first", draw_curves=False)
    assert first is not None
    start = Path(first["checkpoint"])
    begun = read_recipe(_begun(photo_sets, str(start)))
    assert begun.model == load_checkpoint(start).config
    assert begun.fit.metric_steps == 0, "a trained neck is not started anew"
    result = train(begun, tmp_path / "second", draw_curves=False, force=True)
    assert result is not None
    lines = [json.loads(line) for line in (tmp_path / "second" / "finetune.jsonl").read_text().splitlines()]
    rest = load_checkpoint(start).backbone.split(3)[1]
    assert lines[0]["step"] == 0
    found = result["compared_with_start"]
    assert found["start"] == start.name
    assert found["gain"]["top1"]["mean"] == pytest.approx(found["after"]["top1"] - found["before"]["top1"])
    assert found["worse"] == (found["after"]["mrr"] < found["before"]["mrr"])
    moved = load_checkpoint(Path(result["checkpoint"])).backbone.split(3)[1]
    for before, after in zip(rest.parameters(), moved.parameters(), strict=True):
        torch.testing.assert_close(before, after, rtol=0.05, atol=0.05)


def test_a_recipe_can_begin_with_two_joined_networks(photo_sets: Path, tmp_path: Path) -> None:
    alone = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        alone.append(GRNet(replace(CONFIG, hypercolumn=(3, 5))).eval())
    joined = join_networks(*alone, read_sets([photo_sets / "train"], Split.TRAIN).gallery)
    save_checkpoint(joined, tmp_path / "joined")
    recipe = _begun(photo_sets, str(tmp_path / "joined"), rate=1e-3)
    with pytest.raises(ConfigError, match=r"cells = 1\.0"):
        read_recipe(recipe)
    recipe.write_text(recipe.read_text().replace("[fit]\n", "cells = 1.0\nlocal = 0.0\n[fit]\n"))
    result = train(read_recipe(recipe), tmp_path / "run", draw_curves=False, force=True)
    assert result is not None
    tuned = load_checkpoint(Path(result["checkpoint"]))
    assert tuned.backbone.companion is not None
    assert joined.backbone.companion is not None
    for own, before in ((tuned.backbone, joined.backbone), (tuned.backbone.companion, joined.backbone.companion)):
        kept = [
            all(torch.equal(a, b.half().float()) for a, b in zip(now.parameters(), then.parameters(), strict=True))
            for now, then in zip(own.stages(), before.stages(), strict=True)
        ]
        assert kept == [stage < 3 for stage in range(len(kept))]


def test_a_model_that_became_worse_is_kept_but_is_no_checkpoint(photo_sets: Path, tmp_path: Path) -> None:
    first = train(read_recipe(write_recipe(photo_sets)), tmp_path / "first", draw_curves=False)
    assert first is not None
    start, val = Path(first["checkpoint"]), read_sets([photo_sets / "val"], Split.VAL)
    network = load_checkpoint(start)
    assert network.embedding is not None
    with torch.no_grad():  # all photos are alike to it
        network.embedding.weight.zero_()
        network.embedding.bias.fill_(1.0)
        network.head.blend.zero_()  # type: ignore[union-attr, operator]
        network.head.classifier.weight.zero_()
    for force in (False, True):
        save_checkpoint(network, tmp_path / "run" / CHECKPOINT)
        found = settled(start, tmp_path / "run", val, force=force)
        assert found["compared_with_start"]["worse"]
        assert Path(found["checkpoint"]).name == (CHECKPOINT if force else WORSE)
        assert (tmp_path / "run" / CHECKPOINT).is_dir() == force
        assert (tmp_path / "run" / WORSE).is_dir() != force


@pytest.mark.parametrize(
    ("start", "model", "said"),
    [
        ("nowhere", "", "start = 'nowhere' is no model"),
        ("grnet-lite0", "[model]\nneck_channels = 12\n", r"neck_channels = 12 \(the model has 256\)"),
        ("grnet-lite0", "backbone_weights = 'x'\n", "leave one out"),
    ],
)
def test_a_start_that_cannot_be_is_named(photo_sets: Path, start: str, model: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_recipe(_begun(photo_sets, start, model=model))
