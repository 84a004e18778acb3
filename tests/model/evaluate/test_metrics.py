"""The figures match an independent library; the interval covers what it should."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from threadmatch.model.evaluate.calibration import expected_calibration_error, fit_calibration
from threadmatch.model.evaluate.metrics import first_hit, paired_gain, rates, recall_at


def _case(queries: int, items: int, products: int) -> tuple[list[np.ndarray], list[str], list[str]]:
    rng = np.random.default_rng(0)
    names = [f"p{n}" for n in rng.integers(0, products, items)]
    orders = [rng.permutation(items) for _ in range(queries)]
    wanted = [f"p{n}" for n in rng.integers(0, products + 3, queries)]  # some products are in no gallery
    return orders, names, wanted


def test_the_rates_match_ranx(ranx: Any) -> None:
    orders, names, wanted = _case(queries=40, items=90, products=25)
    ranks = first_hit(orders, names, wanted)
    answerable = [n for n, product in enumerate(wanted) if product in names]
    qrels = {f"q{n}": {f"g{i}": 1 for i, name in enumerate(names) if name == wanted[n]} for n in answerable}
    run = {f"q{n}": {f"g{i}": float(len(names) - place) for place, i in enumerate(orders[n])} for n in answerable}
    metrics = ["hit_rate@1", "hit_rate@5", "hit_rate@20", "hit_rate@50", "mrr"]
    theirs = ranx.evaluate(ranx.Qrels(qrels), ranx.Run(run), metrics)
    ours = rates(ranks[answerable])
    for name, key in zip(metrics, ("top1", "top5", "top20", "top50", "mrr"), strict=True):
        assert ours[key] == pytest.approx(float(theirs[name]))
    assert len(answerable) < len(wanted)
    assert rates(ranks)["top50"] < ours["top50"], "a query without an answer counts as a miss"


def test_the_first_hit_counts_from_one_and_a_miss_is_zero() -> None:
    order = [np.asarray([2, 0, 1]), np.asarray([0])]
    assert first_hit(order, ["a", "b", "c"], ["b", "c"]).tolist() == [3, 0]
    assert recall_at(np.asarray([3, 0]), 2) == 0
    assert recall_at(np.asarray([3, 0]), 3) == 0.5


def test_the_interval_of_no_gain_holds_zero_and_of_a_sure_gain_does_not() -> None:
    rng = np.random.default_rng(1)
    base = (rng.random(400) < 0.5).astype(float)
    noise = (rng.random(400) < 0.5).astype(float)
    still = paired_gain(base, noise)
    assert still.low < 0 < still.high
    better = np.maximum(base, (rng.random(400) < 0.4).astype(float))
    gain = paired_gain(base, better)
    assert 0 < gain.low < gain.mean < gain.high
    assert gain.mean == pytest.approx(float((better - base).mean()))


def test_calibration_finds_the_logistic_that_made_the_labels() -> None:
    rng = np.random.default_rng(2)
    scores = rng.normal(0, 3, 20_000).astype(np.float32)
    chance = 1 / (1 + np.exp(-(0.7 * scores - 1.5)))
    same = rng.random(20_000) < chance
    found = fit_calibration(scores, same)
    assert found.scale == pytest.approx(0.7, abs=0.05)
    assert found.offset == pytest.approx(-1.5, abs=0.1)
    assert expected_calibration_error(chance.astype(np.float32), same) < 0.02
    assert expected_calibration_error(np.full(20_000, 0.99, np.float32), same) > 0.3
