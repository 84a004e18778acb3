"""Explanations: shares that make up the score, what heat maps paint, Grad-CAM against its definition."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from threadmatch.model.config import GRNetConfig
from threadmatch.model.explain import grad_cam, node_shares, region_heat
from threadmatch.model.grnet import GRNet
from threadmatch.model.grnet_matcher import GRNetMatcher
from threadmatch.model.inference import Model, load_model
from threadmatch.model.pyramid import pool_regions, region_boxes
from threadmatch.model.similarity import pair_index, scale_spans
from threadmatch.model.synthetic.drawn.shop_image import draw_shop_image
from threadmatch.model.synthetic.garments.garment import garment

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


def _photo(found: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    return {"regions": found}


def _explainer(model: Model) -> GRNetMatcher:
    matcher = model.matchers["grnet"]
    assert isinstance(matcher, GRNetMatcher)
    return matcher


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
    found = tiny_model.encode(pixels)["regions"]
    matcher = _explainer(tiny_model)
    told = matcher.evidence(_photo(found[0]), _photo(found[1:]), top=1000)
    scores = tiny_model.score(_photo(found[0]), _photo(found[1:]))
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
    assert matcher.evidence(_photo(found[0]), _photo(found[:0])) == []
    assert [len(each.after) for each in matcher.evidence(_photo(found[0]), _photo(found[1:]), top=2)] == [2, 2]


@pytest.mark.parametrize("side", ["query", "item"])
def test_the_heat_of_a_cell_is_the_mean_of_the_regions_over_it_summed_over_scales(side: str) -> None:
    built, query, gallery = network(blend=("greedy",)), regions(2), regions(2, seed=1)
    boxes = torch.round(region_boxes(CONFIG.grids, 4, 5) * torch.tensor([5, 4, 5, 4])).long()
    with torch.no_grad():
        heat = region_heat(built.head, query, gallery, boxes)[0 if side == "query" else 1]
        said = node_shares(built.head, query, gallery).contribution
    assert heat.shape == (2, 4, 5)
    owner = pair_index(CONFIG.grids)[0 if side == "query" else 1]
    for b, y, x in itertools.product(range(2), range(4), range(5)):
        expected = 0.0
        for start, end in scale_spans(CONFIG.grids):
            over = [r for r in range(start, end) if boxes[r, 0] <= x < boxes[r, 2] and boxes[r, 1] <= y < boxes[r, 3]]
            for r in over:
                area = int((boxes[r, 2] - boxes[r, 0]) * (boxes[r, 3] - boxes[r, 1]))
                expected += float(said[b, owner == r].clamp(min=0).max()) / area / len(over)
        assert float(heat[b, y, x]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("taps", [(), (3,)])
@pytest.mark.parametrize("side", ["query", "item"])
def test_grad_cam_is_its_definition_by_finite_differences(side: str, taps: tuple[int, ...]) -> None:
    """Of the last map; maps of earlier stages stay as they are."""
    built = network(pool="avg", hypercolumn=taps).double()
    pixels = torch.randint(0, 256, (1, 3, 64, 64), generator=torch.Generator().manual_seed(5))
    other = regions(1, seed=2).double()
    cam = grad_cam(built, pixels, other, side)  # type: ignore[arg-type]
    with torch.no_grad():
        feature_map, earlier = built.backbone(pixels).tensor_split([built.backbone.channels], dim=1)

        def score(activation: Tensor) -> float:
            whole = torch.cat([activation, earlier], dim=1)
            _, own = built.project(activation.mean((2, 3)), pool_regions(whole, CONFIG.grids, "avg"))
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
    found = tiny_model.encode(pixels)["regions"]
    cam = _explainer(tiny_model).grad_cam(pixels[0], _photo(found[1]), side="query")
    for heat in _explainer(tiny_model).heat(_photo(found[0]), _photo(found[1:])):
        assert heat.shape == (1, *cam.shape)
    assert cam.dtype == np.float32
    assert np.isfinite(cam).all()
    assert cam.min() >= 0
    with pytest.raises(ValueError, match="expected uint8"):
        _explainer(tiny_model).grad_cam(pixels[0, :32], _photo(found[1]), side="query")


GARMENT_PX = 112  # half of a side: four cells of the map


def with_garment(background: tuple[int, int, int], x: int, y: int) -> NDArray[np.uint8]:
    """A plain square of 224 pixels with a drawn garment in a corner."""
    image = Image.new("RGB", (224, 224), background)
    shirt = Image.fromarray(draw_shop_image(garment(5, 8)))
    image.paste(shirt.resize((GARMENT_PX, GARMENT_PX)), (x, y))
    return np.asarray(image)


@pytest.fixture(scope="module")
def shipped() -> Model:
    return load_model(device="cpu")


@pytest.mark.parametrize(("query_at", "item_at"), [((0, 0), (112, 112)), ((0, 112), (112, 0)), ((112, 0), (0, 112))])
def test_heat_is_where_the_garment_in_common_is(
    shipped: Model, query_at: tuple[int, int], item_at: tuple[int, int]
) -> None:
    query, item = with_garment((40, 60, 160), *query_at), with_garment((200, 190, 120), *item_at)
    found = shipped.encode(np.stack([query, item]))["regions"]
    on_query, on_item = (heat[0] for heat in _explainer(shipped).heat(_photo(found[0]), _photo(found[1:])))
    cam_query = _explainer(shipped).grad_cam(query, _photo(found[1]), side="query")
    cam_item = _explainer(shipped).grad_cam(item, _photo(found[0]), side="item")
    for heat, (x, y) in ((cam_query, query_at), (cam_item, item_at), (on_query, query_at), (on_item, item_at)):
        assert heat.shape == (7, 7)
        heat = (heat - heat.min()) / (heat.max() - heat.min())  # as it is painted
        row, column = y // 32, x // 32
        y_peak, x_peak = np.unravel_index(heat.argmax(), heat.shape)
        assert row <= y_peak < row + 4
        assert column <= x_peak < column + 4
        inside = heat[row : row + 4, column : column + 4]
        outside = (heat.sum() - inside.sum()) / (heat.size - inside.size)
        assert inside.mean() > 1.5 * outside
