"""Training learns, resumes to the same bits, and ends in a checkpoint that loads."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.model.train.recipes import write_recipe
from threadmatch.model.config import GRNetConfig
from threadmatch.model.data.encoded import encode_images
from threadmatch.model.data.manifest.rows import Split
from threadmatch.model.data.pairs import NEGATIVES_FILE, read_labelled
from threadmatch.model.data.sets import read_sets
from threadmatch.model.data.sides import Sides
from threadmatch.model.errors import ConfigError, DataError
from threadmatch.model.evaluate.evaluation import evaluate
from threadmatch.model.evaluate.report import markdown
from threadmatch.model.grnet import GRNet, load_checkpoint
from threadmatch.model.inference import load_model
from threadmatch.model.train.inputs.feature_sets import FeatureSet
from threadmatch.model.train.inputs.negatives import draw_queries
from threadmatch.model.train.loop.run_folder import PLAN_FILE, Run
from threadmatch.model.train.loop.validation import evaluate_features
from threadmatch.model.train.phases.head import HeadSettings, train_head
from threadmatch.model.train.phases.principal_components import start_from_data
from threadmatch.model.train.recipe import read_recipe, train

CHANNELS = 256  # of timm's test_efficientnet
CONFIG = GRNetConfig(
    backbone="timm:test_efficientnet", image_px=64, neck_channels=12, embedding_channels=16, region_norm="l2",
    similarity_channels=14, node_channels=10, projection_bias=True, blend=("global", "greedy"), dropout=0.1,
)  # fmt: skip
SETTINGS = HeadSettings(
    metric_steps=7,
    head_steps=5,
    metric_queries=8,
    queries=6,
    negatives=3,
    shortlist=8,
    refresh=5,
    evaluate_every=4,
    evaluate_queries=20,
    warm_up=2,
)


def _features(products: range, seed: int) -> Sides[FeatureSet]:
    """Products that are directions, seen through noise in most channels."""
    rng = np.random.default_rng(seed)
    names = [f"p{n}" for n in products]
    regions = CONFIG.regions
    means = np.stack([np.random.default_rng(n).normal(0, 1, (regions, CHANNELS)) for n in products])

    def view(noise: float) -> FeatureSet:
        seen = torch.from_numpy((means + rng.normal(0, noise, means.shape)).astype(np.float32))
        return FeatureSet(torch.nn.functional.normalize(seen.mean(1), dim=1), seen.half(), names)

    return Sides(view(0.5), view(2.0))


def _network() -> GRNet:
    torch.manual_seed(0)
    return GRNet(CONFIG)


def test_a_resumed_run_ends_in_the_same_bits(tmp_path: Path) -> None:
    data, val = _features(range(40), 0), _features(range(100, 120), 1)
    whole = _network()
    start_from_data(whole, data)
    train_head(whole, data, val, settings=SETTINGS, run=Run(tmp_path / "whole"))
    torn = _network()
    start_from_data(torn, data)

    class PowerCutError(RuntimeError):
        pass

    def cut(step: int, _: dict[str, float]) -> None:
        if step == 8:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        train_head(torn, data, val, settings=SETTINGS, run=Run(tmp_path / "torn", after_evaluation=cut))
    fresh = _network()  # another process would start so
    start_from_data(fresh, data)
    train_head(fresh, data, val, settings=SETTINGS, run=Run(tmp_path / "torn"))
    for name, value in whole.head.state_dict().items():
        assert torch.equal(fresh.head.state_dict()[name], value), name


def test_a_head_learns_the_same_over_features_that_are_projected_once(tmp_path: Path) -> None:
    """In a seventh of the memory; float16 once more on the way is all that differs."""
    bare, val = _features(range(40), 0), _features(range(100, 120), 1)
    settings = replace(SETTINGS, metric_steps=0)
    heads, figures = [], []
    for projected in (False, True):
        network = _network()
        start_from_data(network, bare)
        data, held_out = (_projected(network, bare), _projected(network, val)) if projected else (bare, val)
        figures.append(train_head(network, data, held_out, settings=settings, run=Run(tmp_path / str(projected))))
        heads.append(network.head.state_dict())
    for name, value in heads[0].items():
        torch.testing.assert_close(heads[1][name], value, rtol=0.02, atol=2e-3, msg=name)
    assert figures[0]["grnet_top1"] == figures[1]["grnet_top1"]
    with pytest.raises(AssertionError, match="trains no neck"):
        train_head(network, data, held_out, settings=SETTINGS, run=Run(tmp_path / "first-phase"))


@torch.no_grad()
def _projected(network: GRNet, pairs: Sides[FeatureSet]) -> Sides[FeatureSet]:
    def side(features: FeatureSet) -> FeatureSet:
        embedding, regions = features.vectors(network)
        return FeatureSet(embedding, regions.half(), features.products, projected=True)

    return Sides(side(pairs.gallery), side(pairs.queries))


def test_training_ranks_garments_it_never_saw_better_than_its_start(tmp_path: Path) -> None:
    data, val = _features(range(60), 0), _features(range(1000, 1030), 1)
    network = _network()
    start_from_data(network, data)
    before = evaluate_features(network, val, queries=30)
    train_head(
        network,
        data,
        val,
        settings=replace(SETTINGS, metric_steps=20, head_steps=10, evaluate_every=15, evaluate_queries=30),
        run=Run(tmp_path),
    )
    after = evaluate_features(network, val, queries=30)
    assert after["grnet_mrr"] > before["grnet_mrr"]


def test_a_recipe_ends_in_a_checkpoint_that_evaluates(photo_sets: Path, tmp_path: Path) -> None:
    result = train(read_recipe(write_recipe(photo_sets)), tmp_path / "run", draw_curves=False)
    assert result is not None
    model = load_model(result["checkpoint"])
    assert model.name == "stripes"
    assert model.fingerprint == result["fingerprint"]

    gallery = read_labelled(photo_sets / "val" / "gallery.csv")
    queries = read_labelled(photo_sets / "val" / "queries.csv")
    report, rankings = evaluate(model, gallery, queries, candidates=8)
    assert set(report["methods"]) == {"global", "greedy", "grnet", "grnet_exhaustive"}
    assert report["shortlist_recall"]["50"] == 1
    assert report["by_setup"]["easy"]["queries"] == 8
    for before, after in zip(rankings.orders["global"], rankings.orders["grnet"], strict=True):
        assert sorted(before[:8]) == sorted(after[:8]), "reranking permutes the shortlist"
        assert before[8:].tolist() == after[8:].tolist(), "and touches nothing else"
    assert "| easy | grnet | 8 |" in markdown(report)


def test_a_recipe_that_fine_tunes_ships_the_tuned_backbone(photo_sets: Path, tmp_path: Path) -> None:
    settings = (
        "from_stage = 3",
        "steps = 2",
        "queries = 4",
        "group = 2",
        "evaluate_every = 2",
        "average = 0.0",
        "head_copies = 1",
    )
    more = "\n".join(["[finetune]", *settings, ""])
    recipe = read_recipe(write_recipe(photo_sets, more=more))
    result = train(recipe, tmp_path / "run", draw_curves=False)
    assert result is not None
    assert result["finetune"]["steps"] == 2
    tuned = load_checkpoint(Path(str(result["checkpoint"])))
    changed = {
        name.split(".")[0]
        for name, value in load_file(photo_sets / "backbone.safetensors").items()
        if "weight" in name and not torch.allclose(tuned.backbone.body.state_dict()[name], value, rtol=1e-2)
    }
    assert changed, "the backbone that ships is the tuned one"
    assert "conv_stem" not in changed, "its first stages are as they were"
    again = train(recipe, tmp_path / "run", draw_curves=False)
    assert again is not None
    assert again["fingerprint"] == result["fingerprint"]


END_TO_END = """
[end_to_end]
from_stage = {stage}
epochs = 1
garments = 8
"""


def test_a_recipe_that_trains_end_to_end_needs_no_other_phase(photo_sets: Path, tmp_path: Path) -> None:
    path = write_recipe(photo_sets)
    path.write_text(path.read_text().partition("[fit]")[0] + END_TO_END.format(stage=3))
    result = train(read_recipe(path), tmp_path / "run")
    assert result is not None
    assert result["val"]["step"] in (0, 2), "16 garments are two steps of 8"
    assert load_model(result["checkpoint"]).fingerprint == result["fingerprint"]
    assert (tmp_path / "run" / "end_to_end.png").stat().st_size > 1000
    assert not (tmp_path / "run" / "curves.jsonl").exists(), "the head was trained already"


@pytest.mark.parametrize("phase", ["", "\n[finetune]\nfrom_stage = 3\nsteps = 2\nqueries = 4\ngroup = 2\n"])
def test_an_unfinished_run_of_another_recipe_is_not_gone_on_with(photo_sets: Path, tmp_path: Path, phase: str) -> None:
    train(read_recipe(write_recipe(photo_sets, more=phase)), tmp_path / "run", draw_curves=False)
    path = write_recipe(photo_sets, more=phase)
    path.write_text(path.read_text().replace("neck_channels = 12", "neck_channels = 10"))
    (tmp_path / "run" / PLAN_FILE).unlink()  # an older release wrote none
    with pytest.raises(ConfigError, match=r"\.pt was left by a run of another recipe .* take another --run folder"):
        train(read_recipe(path), tmp_path / "run", draw_curves=False)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ('[fit]\nhead_steps = "many"', r"\[fit\] head_steps is 'many'; Input should be a valid integer"),
        ('[end_to_end]\noptimiser = "lion"', r"optimiser is 'lion'; Input should be 'sgd' or 'adamw'"),
        ("[fit]\nevaluate_every = 0", "evaluate_every is 0, expected 1 at least"),
        ("[finetune]\nwarm_up = 0", "warm_up is 0, expected 1 at least"),
        ("[finetune]\npace = 1", r"\[finetune\] has \['pace'\], known are"),
    ],
)
def test_a_setting_that_cannot_be_is_named(tmp_path: Path, lines: str, says: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(f'[data]\ntrain = "a"\nval = "b"\n{lines}\n')
    with pytest.raises(ConfigError, match=says):
        read_recipe(path)


def test_a_network_without_neck_and_embedding_trains_its_head_alone(photo_sets: Path, tmp_path: Path) -> None:
    path = write_recipe(photo_sets)
    kept = [line for line in path.read_text().splitlines() if not line.startswith(("neck", "embedding"))]
    path.write_text("\n".join(kept))
    result = train(read_recipe(path), tmp_path / "run", draw_curves=False)
    assert result is not None
    assert [json.loads(line)["step"] for line in (tmp_path / "run" / "curves.jsonl").read_text().splitlines()] == [0, 3]


def test_phases_follow_each_other_over_maps_of_one_stage(photo_sets: Path, tmp_path: Path) -> None:
    tuning = "\n[finetune]\nfrom_stage = 3\nsteps = 2\nqueries = 4\ngroup = 2\nevaluate_every = 2\n"
    with pytest.raises(ConfigError, match=r"from stage 3 and .* from stage 0"):
        read_recipe(write_recipe(photo_sets, more=tuning + END_TO_END.format(stage=0)))
    result = train(
        read_recipe(write_recipe(photo_sets, more=tuning + END_TO_END.format(stage=3))),
        tmp_path / "run",
        draw_curves=False,
    )
    assert result is not None
    assert len(list((tmp_path / "run" / "maps").glob("*.npy"))) == 4
    for name in ("finetune", "end_to_end", "curves"):
        assert (tmp_path / "run" / f"{name}.jsonl").read_text().startswith('{"step": 0'), name


def test_what_people_refused_is_read_and_is_among_the_negatives(photo_sets: Path, tmp_path: Path) -> None:
    place = tmp_path / "refusals"
    shutil.copytree(photo_sets / "train", place)
    shop, street = (read_labelled(place / f"{kind}.csv") for kind in ("gallery", "queries"))
    own, other = street[2].path.name, street[3].path.name
    rows = [(own, shop[n].id) for n in (7, 0, 2)] + [(other, "sold out"), (shop[1].path.name, shop[3].id)]
    lines = [f"{photo},{item},refused" for photo, item in rows]
    (place / NEGATIVES_FILE).write_text("\n".join(["image,id,product_id", *lines, ""]))
    assert street[2].product_id == shop[2].product_id, "the third row is its match, the last a photo of no query"
    read = read_sets([photo_sets / "train", place], Split.TRAIN)
    before = (len(read.queries) - len(street), len(read.gallery) - len(shop))
    assert before == (len(street), len(shop)), "two sets, one after the other"
    assert read.refused == {before[0] + 2: [before[1], before[1] + 7]}
    data = replace(_features(range(40), 0), refused={4: [30, 31]})
    matches = [[n] for n in range(40)]
    shortlist = np.stack([np.setdiff1d(np.arange(12), [n])[:8] for n in range(40)])
    products = data.map(lambda side: side.products)
    sizes = {"queries": 40, "negatives": SETTINGS.negatives}
    drawn = draw_queries(products, matches, shortlist, **sizes, rng=np.random.default_rng(0))
    for query, items in zip(drawn.queries, drawn.items, strict=True):
        assert items[0] == query, "the match comes first"
        assert len(set(items)) == 1 + SETTINGS.negatives
        assert ({30, 31} <= set(items)) == (query == 4)


def test_features_come_back_from_the_cache(photo_sets: Path, tmp_path: Path, tiny_model: object) -> None:
    from threadmatch.model.inference import Model

    assert isinstance(tiny_model, Model)
    images = read_labelled(photo_sets / "val" / "gallery.csv")
    first = encode_images(tiny_model, images, cache=tmp_path)
    again = encode_images(tiny_model, images, cache=tmp_path)
    np.testing.assert_array_equal(first.regions, again.regions)
    assert len(list(tmp_path.glob("*.npy"))) == 2


def test_a_recipe_that_tests_on_its_training_garments_is_refused(photo_sets: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="keep them apart"):
        train(read_recipe(write_recipe(photo_sets, val="train")), tmp_path / "run", draw_curves=False)


def test_a_wrong_recipe_names_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    for text, says in (("[fit]\nstep = 3", "train and val"), ("[data]\ntrain='a'\nval='b'\n[fit]\nstep=3", "step")):
        path.write_text(text)
        with pytest.raises(ConfigError, match=says):
            read_recipe(path)
