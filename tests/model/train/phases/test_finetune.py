"""Fine-tuning changes what it should and nothing else, resumes to the same bits, and helps garments it never saw."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from tests.model.train.maps import CONFIG, STAGE, start, striped_maps
from threadmatch.model.backbone import Backbone
from threadmatch.model.data.pairs import NO_SETUP, LabelledImage
from threadmatch.model.data.sides import Sides
from threadmatch.model.encoding import see
from threadmatch.model.errors import DataError
from threadmatch.model.grnet import GRNet
from threadmatch.model.images import Box
from threadmatch.model.neck import HypercolumnNeck
from threadmatch.model.train.inputs.front_maps import MapSet, loosened, make_maps
from threadmatch.model.train.loop.precision import Precision
from threadmatch.model.train.loop.run_folder import Run
from threadmatch.model.train.phases.finetune import FinetuneSettings, finetune
from threadmatch.model.train.phases.trained_part import TrainedPart, evaluate_maps

SETTINGS = FinetuneSettings(from_stage=STAGE, steps=9, queries=6, group=3, evaluate_every=3, warm_up=2)


def test_a_resumed_run_ends_in_the_same_bits_and_leaves_the_front_alone(backbone: Backbone, tmp_path: Path) -> None:
    train, val = striped_maps(backbone, range(20), 0), striped_maps(backbone, range(100, 110), 1)
    whole, rest = start(backbone)
    finetune(whole, rest, train, val, settings=SETTINGS, run=Run(tmp_path / "whole"))

    class PowerCutError(RuntimeError):
        pass

    def cut(step: int, _: dict[str, float]) -> None:
        if step == 6:
            raise PowerCutError

    torn, rest = start(backbone)
    with pytest.raises(PowerCutError):
        finetune(torn, rest, train, val, settings=SETTINGS, run=Run(tmp_path / "torn", after_evaluation=cut))
    fresh, rest = start(backbone)  # another process would start so
    finetune(fresh, rest, train, val, settings=SETTINGS, run=Run(tmp_path / "torn"))
    for name, value in whole.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value), name
    curves = [(tmp_path / run / "finetune.jsonl").read_text().count("\n") for run in ("whole", "torn")]
    assert curves == [4, 4]  # the start and three evaluations, each once
    for before, after in zip(
        backbone.split(STAGE)[0].parameters(), whole.backbone.split(STAGE)[0].parameters(), strict=True
    ):
        assert torch.equal(before, after)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_garments_never_seen_are_ranked_better_than_before(
    backbone: Backbone, tmp_path: Path, precision: Precision
) -> None:
    train, val = striped_maps(backbone, range(40), 0), striped_maps(backbone, range(1000, 1024), 1)
    network, rest = start(backbone)
    before = evaluate_maps(_part(network, rest, train), val)
    settings = replace(
        SETTINGS, steps=30, queries=8, evaluate_every=30, rate=5e-3, average=0.9, zoomed=0.2, precision=precision
    )
    best = finetune(network, rest, train, val, settings=settings, run=Run(tmp_path))
    assert best["global_mrr"] > before["global_mrr"]
    assert best["greedy_mrr"] > before["greedy_mrr"]
    assert evaluate_maps(_part(network, rest, train), val)["greedy_mrr"] == pytest.approx(best["greedy_mrr"])


def test_the_last_weights_are_kept_where_that_is_asked_for(backbone: Backbone, tmp_path: Path) -> None:
    """At a rate that ruins them: by default an earlier step's come back."""
    train, val = striped_maps(backbone, range(20), 0), striped_maps(backbone, range(100, 110), 1)
    ruinous = replace(SETTINGS, rate=3.0, average=0.0)
    best = [
        finetune(*start(backbone), train, val, settings=replace(ruinous, keep_last=last), run=Run(tmp_path / str(last)))
        for last in (False, True)
    ]
    assert best[0]["step"] < best[1]["step"] == ruinous.steps
    assert best[1]["greedy_mrr"] < best[0]["greedy_mrr"]


def _part(network: GRNet, rest: torch.nn.Module, pairs: Sides[MapSet]) -> TrainedPart:
    return TrainedPart(network, rest, pairs.gallery.take(np.arange(4)))


def _images(folder: Path, count: int) -> list[LabelledImage]:
    rng = np.random.default_rng(0)
    images = []
    for n in range(count):
        path = folder / f"{n}.png"
        Image.fromarray(rng.integers(0, 256, (80, 60, 3), dtype=np.uint8)).save(path)
        images.append(LabelledImage(path, path.name, f"p{n}", Box(10, 10, 50, 60), NO_SETUP, ""))
    return images


