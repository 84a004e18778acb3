"""Which form serves on which device: a kernel that is held to torch first, or torch, with the reason in the log."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tests.model.test_engine import _head
from threadmatch.model.coded import Stored
from threadmatch.model.engine import Engine
from threadmatch.model.errors import CompileError
from threadmatch.model.gpu.choosing import (
    SCORE_APART,
    cell_engine,
    hold_cells_to_torch,
    hold_to,
    pair_scorer,
    probe_regions,
)
from threadmatch.model.gpu.dense_engine import DenseEngine
from threadmatch.model.gpu.pair_engine import PairEngine
from threadmatch.model.grnet_matcher import GRNetMatcher
from threadmatch.model.inference import Model

FEW = {"scales": ("1x1", "2x1"), "similarity_channels": 12, "node_channels": 8}


class Wrong:
    """Scores pairs and cells, and adds something to one of them."""

    def __init__(self, within: Engine | DenseEngine, added: float) -> None:
        self._within, self._added = within, added

    def score_many(self, first: Sequence[Tensor], second: Sequence[Stored] | Sequence[Tensor]) -> list[Tensor]:
        scores = [found.clone() for found in self._within.score_many(first, second)]  # type: ignore[arg-type]
        scores[0][1] += self._added
        return scores


def test_on_the_cpu_torch_serves_and_nothing_is_compiled(tiny_model: Model) -> None:
    head = _head(**FEW)
    assert isinstance(pair_scorer(head, "cpu"), Engine)
    assert cell_engine("cpu") is None
    matcher = tiny_model.matchers["grnet"]
    assert isinstance(matcher, GRNetMatcher)
    assert isinstance(matcher._engine, Engine)


def test_a_kernel_that_agrees_is_kept_and_one_that_does_not_is_refused_with_the_difference() -> None:
    head = _head(**FEW)
    plain = Engine(head)
    share = hold_to(plain, PairEngine(head, device="cpu"), head, apart=SCORE_APART["bfloat16"])
    assert 0 < share < SCORE_APART["bfloat16"]
    for added in (1.0, float("nan")):
        with pytest.raises(CompileError, match="of 24 made-up pairs differ from torch's by up to"):
            hold_to(plain, Wrong(plain, added), head, apart=SCORE_APART["bfloat16"])


def test_a_dense_kernel_is_held_to_torch_likewise() -> None:
    kernel = DenseEngine(device="cpu")
    assert 0 < hold_cells_to_torch(kernel) < 1e-5
    with pytest.raises(CompileError, match="of 24 made-up items differ from torch's"):
        hold_cells_to_torch(Wrong(kernel, 0.001))


def test_made_up_pairs_go_from_strangers_to_the_very_same_photo() -> None:
    head = _head(**FEW)
    query, items = probe_regions(head)
    gaps = (items - query).norm(dim=(1, 2))
    assert gaps[-1] == 0
    assert bool((gaps[:-1] > 0).all())
    torch.testing.assert_close(probe_regions(head)[1], items, rtol=0, atol=0)


def test_where_triton_cannot_be_imported_torch_serves_and_the_log_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    head = _head(**FEW)
    assert isinstance(pair_scorer(head, "cpu", kernels_on="cpu"), PairEngine)
    assert isinstance(cell_engine("cpu", kernels_on="cpu"), DenseEngine)
    monkeypatch.setitem(sys.modules, "triton", None)
    with caplog.at_level(logging.WARNING):
        assert isinstance(pair_scorer(head, "cpu", kernels_on="cpu"), Engine)
        assert cell_engine("cpu", kernels_on="cpu") is None
    assert [record.getMessage() for record in caplog.records] == ["torch reranks", "torch matches densely"]
    assert all("Triton cannot be imported" in record.__dict__["reason"] for record in caplog.records)


def test_a_head_beyond_the_kernel_is_served_by_torch(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert isinstance(pair_scorer(_head(scales=("1x1", "4x4")), "cpu", kernels_on="cpu"), Engine)
    [record] = caplog.records
    assert record.__dict__["reason"].startswith("257 nodes a pair")
