"""How good a ranking is: top-k accuracy, mean reciprocal rank, recall of the shortlist, and intervals of a gain.

Letters  n queries, m gallery items, k how many are looked at
Paper    top-k accuracy as in Kuang et al., ICCV 2019, sec. 4: one of the first k items is the query's product
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TOP_K = (1, 5, 20, 50)
RECALL_K = (50, 100, 200, 500)
BOOTSTRAP_ROUNDS = 2000
BOOTSTRAP_DRAWS = 2_000_000
"""Drawn at a time, bounding memory: 16 MB of positions."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its 95 % interval, all as rates 0..1."""

    mean: float
    low: float
    high: float


def first_hit(order: Sequence[NDArray[np.int64]], products: Sequence[str], wanted: Sequence[str]) -> NDArray[np.int64]:
    """Rank, from 1, of the first item of the wanted product.

    Args:
        order: for each query the gallery positions, best first; may be shorter than the gallery.
        products: (m,) product of each gallery position.
        wanted: (n,) product of each query.

    Returns:
        (n,) int64; 0 where the product is not in the order.
    """
    names = np.asarray(products)
    ranks = np.zeros(len(wanted), np.int64)
    for n, (positions, product) in enumerate(zip(order, wanted, strict=True)):
        hits = np.flatnonzero(names[positions] == product)
        ranks[n] = hits[0] + 1 if len(hits) else 0
    return ranks


def rates(ranks: NDArray[np.int64]) -> dict[str, float]:
    """top1, top5, top20, top50 and mrr, 0..1, of first-hit ranks."""
    if not len(ranks):
        return {**{f"top{k}": 0.0 for k in TOP_K}, "mrr": 0.0}
    found = ranks > 0
    reciprocal = np.where(found, 1 / np.maximum(ranks, 1), 0.0)
    return {**{f"top{k}": float((found & (ranks <= k)).mean()) for k in TOP_K}, "mrr": float(reciprocal.mean())}


def recall_at(ranks: NDArray[np.int64], k: int) -> float:
    """Share of queries whose product is among the first k, 0..1."""
    return float(((ranks > 0) & (ranks <= k)).mean()) if len(ranks) else 0.0


def paired_gain(
    baseline: NDArray[np.float64], method: NDArray[np.float64], *, seed: int = 0, rounds: int = BOOTSTRAP_ROUNDS
) -> Interval:
    """Mean gain of a method over a baseline on the same queries, with a paired bootstrap 95 % interval.

    Args:
        baseline, method: (n,) value of each query, such as 1.0 where top-1 is right.
    """
    gain = method - baseline
    rng = np.random.default_rng(seed)
    at_once = max(1, BOOTSTRAP_DRAWS // max(1, len(gain)))
    means = [
        gain[rng.integers(0, len(gain), (min(at_once, rounds - start), len(gain)))].mean(axis=1)
        for start in range(0, rounds, at_once)
    ]
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return Interval(float(gain.mean()), float(low), float(high))
