"""How many of a projection's choice have to be compared exactly: measured, as searches under a filter are.

With queries like those of customers and with queries unlike anything (`indexer.recall_queries`), under a filter that
lets every tenth item through and one that lets every second; the lower recall counts. Each kind has an aim, and gets
the narrowest of WIDTHS that reaches it.

Letters  E embedding size, Q queries
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from threadmatch.indexer.index import Choice, Ids, VectorIndex, Vectors
from threadmatch.indexer.index_building import RECALL_DEPTH, exact_ids
from threadmatch.indexer.projection import Projection, Widths
from threadmatch.indexer.recall_queries import like_queries, unlike_queries

WIDTHS: Final = (800, 1600, 3200, 6400)
"""How many of the projection's choice to compare exactly, of a search for RECALL_DEPTH."""
LIKE_AIM: Final = 0.999
UNLIKE_AIM: Final = 0.99
RECALL_QUERIES: Final = 100
"""Of each kind."""
EVERY: Final = (10, 2)
_PIECE_ROWS: Final = 8_192  # floats in memory at a time
_SHARE_STEPS: Final = 10_000  # in the manifest
_SAME_SCORE: Final = 2e-6
"""Between two ways to add up the same products."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured of a projection.

    Fields:
        widths: the narrowest that reach the aims, else the widest.
        like: recall@RECALL_DEPTH with them of queries like customers', under the filter where it is lowest.
        unlike: the same of queries unlike anything.
    """

    widths: Widths
    like: float
    unlike: float


class Measurement:
    """Queries and filters for an index, and what comparing with all finds; for projections of it.

    Args:
        index: a graph, whose projection is not looked at.
    """

    def __init__(self, index: VectorIndex) -> None:
        self._index = index
        self._like = like_queries(index, RECALL_QUERIES)
        self._unlike = unlike_queries(index, RECALL_QUERIES)
        self._choices = [index.choice(_every(index, step)) for step in EVERY]
        queries = np.concatenate([self._like, self._unlike])
        worst = [_worst_of_best(index, queries, step) for step in EVERY]
        self._worst_like = [bounds[: len(self._like)] for bounds in worst]
        self._worst_unlike = [bounds[len(self._like) :] for bounds in worst]

    def of(self, projection: Projection) -> Found:
        """Choose the widths of a projection by their recall; one for both kinds where shares do not tell them apart."""
        like = self._narrowest(projection, self._like, self._worst_like, LIKE_AIM)
        unlike = self._narrowest(projection, self._unlike, self._worst_unlike, UNLIKE_AIM)
        share = _down(min(map(projection.share, self._like)))
        apart = unlike > like and max(map(projection.share, self._unlike)) < share
        widest = max(like, unlike)
        widths = Widths(like, unlike, share) if apart else Widths(widest, widest)
        chosen = projection.with_widths(widths)
        return Found(
            widths,
            _down(self._recall(chosen, self._like, self._worst_like)),
            _down(self._recall(chosen, self._unlike, self._worst_unlike)),
        )

    def _narrowest(self, projection: Projection, queries: Vectors, worst: list[list[float]], aim: float) -> int:
        """Of WIDTHS the first with so much recall, else the last."""
        for wide in WIDTHS:
            if self._recall(projection.with_widths(Widths(wide)), queries, worst) >= aim:
                break
        return wide

    def _recall(self, projection: Projection, queries: Vectors, worst: list[list[float]]) -> float:
        index = self._index.with_projection(projection)
        return min(_recall(index, queries, *under) for under in zip(self._choices, worst, strict=True))


def _recall(index: VectorIndex, queries: Vectors, choice: Choice, worst: list[float]) -> float:
    """Of RECALL_DEPTH results the share that is as good as what comparing with all gives; equal items count alike."""
    shares = []
    for query, bound in zip(queries, worst, strict=True):
        _, similarities = index.scanned(query, RECALL_DEPTH, choice=choice)
        shares.append(float(np.mean(similarities >= bound - _SAME_SCORE)))
    return float(np.mean(shares))


def _down(share: float) -> float:
    """To the figures that a manifest has, downwards: what misses a little is not said to be all."""
    return math.floor(_SHARE_STEPS * share + 1e-6) / _SHARE_STEPS


def _every(index: VectorIndex, step: int) -> Any:
    """(last id + 1,) whether an id is of every `step`-th position."""
    rows = np.zeros(int(index.ids[-1]) + 1, bool)
    rows[index.ids[::step]] = True
    return rows


def _worst_of_best(index: VectorIndex, queries: Vectors, step: int) -> list[float]:
    """For each query the inner product of the last of its RECALL_DEPTH best among every `step`-th vector."""

    def blocks() -> Iterator[tuple[Ids, Vectors]]:
        ids = index.ids[::step]
        for start in range(0, len(ids), _PIECE_ROWS):
            yield ids[start : start + _PIECE_ROWS], index.vectors(ids[start : start + _PIECE_ROWS])

    best = exact_ids(queries, blocks, RECALL_DEPTH)
    return [float((index.vectors(ids) @ query).min()) for query, ids in zip(queries, best, strict=True)]
