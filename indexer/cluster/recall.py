"""How much of what exact search finds a collection finds, measured while it is filled.

Letters  q queries, n vectors of a batch, K = NEAREST results, E embedding size
"""

from __future__ import annotations

from typing import Final

import numpy as np

from threadmatch.indexer.cluster.vectors import VectorEngine
from threadmatch.indexer.index import Ids, Vectors

NEAREST: Final = 200


class MeasuredRecall:
    """Keeps the exact answers to some queries while vectors come by.

    Args:
        queries: (q, E) unit length.
    """

    def __init__(self, queries: Vectors) -> None:
        self._queries = queries
        self._rows: Ids = np.empty((len(queries), 0), np.int64)
        self._similarities: Vectors = np.empty((len(queries), 0), np.float32)

    def add(self, last_row: int, vectors: Vectors) -> None:
        """Take (n, E) vectors in, whose row numbers end with `last_row`."""
        if not len(self._queries):
            return
        rows = np.arange(last_row - len(vectors) + 1, last_row + 1)
        rows = np.concatenate([self._rows, np.broadcast_to(rows, (len(self._queries), len(vectors)))], axis=1)
        similarities = np.concatenate([self._similarities, self._queries @ vectors.T], axis=1)
        best = np.argsort(-similarities, axis=1, kind="stable")[:, :NEAREST]
        self._rows = np.take_along_axis(rows, best, axis=1)
        self._similarities = np.take_along_axis(similarities, best, axis=1)

    def measure(self, engine: VectorEngine, collection: str, *, after: int) -> tuple[float, int]:
        """The mean share of the exact answers that a collection finds, 0..1, and the number of queries."""
        shares = []
        for query, rows in zip(self._queries, self._rows, strict=True):
            if not len(rows):
                continue
            found = engine.search(collection, query, len(rows), where="", after=after)
            shares.append(len({hit.row for hit in found} & set(rows.tolist())) / len(rows))
        return (float(np.mean(shares)), len(shares)) if shares else (1.0, 0)
