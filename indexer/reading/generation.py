"""One generation in memory: its index, and what changed between the index and the generation itself.

Letters  E embedding size, n rows beside the index
"""

from __future__ import annotations

import threading

import numpy as np
from cachetools import LRUCache

from threadmatch.indexer.index import Ids, VectorIndex, Vectors
from threadmatch.indexer.reading.columns import Column, describe_columns
from threadmatch.indexer.reading.conditions import Condition
from threadmatch.indexer.reading.connections import Readers
from threadmatch.indexer.reading.filter_sql import to_sql
from threadmatch.indexer.store.database import ALIVE
from threadmatch.indexer.store.manifest import Manifest
from threadmatch.indexer.store.vectors import item_vectors

REMEMBERED_FILTERS = 32


class LoadedGeneration:
    """A generation's manifest and index. It never changes; thread-safe.

    Args:
        manifest: of the generation.
        index: its index; rows that changed since the index was built are searched beside it.
        readers: connections to the gallery's database.

    Attributes:
        dead: ascending rows of the index that the generation does not hold any more.
        late: (n,) ascending rows of the generation that came after the index.
        late_vectors: (n, E) their embeddings.
    """

    def __init__(self, manifest: Manifest, index: VectorIndex, readers: Readers) -> None:
        self.manifest, self.index, self.readers = manifest, index, readers
        self._filtered: LRUCache[Condition, Ids] = LRUCache(REMEMBERED_FILTERS)
        self._lock = threading.Lock()
        self._described: list[Column] | None = None
        self.dead, self.late, self.late_vectors = self._changes_beside_the_index()

    def described_columns(self) -> list[Column]:
        """The metadata columns with the values to choose from; looked up once, then remembered."""
        if self._described is None:
            with self.readers.connection() as connection:
                self._described = describe_columns(connection, kinds=self.manifest.columns, seq=self.manifest.seq)
        return self._described

    def allowed(self, where: Condition) -> Ids:
        """Ascending row numbers that a filter lets through; the last few filters are remembered."""
        with self._lock:
            if where in self._filtered:
                return self._filtered[where]
        clause = to_sql(where)
        query = f"SELECT i.seq FROM items i WHERE {ALIVE} AND ({clause.sql}) ORDER BY i.seq"  # noqa: S608
        with self.readers.connection() as connection:
            rows = connection.execute(query, {"seq": self.manifest.seq, **clause.values})
            allowed = np.fromiter((seq for (seq,) in rows), np.int64)
        with self._lock:
            self._filtered[where] = allowed
        return allowed

    def _changes_beside_the_index(self) -> tuple[Ids, Ids, Vectors]:
        span = {"index": self.manifest.index.seq, "seq": self.manifest.seq}
        empty = np.empty(0, np.int64)
        if span["index"] == span["seq"]:
            return empty, empty, np.empty((0, self.manifest.embedding_dim), np.float32)
        with self.readers.connection() as connection:
            dead = connection.execute(
                "SELECT seq FROM items WHERE deleted = 0 AND seq <= :index AND until > :index AND until <= :seq"
                " ORDER BY seq",
                span,
            ).fetchall()
            late = connection.execute(
                f"SELECT i.seq, i.id, i.content FROM items i WHERE i.seq > :index AND {ALIVE} ORDER BY i.seq",  # noqa: S608
                span,
            ).fetchall()
            vectors = item_vectors(connection, self.manifest.indexed, late)
        return np.array([row[0] for row in dead], np.int64), np.array([row[0] for row in late], np.int64), vectors
