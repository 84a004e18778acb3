"""What measures a GPU runs at all: in the interpreter, where its figures say nothing but that it does."""

from __future__ import annotations

import pytest

from tests.model.test_engine import _head
from threadmatch.model.engine import needed_flops
from threadmatch.model.gpu.head_packing import Tiles
from threadmatch.model.gpu.rates import KERNEL, Load, dense_rates, pair_rates, tile_rates

SMALL = Load(device="cpu", pairs=2, square=64, calls=(1,), tried=(Tiles(channels=24), Tiles()))


def test_pairs_a_second_come_with_the_share_of_the_devices_own_rate() -> None:
    head = _head(scales=("1x1",))
    rates = pair_rates("tiny", head, seconds=0.0, load=SMALL)
    assert rates.pairs_per_s.keys() == {"literal, torch", "serving, torch", "kernel, float32", "kernel, bfloat16"}
    done = rates.pairs_per_s[KERNEL] * needed_flops(head.config, head.projection.shape[1])
    assert rates.share_of_matrix == pytest.approx(done / (rates.matrix_tflops * 1e12), rel=0.01)
    assert rates.share_of_nominal is None
    assert all(ms[1] > 0 for ms in rates.call_ms.values())


def test_tiles_that_cannot_be_compiled_are_told_beside_those_that_are_measured() -> None:
    broken, whole = tile_rates(_head(scales=("1x1",)), seconds=0.0, load=SMALL)
    assert "none of 1 tiles" in broken["error"]
    assert whole["pairs_per_s"] > 0


def test_a_dense_match_is_timed_from_the_records_of_a_gallery() -> None:
    [row] = dense_rates(seconds=0.0, load=SMALL)
    assert row.keys() == {"items", "cpu", "cpu, torch", "cpu, kernel"}
