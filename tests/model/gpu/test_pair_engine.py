"""The pair kernel, in Triton's interpreter, gives the scores of the literal form, whatever a head is made of.

The interpreter computes a product as numpy does and a program after another: what it cannot show is in docs/gpu.md.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.model.test_engine import CHANNELS, _head, _regions
from threadmatch.model.config import GRNetConfig
from threadmatch.model.errors import CompileError
from threadmatch.model.gpu.head_packing import MOST_NODES, Precision, Tiles
from threadmatch.model.gpu.pair_engine import PairEngine
from threadmatch.model.grnet import SimilarityHead

SMALL = Tiles(rows=16, channels=16, columns=16, inner=16, stages=2)
"""So that every loop of the kernel goes round more than once, and the 20 channels end within a tile."""
FEW = {"scales": ("1x1", "1x2", "2x2")}
"""21 nodes of 32 rows."""
WIDE = {"similarity_channels": 40, "node_channels": 20}
"""Neither is a power of two, and both are more than one tile."""
SETTINGS: list[dict[str, Any]] = [
    {},
    {"edges": "frozen", "steps": 1},
    {"steps": 1, **WIDE},
    {"step_weights": "shared", "steps": 4},
    {"inter_scale_edges": False, "edges": "frozen", **WIDE},
    {"intra_scale_edges": False},
    {"intra_scale_edges": False, "inter_scale_edges": False, "steps": 1},
    {"steps": 2, "classifier": "one_logit"},
    {"projection_bias": True, "position_code": True, "blend": ("global", "greedy"), **WIDE},
    {"blend": ("greedy",), "region_norm": "l2", "similarity_channels": 12},
    {"scales": ("1x1",), "blend": ("global",)},
]


def _literal(head: SimilarityHead, query: Tensor, items: Tensor) -> Tensor:
    with torch.no_grad():
        scores: Tensor = head(query.expand(len(items), -1, -1), items)
    return scores


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_kernel_agrees_with_the_literal_form(settings: dict[str, Any]) -> None:
    head = _head(**{**FEW, **settings})
    query, items = _regions(head.config, 1, 0)[0], _regions(head.config, 4, 1)
    items[2] = query  # whose gaps are all zero
    expected = _literal(head, query, items)
    actual = PairEngine(head, device="cpu", precision="float32", tiles=(SMALL,)).score(query, items)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=2e-6)
    assert expected.std() > 1e-3, "a head that answers everything alike tests nothing"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_papers_scales_fit_a_program_as_it_is(precision: Precision) -> None:
    """124 nodes of 128 rows, the tiles of a GPU.

    bfloat16 rounds each number to one part in 2^9 of itself. Each score comes of thousands of them whose errors partly
    cancel: 1 % of the scores' own size is beyond any that was seen (0.3 %), and far below what a mistake would do.
    """
    head = _head(projection_bias=True, position_code=True, blend=("global", "greedy"))
    query, items = _regions(head.config, 1, 0)[0], _regions(head.config, 2, 1)
    expected = _literal(head, query, items)
    actual = PairEngine(head, device="cpu", precision=precision).score(query, items)
    tolerance = 2e-6 if precision == "float32" else 0.01 * float(expected.abs().max())
    assert float((actual - expected).abs().max()) <= tolerance
    if precision == "bfloat16":
        assert float((actual - expected).abs().max()) > 2e-6, "nothing was rounded"


def test_queries_with_different_numbers_of_items_go_through_together() -> None:
    head = _head(**FEW)
    queries = list(_regions(head.config, 4, 4))
    blocks = [_regions(head.config, count, seed) for seed, count in ((5, 3), (6, 0), (7, 1), (8, 2))]
    together = PairEngine(head, device="cpu", precision="float32").score_many(queries, blocks)
    assert [len(scores) for scores in together] == [3, 0, 1, 2]
    for query, block, scores in zip(queries, blocks, together, strict=True):
        torch.testing.assert_close(scores, _literal(head, query, block), rtol=1e-5, atol=2e-6)


def test_nothing_to_score_is_no_launch() -> None:
    head = _head(scales=("1x1",))
    engine = PairEngine(head, device="cpu", precision="float32")
    assert [len(one) for one in engine.score_many([], [])] == []
    assert engine.score(_regions(head.config, 1, 0)[0], torch.empty(0, 1, CHANNELS)).shape == (0,)


def test_stored_half_precision_is_taken_as_it_is() -> None:
    head = _head(**FEW)
    query, items = _regions(head.config, 1, 0)[0], _regions(head.config, 3, 1)
    actual = PairEngine(head, device="cpu", precision="float32").score(query.half(), items.half())
    expected = _literal(head, query.half().float(), items.half().float())
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"scales": ("1x1", "4x4")}, rf"257 nodes a pair are more than the {MOST_NODES}"),
        ({"similarity_channels": 513}, "513 similarity channels are more than the 512"),
        ({"steps": 9}, "9 steps are more than the 8"),
    ],
    ids=str,
)
def test_a_head_beyond_the_kernel_is_refused_with_the_reason(settings: dict[str, Any], reason: str) -> None:
    head = SimilarityHead(GRNetConfig(**{"similarity_channels": 8, "node_channels": 8, **settings}), CHANNELS)
    with pytest.raises(CompileError, match=reason):
        PairEngine(head, device="cpu")


def test_tiles_that_cannot_be_compiled_give_way_to_the_next_and_the_last_reason_is_told() -> None:
    head = _head(scales=("1x1",))
    broken = Tiles(channels=24)  # a block's side is a power of two
    engine = PairEngine(head, device="cpu", precision="float32", tiles=(broken, SMALL))
    assert engine.tiles == SMALL
    with pytest.raises(CompileError, match="none of 1 tiles"):
        PairEngine(head, device="cpu", precision="float32", tiles=(broken,))