def test_maps_are_made_once_and_again_when_a_box_changes(backbone: Backbone, tmp_path: Path) -> None:
    front, _ = backbone.split(STAGE)
    images = _images(tmp_path, 5)

    def make(images: list[LabelledImage]) -> MapSet:
        return make_maps(front, images, image_px=64, cache=tmp_path / "cache", label="here", workers=1)

    first = make(images)
    [kept] = (tmp_path / "cache").iterdir()
    written = kept.stat().st_mtime_ns
    np.testing.assert_array_equal(make(images).maps, first.maps)
    assert kept.stat().st_mtime_ns == written
    other = make([replace(images[0], box=None), *images[1:]])
    assert not np.array_equal(other.maps[0], first.maps[0])
    np.testing.assert_array_equal(other.maps[1:], first.maps[1:])
    assert first.take(np.asarray([2, 0])).shape == (2, *first.maps.shape[3:], *first.maps.shape[1:3])


def test_a_photo_that_cannot_be_read_is_named(backbone: Backbone, tmp_path: Path) -> None:
    images = _images(tmp_path, 2)
    images[1].path.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"1\.png"):
        make_maps(backbone.split(STAGE)[0], images, image_px=64, cache=tmp_path / "cache", label="", workers=1)
    assert not list((tmp_path / "cache").glob("*.npy"))


def test_boxes_are_loosened_around_the_garment_and_the_same_every_time(tmp_path: Path) -> None:
    images = _images(tmp_path, 1) * 200
    drawn = loosened(images, seed=3)
    assert drawn == loosened(images, seed=3)
    kinds = [image.box for image in drawn]
    exact, none = kinds.count(Box(10, 10, 50, 60)), kinds.count(None)
    assert 70 < exact < 130
    assert 10 < none < 60
    for box in kinds:
        if box is not None and box != Box(10, 10, 50, 60):
            assert box.x0 <= 12
            assert box.x1 >= 48
            assert box.y0 <= 12.5
            assert box.y1 >= 57.5


def test_cells_learn_to_match_where_they_are_weighed(backbone: Backbone, tmp_path: Path) -> None:
    train, val = striped_maps(backbone, range(40), 0), striped_maps(backbone, range(1000, 1024), 1)
    network, rest = start(backbone)
    settings = replace(SETTINGS, steps=60, queries=16, evaluate_every=30, local=0.0, cells=1.0)
    best = finetune(network, rest, train, val, settings=settings, run=Run(tmp_path / "cells"))
    lines = (tmp_path / "cells" / "finetune.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    assert best["dense_mrr"] > first["dense_mrr"]
    assert "loss_local" not in json.loads(lines[-1])
    tuned = TrainedPart.over(network, rest, train.gallery, cells=True)
    assert evaluate_maps(tuned, val)["dense_mrr"] == pytest.approx(best["dense_mrr"], abs=1e-3)


def test_of_two_joined_networks_both_learn_and_the_components_stay(tmp_path: Path) -> None:
    config = replace(
        CONFIG,
        companion=CONFIG.backbone,
        hypercolumn=(5,),
        cell_hypercolumn=(3, 5),
        features=("embedding", "regions", "cells"),
    )
    torch.manual_seed(1)
    network = GRNet(config).eval()
    assert isinstance(network.neck, HypercolumnNeck)
    assert isinstance(network.cell_neck, HypercolumnNeck)
    network.neck.last.load_state_dict(network.cell_neck.last.state_dict())  # as networks are joined
    before = {name: value.clone() for name, value in network.state_dict().items()}
    _, rest = network.backbone.split(STAGE)
    train = striped_maps(network.backbone, range(40), 0)
    val = striped_maps(network.backbone, range(1000, 1024), 1)
    settings = replace(SETTINGS, steps=60, queries=16, evaluate_every=60, local=0.0, cells=1.0, keep_last=True)
    best = finetune(network, rest, train, val, settings=settings, run=Run(tmp_path))
    assert best["dense_mrr"] > json.loads((tmp_path / "finetune.jsonl").read_text().splitlines()[0])["dense_mrr"]
    tuned = TrainedPart.over(network, rest, train.gallery, cells=True)
    assert evaluate_maps(tuned, val)["dense_mrr"] == pytest.approx(best["dense_mrr"], abs=1e-3)

    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    place = network.backbone.companion_place
    of_necks = {name for name in changed if name.startswith(("neck.", "cell_neck."))}
    learned = {f"{layer}.{kind}" for layer in ("last", f"taps.{place}") for kind in ("weight", "bias")}
    assert of_necks == {f"cell_neck.{name}" for name in learned} | {"neck.last.weight", "neck.last.bias"}
    assert {name.split(".")[1] for name in changed if name.startswith("backbone.")} == {"body", "companion"}

    pixels = torch.randint(0, 256, (3, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.no_grad():
        made = tuned(network.backbone.split(STAGE)[0](pixels))
        seen = see(network, pixels)
    torch.testing.assert_close(made.embedding, seen.embedding, rtol=1e-3, atol=1e-4)
    assert made.cells is not None
    torch.testing.assert_close(F.normalize(made.cells, dim=-1), seen.cells, rtol=1e-3, atol=1e-4)
