"""Rates counted by several processes together."""

from __future__ import annotations

from pathlib import Path

import pytest
from limits import parse

from threadmatch.service.access.rates import RateLimits, parse_rate
from threadmatch.service.access.shared_counts import SharedCounts
from threadmatch.service.errors import RateLimitedError


def test_two_that_share_a_file_count_together(tmp_path: Path) -> None:
    workers = [RateLimits(parse_rate("6/hour"), shared=tmp_path / "rates") for _ in range(2)]
    for n in range(6):
        workers[n % 2].spend("a")
    for worker in workers:
        with pytest.raises(RateLimitedError) as caught:
            worker.spend("a")
        assert caught.value.retry_after_s is not None
        assert 1 <= caught.value.retry_after_s <= 7200
        worker.spend("b")


def test_what_was_counted_fades_and_the_wait_that_is_told_is_enough(tmp_path: Path) -> None:
    now = 1_000_020.0
    counts, rate = SharedCounts(tmp_path / "rates", clock=lambda: now), parse("10/minute")
    assert [counts.hit(rate, "a") for _ in range(10)] == [0.0] * 10
    wait_s = counts.hit(rate, "a")
    assert wait_s > 0
    now += wait_s + 0.001
    assert counts.hit(rate, "a") == 0.0
    now += 120
    assert [counts.hit(rate, "a") for _ in range(10)] == [0.0] * 10


def test_more_clients_than_there_are_places_are_counted_all_the_same(tmp_path: Path) -> None:
    counts, rate = SharedCounts(tmp_path / "rates"), parse("2/hour")
    for n in range(6000):
        assert counts.hit(rate, f"client {n}") == 0.0
    last = "client 5999"
    counts.hit(rate, last)
    assert counts.hit(rate, last) > 0
