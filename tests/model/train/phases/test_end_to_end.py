"""Training end to end follows sec. 5.1 unless told otherwise, resumes to the same bits, and what it scores is GRNet."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.model.train.maps import CONFIG, STAGE, start, striped_maps
from threadmatch.model.backbone import Backbone
from threadmatch.model.errors import ConfigError
from threadmatch.model.pyramid import pool_regions
from threadmatch.model.train.inputs.batches import Batch, draw_garments
from threadmatch.model.train.loop.precision import Precision
from threadmatch.model.train.loop.run_folder import END_TO_END, Run
from threadmatch.model.train.loop.torchrun import Processes
from threadmatch.model.train.phases.end_to_end import EndToEndSettings, PartAndHead, train_end_to_end
from threadmatch.model.train.phases.principal_components import start_head
from threadmatch.model.train.phases.trained_part import TrainedPart

SETTINGS = EndToEndSettings(
    from_stage=STAGE, epochs=3, garments=8, optimiser="adamw", rate=5e-3, metric=1.0, listwise=1.0, group=4,
    covered=0.2, zoomed=0.2, average=0.5, clip=1.0,
)  # fmt: skip


def test_the_defaults_are_those_of_the_paper() -> None:
    paper = EndToEndSettings()
    schedule = (paper.optimiser, paper.rate, paper.decay_every, paper.epochs, paper.momentum, paper.weight_decay)
    assert schedule == ("sgd", 0.01, 20, 60, 0.9, 5e-4)
    assert (paper.garments, paper.mirrored, paper.from_stage) == (32, 0.5, 0)
    beyond = (paper.listwise, paper.metric, paper.covered, paper.zoomed, paper.average, paper.clip, paper.group)
    assert beyond == (0, 0, 0, 0, 0, 0, 1)
    with pytest.raises(ConfigError, match="'lion' is not known, known are sgd, adamw"):
        replace(paper, optimiser="lion")  # type: ignore[arg-type]


def test_a_step_scores_every_pair_as_the_network_does(backbone: Backbone) -> None:
    network, rest = start(backbone)
    pairs = striped_maps(backbone, range(6), 0)
    at = np.arange(6)
    maps = torch.cat([pairs.queries.take(at), pairs.gallery.take(at)])
    whole = PartAndHead(TrainedPart(network, rest, pairs.gallery.take(at)), network.head).eval()
    with torch.no_grad():
        _, _, score = whole(maps)
        feature_map = rest(maps)
        pooled = pool_regions(feature_map, network.config.grids, network.config.pool)
        regions = network.project(feature_map.mean((2, 3)), pooled)[1]
        for query in range(6):
            one = regions[query].expand(6, -1, -1)
            torch.testing.assert_close(score[query], network.head(one, regions[6:]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("settings", [SETTINGS, EndToEndSettings(from_stage=STAGE, epochs=3, garments=8)])
def test_a_resumed_run_ends_in_the_same_bits(backbone: Backbone, tmp_path: Path, settings: EndToEndSettings) -> None:
    train, val = striped_maps(backbone, range(20), 0), striped_maps(backbone, range(100, 110), 1)

    class PowerCutError(RuntimeError):
        pass

    def cut(step: int, _: dict[str, float]) -> None:
        if step == 6:  # 20 garments are three steps of 8
            raise PowerCutError

    whole, rest = start(backbone)
    train_end_to_end(whole, rest, train, val, settings=settings, run=Run(tmp_path / "whole"))
    torn, rest = start(backbone)
    with pytest.raises(PowerCutError):
        train_end_to_end(torn, rest, train, val, settings=settings, run=Run(tmp_path / "torn", after_evaluation=cut))
    fresh, rest = start(backbone)
    train_end_to_end(fresh, rest, train, val, settings=settings, run=Run(tmp_path / "torn"))
    for name, value in whole.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value), name
    lines = [(tmp_path / run / "end_to_end.jsonl").read_text().count("\n") for run in ("whole", "torn")]
    assert lines == [4, 4]  # the start and three epochs, each once


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_grnet_ranks_garments_never_seen_better_than_before(
    backbone: Backbone, tmp_path: Path, precision: Precision
) -> None:
    train, val = striped_maps(backbone, range(40), 0), striped_maps(backbone, range(1000, 1024), 1)
    network, rest = start(backbone, replace(CONFIG, blend=("global", "greedy")))
    start_head(network)
    settings = replace(SETTINGS, epochs=4, precision=precision, evaluate_every=4)
    best = train_end_to_end(network, rest, train, val, settings=settings, run=Run(tmp_path))
    first = json.loads((tmp_path / END_TO_END.log).read_text().splitlines()[0])
    assert best["grnet_mrr"] > first["grnet_mrr"] + 0.05
    assert best["global_mrr"] > first["global_mrr"] + 0.05


def test_without_the_metric_loss_the_embedding_is_left_alone(backbone: Backbone, tmp_path: Path) -> None:
    pairs = striped_maps(backbone, range(16), 0)
    network, rest = start(backbone)
    assert network.embedding is not None
    assert network.neck is not None
    embedding, neck, head = (
        one.detach().clone() for one in (network.embedding.weight, network.neck.weight, network.head.projection)
    )
    settings = replace(SETTINGS, metric=0.0, epochs=1, evaluate_every=1)
    best = train_end_to_end(network, rest, pairs, pairs, settings=settings, run=Run(tmp_path))
    torch.testing.assert_close(network.embedding.weight, embedding)
    if best["step"]:
        assert not torch.equal(network.neck.weight, neck)
        assert not torch.equal(network.head.projection, head)


def test_other_photos_of_a_garment_count_as_the_same(backbone: Backbone) -> None:
    pairs = striped_maps(backbone, range(3), 0)
    pairs.gallery.products[1] = "p0"
    same = Batch(np.asarray([0, 0, 2]), np.asarray([0, 1, 2])).same(pairs)
    assert same.tolist() == [[True, True, False], [True, True, False], [False, False, True]]


def test_garments_of_a_step_come_in_groups_and_once_each() -> None:
    near = np.stack([(np.arange(5) + n // 5 * 5)[np.argsort(np.arange(5) != n % 5, kind="stable")] for n in range(20)])
    asked = [[] if n == 7 else [n, n + 100] for n in range(20)]
    batch = draw_garments(asked, near, count=8, group=4, rng=np.random.default_rng(0))
    assert len(set(batch.items)) == 8
    assert 7 not in batch.items, "nobody asks for it"
    assert len({n // 5 for n in batch.items[:4]}) == 1
    assert all(query in asked[item] for query, item in zip(batch.queries, batch.items, strict=True))


def test_more_processes_than_garments_allow_are_refused() -> None:
    assert Processes(count=4).share(64) == 16
    with pytest.raises(ConfigError, match="6 queries a step are too few for 4 processes"):
        Processes(count=4).share(6)
