"""One generation of a gallery, for reading: shortlist, regions, items, photos.

Letters  E embedding size, N candidates, R regions, C channels
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.columns import Column, describe_columns
from indexer.database import ALIVE
from indexer.errors import DamagedItemError, GalleryError, ItemNotFoundError
from indexer.filters import compile_filter
from indexer.index import Ids, VectorIndex, Vectors
from indexer.manifest import ColumnKind, Manifest
from indexer.reading import Readers
from indexer.store import checksum
from model.images import Box

REMEMBERED_FILTERS = 32
LISTED_ROWS = 500
_AMONG = "IN (SELECT value FROM json_each(:rows))"
_ITEM = "i.id, i.product_id, i.metadata, c.width, c.height, c.x0, c.y0, c.x1, c.y1"


@dataclass(frozen=True, slots=True)
class Candidate:
    """An item of the shortlist. `row` is the number of its version; distance = 1 - cosine, 0..2, lower is closer."""

    id: str
    row: int
    distance: float


@dataclass(frozen=True, slots=True)
class Item:
    """A catalogue entry. Width and height are of the upright original, the box is the part of it that was encoded."""

    id: str
    product_id: str | None
    metadata: dict[str, Any]
    width: int
    height: int
    box: Box


@dataclass(frozen=True, slots=True)
class StoredItem:
    """An item as its catalogue gave it; metadata is JSON text, size that of the upright original in pixels."""

    id: str
    product_id: str | None
    metadata: str
    source: str
    asked_box: str
    size: tuple[int, int]


class Snapshot:
    """One generation. It never changes; thread-safe.

    Args:
        manifest: of the generation.
        index: its index; rows that changed since the index was built are searched beside it.
        readers: connections to the gallery's database.
    """

    def __init__(self, manifest: Manifest, index: VectorIndex, readers: Readers) -> None:
        self.manifest = manifest
        self._index, self._readers = index, readers
        self._filtered: OrderedDict[str, Ids] = OrderedDict()
        self._lock = threading.Lock()
        self._described: list[Column] | None = None
        self._dead, self._late_ids, self._late = self._changes_beside_the_index()

    @property
    def generation(self) -> str:
        """Its name, such as "000003"."""
        return self.manifest.generation

    @property
    def item_count(self) -> int:
        """Items in it."""
        return self.manifest.items

    def columns(self) -> dict[str, ColumnKind]:
        """The metadata columns and their kinds."""
        return dict(self.manifest.columns)

    def described_columns(self) -> list[Column]:
        """The metadata columns with the values to choose from; looked up once, then remembered."""
        if self._described is None:
            with self._readers.connection() as connection:
                self._described = describe_columns(connection, kinds=self.manifest.columns, seq=self.manifest.seq)
        return self._described

    def shortlist(self, embedding: NDArray[np.float32], k: int, *, filter: str | None = None) -> list[Candidate]:
        """The items whose embeddings are most like this one.

        Args:
            embedding: (E,) float32, unit length.
            k: how many; fewer come back only where the gallery, or the filter, holds fewer.
            filter: expression over metadata columns, id and product_id; see `indexer.filters`.

        Raises:
            FilterError: the expression cannot be understood.
            ValueError: an embedding of another size.
        """
        if embedding.shape != (self.manifest.embedding_dim,):
            raise ValueError(f"embedding is {embedding.shape}, this gallery's are ({self.manifest.embedding_dim},)")
        query = np.asarray(embedding, np.float32)
        allowed = self._allowed(filter) if filter is not None and filter.strip() else None
        rows, similarities = self._index.search(query, k, allowed=allowed, dead=self._dead)
        if len(self._late_ids):
            rows, similarities = self._merge(query, k, allowed, (rows, similarities))
        names = self._by_row(f"SELECT i.seq, i.id FROM items i WHERE i.seq {_AMONG}", rows)  # noqa: S608
        if len(names) < len(rows):
            raise GalleryError(
                f"rows of generation {self.generation} are gone from the database; refresh, it was compacted"
            )
        return [
            Candidate(names[row][0], row, max(0.0, 1.0 - float(similarity)))
            for row, similarity in zip(rows.tolist(), similarities, strict=True)
        ]

    def embeddings(self, candidates: Sequence[Candidate]) -> Vectors:
        """(N, E) unit vectors of the candidates, in their order, as the index holds them."""
        rows = np.array([candidate.row for candidate in candidates], np.int64)
        late = np.isin(rows, self._late_ids)
        out = np.empty((len(rows), self.manifest.embedding_dim), np.float32)
        out[~late] = self._index.vectors(rows[~late])
        out[late] = self._late[np.searchsorted(self._late_ids, rows[late])]
        return out

    def regions(self, candidates: Sequence[Candidate]) -> NDArray[np.float16]:
        """(N, R, C) regions of the candidates, in their order.

        Raises:
            DamagedItemError: stored regions fail their checksum.
        """
        shape = self.manifest.regions_shape
        found = self._by_row(
            f"SELECT i.seq, r.data, r.crc32c FROM items i JOIN regions r USING (content) WHERE i.seq {_AMONG}",  # noqa: S608
            [candidate.row for candidate in candidates],
        )
        out = np.empty((len(candidates), *shape), np.float16)
        for place, candidate in enumerate(candidates):
            data, crc = found.get(candidate.row, (b"", -1))
            if checksum(data) != crc or len(data) != out[place].nbytes:
                raise DamagedItemError(candidate.id, "regions")
            out[place] = np.frombuffer(data, "<f2").reshape(shape)
        return out

    def items(self, candidates: Sequence[Candidate]) -> list[Item]:
        """The candidates' items, in their order."""
        found = self._by_row(
            f"SELECT i.seq, {_ITEM} FROM items i JOIN contents c USING (content) WHERE i.seq {_AMONG}",  # noqa: S608
            [candidate.row for candidate in candidates],
        )
        for candidate in candidates:
            if candidate.row not in found:
                raise ItemNotFoundError(candidate.id)
        return [_item(*found[candidate.row]) for candidate in candidates]

    def regions_of(self, item_id: str) -> NDArray[np.float16]:
        """(R, C) regions of one item by its id; ItemNotFoundError, DamagedItemError."""
        data, crc = self._one("SELECT r.data, r.crc32c FROM items i LEFT JOIN regions r USING (content)", item_id)
        if data is None or checksum(data) != crc:
            raise DamagedItemError(item_id, "regions")
        return np.frombuffer(data, "<f2").reshape(self.manifest.regions_shape)

    def item(self, item_id: str) -> Item:
        """One item by its id; ItemNotFoundError when this generation has none."""
        row = self._one(f"SELECT {_ITEM} FROM items i JOIN contents c USING (content)", item_id)  # noqa: S608
        return _item(*row)

    def photo(self, item_id: str) -> bytes:
        """An item's display photo, JPEG; ItemNotFoundError, DamagedItemError."""
        data, crc = self._one("SELECT p.data, p.crc32c FROM items i LEFT JOIN photos p USING (content)", item_id)
        if data is None or checksum(data) != crc:
            raise DamagedItemError(item_id, "photo")
        return bytes(data)

    def stored_items(self) -> Iterator[StoredItem]:
        """Every item in the order of its row; a few hundred in memory at a time."""
        last = 0
        while True:
            with self._readers.connection() as connection:
                rows = connection.execute(
                    "SELECT i.seq, i.id, i.product_id, i.metadata, i.source, c.asked_box, c.width, c.height"  # noqa: S608
                    " FROM items i JOIN contents c USING (content)"
                    f" WHERE i.seq > :last AND {ALIVE} ORDER BY i.seq LIMIT {LISTED_ROWS}",
                    {"last": last, "seq": self.manifest.seq},
                ).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            for _, item_id, product_id, metadata, source, asked_box, width, height in rows:
                yield StoredItem(item_id, product_id, metadata, source, asked_box, (width, height))

    def _one(self, query: str, item_id: str) -> tuple[Any, ...]:
        with self._readers.connection() as connection:
            row = connection.execute(
                f"{query} WHERE i.id = :id AND {ALIVE}", {"id": item_id, "seq": self.manifest.seq}
            ).fetchone()
        if row is None:
            raise ItemNotFoundError(item_id)
        return tuple(row)

    def _by_row(self, query: str, rows: Sequence[int] | Ids) -> dict[int, tuple[Any, ...]]:
        listed = json.dumps([int(row) for row in rows])
        with self._readers.connection() as connection:
            return {row[0]: row[1:] for row in connection.execute(query, {"rows": listed})}

    def _allowed(self, expression: str) -> Ids:
        """Ascending row numbers that a filter lets through; the last few filters are remembered."""
        with self._lock:
            if expression in self._filtered:
                self._filtered.move_to_end(expression)
                return self._filtered[expression]
        clause = compile_filter(expression, self.manifest.columns)
        query = f"SELECT i.seq FROM items i WHERE {ALIVE} AND ({clause.sql}) ORDER BY i.seq"  # noqa: S608
        with self._readers.connection() as connection:
            rows = connection.execute(query, {"seq": self.manifest.seq, **clause.values})
            allowed = np.fromiter((seq for (seq,) in rows), np.int64)
        with self._lock:
            self._filtered[expression] = allowed
            if len(self._filtered) > REMEMBERED_FILTERS:
                self._filtered.popitem(last=False)
        return allowed

    def _changes_beside_the_index(self) -> tuple[Ids, Ids, Vectors]:
        """Rows of the index that are dead by now; rows that came after it, and their (n, E) embeddings."""
        span = {"index": self.manifest.index.seq, "seq": self.manifest.seq}
        empty = np.empty(0, np.int64)
        if span["index"] == span["seq"]:
            return empty, empty, np.empty((0, self.manifest.embedding_dim), np.float32)
        with self._readers.connection() as connection:
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

    def _merge(self, query: Vectors, k: int, allowed: Ids | None, found: tuple[Ids, Vectors]) -> tuple[Ids, Vectors]:
        chosen = slice(None) if allowed is None else np.isin(self._late_ids, allowed)
        rows = np.concatenate([found[0], self._late_ids[chosen]])
        similarities = np.concatenate([found[1], self._late[chosen] @ query])
        order = np.lexsort((rows, -similarities))[:k]
        return rows[order], similarities[order]


def _item(item_id: str, product_id: str | None, metadata: str, width: int, height: int, *box: float) -> Item:
    return Item(item_id, product_id, json.loads(metadata), width, height, Box(*box))
