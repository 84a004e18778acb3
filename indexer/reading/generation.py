"""One generation in memory: its index, its side files, and what changed between the index and the generation itself.

Letters  E embedding size, n rows beside the index
"""

from __future__ import annotations

import threading

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from threadmatch.indexer.index import Ids, VectorIndex, Vectors
from threadmatch.indexer.reading.columns import Column, describe_columns
from threadmatch.indexer.reading.conditions import Condition
from threadmatch.indexer.reading.connections import Readers
from threadmatch.indexer.reading.filter_arrow import matches
from threadmatch.indexer.reading.filter_sql import to_sql
from threadmatch.indexer.reading.items import Item
from threadmatch.indexer.reading.kept import Kept
from threadmatch.indexer.reading.row_cards import KEPT_CARDS, RowCards
from threadmatch.indexer.reading.side_files import SideFiles
from threadmatch.indexer.store.database import ALIVE
from threadmatch.indexer.store.looks import Look
from threadmatch.indexer.store.manifest import Manifest
from threadmatch.indexer.store.vectors import item_vectors

REMEMBERED_FILTERS = 32
KEPT_LOOKS = 20_000
"""Of a generation, half a KB each."""


class LoadedGeneration:
    """A generation's manifest and index. It never changes; thread-safe.

    Args:
        manifest: of the generation.
        index: its index; rows that changed since the index was built are searched beside it.
        readers: connections to the gallery's database.
        side: its side files.

    Attributes:
        alive: (seq + 1,) whether each row number is live.
        late: (n,) ascending rows of the generation that came after the index.
        late_vectors: (n, E) their embeddings.
        cards: what is shown of its rows, and of edits.
        items: made of those, by row; looks: of their photos, by content. Those that searches met lately.
    """

    def __init__(self, manifest: Manifest, index: VectorIndex, readers: Readers, side: SideFiles) -> None:
        self.manifest, self.index, self.readers, self.side = manifest, index, readers, side
        self.cards = RowCards(readers, side)
        self.items: Kept[Item] = Kept(KEPT_CARDS)
        self.looks: Kept[Look] = Kept(KEPT_LOOKS)
        self._filtered: LRUCache[Condition, NDArray[np.uint8]] = LRUCache(REMEMBERED_FILTERS)
        self._lock = threading.Lock()
        self._described: list[Column] | None = None
        alive = side.alive
        self.alive = alive if alive is not None and alive.sum() == manifest.items else self._alive_rows()
        self.late, self.late_vectors = self._rows_beside_the_index()

    def described_columns(self) -> list[Column]:
        """The metadata columns with the values to choose from; looked up once, then remembered."""
        if self._described is None:
            with self.readers.connection() as connection:
                self._described = describe_columns(connection, kinds=self.manifest.columns, seq=self.manifest.seq)
        return self._described

    def allowed(self, where: Condition) -> NDArray[np.bool_]:
        """(seq + 1,) which row numbers a filter lets through, live or not; the last few filters are remembered."""
        size = self.manifest.seq + 1
        with self._lock:
            if where in self._filtered:
                return np.unpackbits(self._filtered[where], count=size).astype(bool)
        allowed = np.zeros(size, bool)
        for first, last, chunk in self.side.chunks():
            if chunk is None:
                allowed[self._allowed_by_database(where, first, last)] = True
            else:
                allowed[chunk.column("seq").to_numpy()] = matches(where, chunk)
        with self._lock:
            self._filtered[where] = np.packbits(allowed)
        return allowed

    def _allowed_by_database(self, where: Condition, first: int, last: int) -> Ids:
        clause = to_sql(where)
        query = f"SELECT i.seq FROM items i WHERE i.seq BETWEEN :first AND :last AND {ALIVE} AND ({clause.sql})"  # noqa: S608
        span = {"first": first, "last": last, "seq": self.manifest.seq}
        with self.readers.connection() as connection:
            rows = connection.execute(query, {**span, **clause.values})
            return np.fromiter((seq for (seq,) in rows), np.int64)

    def _alive_rows(self) -> NDArray[np.bool_]:
        alive = np.zeros(self.manifest.seq + 1, bool)
        with self.readers.connection() as connection:
            query = f"SELECT i.seq FROM items i WHERE {ALIVE}"  # noqa: S608
            rows = connection.execute(query, {"seq": self.manifest.seq})
            alive[np.fromiter((seq for (seq,) in rows), np.int64)] = True
        return alive

    def _rows_beside_the_index(self) -> tuple[Ids, Vectors]:
        late = np.flatnonzero(self.alive[self.manifest.index.seq + 1 :]) + self.manifest.index.seq + 1
        if not len(late):
            return late, np.empty((0, self.manifest.embedding_dim), np.float32)
        span = {"index": self.manifest.index.seq, "seq": self.manifest.seq}
        with self.readers.connection() as connection:
            rows = connection.execute(
                f"SELECT i.seq, i.id, i.content FROM items i WHERE i.seq > :index AND {ALIVE} ORDER BY i.seq",  # noqa: S608
                span,
            ).fetchall()
            return np.array([row[0] for row in rows], np.int64), item_vectors(connection, self.manifest.indexed, rows)
