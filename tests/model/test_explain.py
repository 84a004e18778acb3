"""Explanations: shares that make up the score, what heat maps paint, Grad-CAM against its definition."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from model.config import GRNetConfig
from model.explain import grad_cam, node_shares, region_heat
from model.grnet import GRNet
from model.inference import Model
from model.pyramid import pool_regions
from model.similarity import pair_index

CONFIG = GRNetConfig(
    backbone="timm:test_efficientnet", image_px=64, neck_channels=6, similarity_channels=5, node_channels=4
)


def network(**changes: object) -> GRNet:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        built = GRNet(replace(CONFIG, **changes)).eval()  # type: ignore[arg-type]
        if built.head.blend is not None:
            torch.nn.init.uniform_(built.head.blend, 1, 2)
        torch.nn.init.uniform_(built.head.classifier.bias)
    return built


def regions(count: int, config: GRNetConfig = CONFIG, seed: int = 0) -> Tensor:
    return torch.randn(count, config.regions, 6, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"blend": ("global", "greedy")},
        {"blend": ("greedy",), "classifier": "one_logit", "edges": "frozen"},
        {"steps": 1, "projection_bias": True, "position_code": True},
        {"inter_scale_edges": False, "blend": ("global",)},
        {"scales": ("1x1",)},
    ],
)
def test_contributions_and_the_constant_make_the_score(changes: dict[str, object]) -> None:
    built = network(**changes)
    query, gallery = regions(3, built.config), regions(3, built.config, 1)
    with torch.no_grad():
        shares = node_shares(built.head, query, gallery)
        torch.testing.assert_close(shares.contribution.sum(1) + shares.constant, built.head(query, gallery))
        assert shares.contribution.shape == (3, built.config.nodes)
        torch.testing.assert_close(shares.edge.sum(1), torch.ones(3))


def test_before_reasoning_a_pair_says_its_edge_times_its_cosine() -> None:
    built, query, gallery = network(), regions(2), regions(2, seed=1)
    i, j, _ = pair_index(CONFIG.grids)
    with torch.no_grad():
        shares = node_shares(built.head, query, gallery)
        _, edges = built.head.reason(query, gallery)
    for b, n in itertools.product(range(2), range(CONFIG.nodes)):
        cosine = F.cosine_similarity(query[b, i[n]], gallery[b, j[n]], dim=0)
        torch.testing.assert_close(shares.said_before[b, n], edges[0][b, 0, n] * cosine)


def test_evidence_is_the_heaviest_pairs_without_the_whole_photos(tiny_model: Model) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    found = tiny_model.encode(pixels).regions
    told = tiny_model.evidence(found[0], found[1:], top=1000)
    scores = tiny_model.score(found[0], found[1:])
    assert len(told) == len(scores) == 2
    for explanation in told:
        for pairs in (explanation.before, explanation.after):
            assert len(pairs) == 123
            assert {(pair.query_region, pair.item_region) for pair in pairs}.isdisjoint({(0, 0)})
            weights = [pair.weight for pair in pairs]
            assert weights == sorted(weights, reverse=True)
            assert 0 <= sum(weights) <= 1 + 1e-5
            assert 0 < sum(pair.edge for pair in pairs) < 1
        assert all(pair.contribution is None for pair in explanation.before)
        said = [pair.contribution for pair in explanation.after if pair.contribution is not None]
        assert len(said) == 123
        assert said == sorted(said, reverse=True)
        assert [pair.weight > 0 for pair in explanation.after] == [value > 0 for value in said]
    assert tiny_model.evidence(found[0], found[:0]) == []
    assert [len(each.after) for each in tiny_model.evidence(found[0], found[1:], top=2)] == [2, 2]


@pytest.mark.parametrize("side", ["query", "item"])
def test_the_heat_of_a_cell_is_what_all_regions_over_it_add(side: str) -> None:
    built, query, gallery = network(blend=("greedy",)), regions(2), regions(2, seed=1)
    boxes = torch.stack([torch.tensor([k % 3, k % 2, 3 + k % 2, 3]) for k in range(CONFIG.regions)])
    with torch.no_grad():
        heat = region_heat(built.head, query, gallery, boxes, side)  # type: ignore[arg-type]
        said = node_shares(built.head, query, gallery).contribution
    assert heat.shape == (2, 3, 4)
    owner = pair_index(CONFIG.grids)[0 if side == "query" else 1]
    for b, y, x in itertools.product(range(2), range(3), range(4)):
        expected = 0.0
        for n in range(CONFIG.nodes):
            x0, y0, x1, y1 = boxes[owner[n]].tolist()
            if x0 <= x < x1 and y0 <= y < y1:
                expected += max(0.0, float(said[b, n])) / ((x1 - x0) * (y1 - y0))
        assert float(heat[b, y, x]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("side", ["query", "item"])
def test_grad_cam_is_its_definition_by_finite_differences(side: str) -> None:
    built = network(pool="avg").double()
    pixels = torch.randint(0, 256, (1, 3, 64, 64), generator=torch.Generator().manual_seed(5))
    other = regions(1, seed=2).double()
    cam = grad_cam(built, pixels, other, side)  # type: ignore[arg-type]
    with torch.no_grad():
        feature_map = built.backbone(pixels)

        def score(activation: Tensor) -> float:
            _, own = built.project(activation.mean((2, 3)), pool_regions(activation, CONFIG.grids, "avg"))
            pair = (own, other) if side == "query" else (other, own)
            return float(built.head(*pair))

        _, channels, rows, columns = feature_map.shape
        expected = torch.zeros(rows, columns, dtype=torch.float64)
        for k in range(channels):
            # the mean over places of the derivative is the derivative along raising the whole channel, divided by them
            step = torch.zeros_like(feature_map)
            step[0, k] = 1e-5
            alpha = (score(feature_map + step) - score(feature_map - step)) / 2e-5 / (rows * columns)
            expected += alpha * feature_map[0, k]
    torch.testing.assert_close(cam[0], expected.relu(), atol=1e-7, rtol=1e-4)


def test_grad_cam_of_the_served_model_needs_no_gradient_of_its_weights(tiny_model: Model) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    found = tiny_model.encode(pixels).regions
    cam = tiny_model.grad_cam(pixels[0], found[1], side="query")
    heat = tiny_model.region_heat(found[0], found[1], side="query")
    assert cam.shape == heat.shape
    assert cam.dtype == np.float32
    assert np.isfinite(cam).all()
    assert cam.min() >= 0
    with pytest.raises(ValueError, match="expected uint8"):
        tiny_model.grad_cam(pixels[0, :32], found[1], side="query")
