"""One generation in memory: its index, and what changed between the index and the generation itself.

Letters  E embedding size, n rows beside the index
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np
from cachetools import LRUCache

from threadmatch.indexer.errors import DamagedItemError
from threadmatch.indexer.index import Ids, VectorIndex, Vectors
from threadmatch.indexer.reading.columns import Column, describe_columns
from threadmatch.indexer.reading.connections import Readers
from threadmatch.indexer.reading.filters import compile_filter
from threadmatch.indexer.store.database import ALIVE
from threadmatch.indexer.store.manifest import ColumnKind, Manifest
from threadmatch.indexer.store.versions import checksum

REMEMBERED_FILTERS = 32
Columns = Mapping[str, ColumnKind]


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
        self._filtered: LRUCache[tuple[str, frozenset[tuple[str, ColumnKind]]], Ids] = LRUCache(REMEMBERED_FILTERS)
        self._lock = threading.Lock()
        self._described: list[Column] | None = None
        self.dead, self.late, self.late_vectors = self._changes_beside_the_index()

    def described_columns(self) -> list[Column]:
        """The metadata columns with the values to choose from; looked up once, then remembered."""
        if self._described is None:
            with self.readers.connection() as connection:
                self._described = describe_columns(connection, kinds=self.manifest.columns, seq=self.manifest.seq)
        return self._described

    def allowed(self, expression: str, columns: Columns) -> Ids:
        """Ascending row numbers that a filter lets through; the last few filters are remembered.

        Args:
            expression: the filter.
            columns: those of the generation, with what edits added.

        Raises:
            FilterError: the expression cannot be understood.
        """
        key = expression, frozenset(columns.items())  # a column of another kind is compared in another way
        with self._lock:
            if key in self._filtered:
                return self._filtered[key]
        clause = compile_filter(expression, columns)
        query = f"SELECT i.seq FROM items i WHERE {ALIVE} AND ({clause.sql}) ORDER BY i.seq"  # noqa: S608
        with self.readers.connection() as connection:
            rows = connection.execute(query, {"seq": self.manifest.seq, **clause.values})
            allowed = np.fromiter((seq for (seq,) in rows), np.int64)
        with self._lock:
            self._filtered[key] = allowed
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
                "SELECT i.seq, i.id, e.data, e.crc32c FROM items i LEFT JOIN embeddings e USING (content)"  # noqa: S608
                f" WHERE i.seq > :index AND {ALIVE} ORDER BY i.seq",
                span,
            ).fetchall()
        vectors = np.empty((len(late), self.manifest.embedding_dim), np.float32)
        for place, (_, item_id, data, crc) in enumerate(late):
            if data is None or checksum(data) != crc:
                raise DamagedItemError(item_id, "embedding")
            vectors[place] = np.frombuffer(data, "<f4")
        return np.array([row[0] for row in dead], np.int64), np.array([row[0] for row in late], np.int64), vectors
