"""What a gallery holds at one moment: a generation and the edits on top of it. Shortlist, regions, items, photos.

Letters  E embedding size, N candidates, R regions, C channels
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from threadmatch.indexer.errors import DamagedItemError, GalleryError, ItemNotFoundError
from threadmatch.indexer.index import Ids, Vectors
from threadmatch.indexer.reading.columns import Column
from threadmatch.indexer.reading.filters import compile_filter
from threadmatch.indexer.reading.generation import LoadedGeneration
from threadmatch.indexer.reading.overlay import Changes
from threadmatch.indexer.store.database import ALIVE
from threadmatch.indexer.store.manifest import ColumnKind, Manifest
from threadmatch.indexer.store.versions import NEWEST_EDITS, checksum
from threadmatch.model.images import Box

REMEMBERED_FILTERS = 8
LISTED_ROWS = 500
_ITEM = "i.id, i.product_id, i.metadata, c.width, c.height, c.x0, c.y0, c.x1, c.y1"
_STORED = "i.id, i.product_id, i.metadata, i.source, c.asked_box, c.width, c.height"


@dataclass(frozen=True, slots=True)
class Candidate:
    """An item of the shortlist. `row` is the number of its version; distance = 1 - cosine, 0..2, lower is closer."""

    id: str
    row: int  # of the generation; negative for an edit on top of it
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
    """One generation with the edits of one moment. It never changes; thread-safe.

    Args:
        loaded: the generation.
        changes: the edits on top of it.
    """

    def __init__(self, loaded: LoadedGeneration, changes: Changes) -> None:
        self._loaded, self.readers, self.changes = loaded, loaded.readers, changes
        self._filtered: LRUCache[str, Ids] = LRUCache(REMEMBERED_FILTERS)
        self._lock = threading.Lock()
        late, late_vectors, dead = loaded.late, loaded.late_vectors, loaded.dead
        if len(changes.dead):
            dead = np.union1d(dead, changes.dead)
            kept = ~np.isin(late, changes.dead)
            late, late_vectors = (late, late_vectors) if kept.all() else (late[kept], late_vectors[kept])
        self._dead, self._late, self._late_vectors = dead, late, late_vectors

    @property
    def manifest(self) -> Manifest:
        """Of the generation."""
        return self._loaded.manifest

    @property
    def generation(self) -> str:
        """Its name, such as "000003"."""
        return self.manifest.generation

    @property
    def item_count(self) -> int:
        """Items in it, edits counted."""
        return self.manifest.items - len(self.changes.dead) + self.changes.put

    def columns(self) -> dict[str, ColumnKind]:
        """The metadata columns and their kinds."""
        return dict(self.changes.columns)

    def described_columns(self) -> list[Column]:
        """The metadata columns with the values to choose from, as of the generation; what edits added is named only."""
        described = self._loaded.described_columns()
        known = {column.name for column in described}
        return described + [Column(name, kind) for name, kind in self.changes.columns.items() if name not in known]

    def shortlist(self, embedding: NDArray[np.float32], k: int, *, filter: str | None = None) -> list[Candidate]:
        """The items whose embeddings are most like this one.

        Args:
            embedding: (E,) float32, unit length.
            k: how many; fewer come back only where the gallery, or the filter, holds fewer.
            filter: expression over metadata columns, id and product_id; see `indexer.reading.filters`.

        Raises:
            FilterError: the expression cannot be understood.
            ValueError: an embedding of another size.
        """
        if embedding.shape != (self.manifest.embedding_dim,):
            raise ValueError(f"embedding is {embedding.shape}, this gallery's are ({self.manifest.embedding_dim},)")
        query = np.asarray(embedding, np.float32)
        expression = filter if filter is not None and filter.strip() else None
        allowed = None if expression is None else self._loaded.allowed(expression, self.changes.columns)
        found = [self._loaded.index.search(query, k, allowed=allowed, dead=self._dead)]
        if len(self._late):
            chosen = slice(None) if allowed is None else np.isin(self._late, allowed)
            found.append((self._late[chosen], self._late_vectors[chosen] @ query))
        if len(self.changes.rows):
            found.append(self._edited(query, expression))
        rows, similarities = (np.concatenate(parts) for parts in zip(*found, strict=True))
        if len(found) > 1:
            order = np.lexsort((rows, -similarities))[:k]
            rows, similarities = rows[order], similarities[order]
        names = self._by_row("i.id", rows)
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
        out = np.empty((len(rows), self.manifest.embedding_dim), np.float32)
        edited, late = rows < 0, np.isin(rows, self._late)
        indexed = ~(edited | late)
        out[indexed] = self._loaded.index.vectors(rows[indexed])
        out[late] = self._late_vectors[np.searchsorted(self._late, rows[late])]
        out[edited] = self.changes.vectors[np.searchsorted(-self.changes.rows, -rows[edited])]  # later edits are lower
        return out

    def regions(self, candidates: Sequence[Candidate]) -> NDArray[np.float16]:
        """(N, R, C) regions of the candidates, in their order.

        Raises:
            DamagedItemError: stored regions fail their checksum.
        """
        shape = self.manifest.regions_shape
        found = self._by_row(
            "r.data, r.crc32c", [candidate.row for candidate in candidates], "JOIN regions r USING (content)"
        )
        out = np.empty((len(candidates), *shape), np.float16)
        for place, candidate in enumerate(candidates):
            data, crc = found.get(candidate.row, (b"", -1))
            if checksum(data) != crc or len(data) != out[place].nbytes:
                raise DamagedItemError(candidate.id, "regions")
            out[place] = np.frombuffer(data, "<f2").reshape(shape)
        return out

    def features(self, name: str, candidates: Sequence[Candidate]) -> NDArray[np.float16] | NDArray[np.float32]:
        """(N, *shape) of one feature of the candidates, in their order."""
        return self.embeddings(candidates) if name == "embedding" else self.regions(candidates)

    def features_of(self, name: str, item_id: str) -> NDArray[np.float16] | NDArray[np.float32]:
        """(*shape) of one feature of one item by its id; ItemNotFoundError, DamagedItemError."""
        assert name == "regions"
        return self.regions_of(item_id)

    def items(self, candidates: Sequence[Candidate]) -> list[Item]:
        """The candidates' items, in their order."""
        found = self._by_row(_ITEM, [candidate.row for candidate in candidates], "JOIN contents c USING (content)")
        for candidate in candidates:
            if candidate.row not in found:
                raise ItemNotFoundError(candidate.id)
        return [_item(*found[candidate.row]) for candidate in candidates]

    def regions_of(self, item_id: str) -> NDArray[np.float16]:
        """(R, C) regions of one item by its id; ItemNotFoundError, DamagedItemError."""
        data, crc = self._one("r.data, r.crc32c", item_id, "regions r")
        if data is None or checksum(data) != crc:
            raise DamagedItemError(item_id, "regions")
        return np.frombuffer(data, "<f2").reshape(self.manifest.regions_shape)

    def item(self, item_id: str) -> Item:
        """One item by its id; ItemNotFoundError when there is none."""
        return _item(*self._one(_ITEM, item_id, "contents c"))

    def photo(self, item_id: str) -> bytes:
        """An item's display photo, JPEG; ItemNotFoundError, DamagedItemError."""
        data, crc = self._one("p.data, p.crc32c", item_id, "photos p")
        if data is None or checksum(data) != crc:
            raise DamagedItemError(item_id, "photo")
        return bytes(data)

    def stored_items(self) -> Iterator[StoredItem]:
        """Every item, those of the generation in the order of their rows, then edits; a few hundred in memory."""
        dead = set(self.changes.dead.tolist())
        last = 0
        while rows := self._page(
            f"SELECT i.seq, {_STORED} FROM items i JOIN contents c USING (content)"  # noqa: S608
            f" WHERE i.seq > :last AND {ALIVE} ORDER BY i.seq LIMIT {LISTED_ROWS}",
            last,
        ):
            last = rows[-1][0]
            yield from (_stored(*row[1:]) for row in rows if row[0] not in dead)
        last = 0
        while self.changes.pending and (
            rows := self._page(
                f"SELECT i.edit, {_STORED} FROM edits i JOIN contents c USING (content) WHERE i.edit > :last"  # noqa: S608
                f" AND i.deleted = 0 AND i.edit IN ({NEWEST_EDITS}) ORDER BY i.edit LIMIT {LISTED_ROWS}",
                last,
            )
        ):
            last = rows[-1][0]
            yield from (_stored(*row[1:]) for row in rows)

    def _page(self, query: str, last: int) -> list[tuple[Any, ...]]:
        with self.readers.connection() as connection:
            return connection.execute(query, {"last": last, **self._span()}).fetchall()

    def _span(self) -> dict[str, int]:
        return {"seq": self.manifest.seq, "after": self.changes.after, "upto": self.changes.upto}

    def _one(self, fields: str, item_id: str, table: str) -> tuple[Any, ...]:
        asked = {"id": item_id, **self._span()}
        join = f"LEFT JOIN {table} USING (content)"  # a delete has no content
        with self.readers.connection() as connection:
            row = None
            if self.changes.pending:
                row = connection.execute(
                    f"SELECT i.deleted, {fields} FROM edits i {join}"  # noqa: S608
                    " WHERE i.id = :id AND i.edit > :after AND i.edit <= :upto ORDER BY i.edit DESC LIMIT 1",
                    asked,
                ).fetchone()
            if row is None:
                row = connection.execute(
                    f"SELECT i.deleted, {fields} FROM items i {join} WHERE i.id = :id AND {ALIVE}",  # noqa: S608
                    asked,
                ).fetchone()
        if row is None or row[0]:
            raise ItemNotFoundError(item_id)
        return tuple(row[1:])

    def _by_row(self, fields: str, rows: Sequence[int] | Ids, join: str = "") -> dict[int, tuple[Any, ...]]:
        numbers = [int(row) for row in rows]
        found: dict[int, tuple[Any, ...]] = {}
        with self.readers.connection() as connection:
            for table, number, sign in (("items", "seq", 1), ("edits", "edit", -1)):
                listed = [sign * row for row in numbers if sign * row > 0]
                if listed:
                    query = (
                        f"SELECT i.{number}, {fields} FROM {table} i {join}"  # noqa: S608
                        f" WHERE i.{number} IN (SELECT value FROM json_each(:rows))"
                    )
                    for row in connection.execute(query, {"rows": json.dumps(listed)}):
                        found[sign * row[0]] = row[1:]
        return found

    def _edited(self, query: Vectors, expression: str | None) -> tuple[Ids, Vectors]:
        """Rows and similarities of the items that edits put; every one is compared."""
        chosen = self.changes.newest
        if expression is not None:
            chosen = chosen & np.isin(self.changes.rows, self._allowed_edits(expression))
        return self.changes.rows[chosen], (self.changes.vectors @ query)[chosen]

    def _allowed_edits(self, expression: str) -> Ids:
        with self._lock:
            if expression in self._filtered:
                return self._filtered[expression]
        clause = compile_filter(expression, self.changes.columns)
        query = f"SELECT -i.edit FROM edits i WHERE i.edit > :after AND i.edit <= :upto AND ({clause.sql})"  # noqa: S608
        with self.readers.connection() as connection:
            rows = connection.execute(query, {**self._span(), **clause.values})
            allowed = np.fromiter((row for (row,) in rows), np.int64)
        with self._lock:
            self._filtered[expression] = allowed
        return allowed


def _item(item_id: str, product_id: str | None, metadata: str, width: int, height: int, *box: float) -> Item:
    return Item(item_id, product_id, json.loads(metadata), width, height, Box(*box))


def _stored(item_id: str, product_id: str | None, metadata: str, source: str, asked_box: str, *size: int) -> StoredItem:
    return StoredItem(item_id, product_id, metadata, source, asked_box, (size[0], size[1]))
