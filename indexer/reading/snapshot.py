"""What a gallery holds at one moment: a generation and the edits on top of it. Shortlist, features, items, photos.

Letters  E embedding size, N candidates
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from threadmatch.indexer.errors import DamagedItemError, ItemNotFoundError
from threadmatch.indexer.index import Vectors
from threadmatch.indexer.reading.columns import Column
from threadmatch.indexer.reading.feature_store import DamagedRecordError, FeatureStore, MappedFeatures, SqliteFeatures
from threadmatch.indexer.reading.filters import parse_filter
from threadmatch.indexer.reading.generation import LoadedGeneration
from threadmatch.indexer.reading.items import Item
from threadmatch.indexer.reading.listing import START, Listed, Place
from threadmatch.indexer.reading.overlay import Changes
from threadmatch.indexer.reading.shortlist import Candidate, FaissShortlist, Shortlist
from threadmatch.indexer.store import looks
from threadmatch.indexer.store.cards import Card
from threadmatch.indexer.store.database import ALIVE
from threadmatch.indexer.store.looks import Look
from threadmatch.indexer.store.manifest import ColumnKind, Manifest
from threadmatch.indexer.store.records import checksum
from threadmatch.indexer.store.versions import NEWEST_EDITS
from threadmatch.model.coded import Stored, floats
from threadmatch.model.features import FeatureSpec
from threadmatch.model.images import Box

LISTED_ROWS = 500
_ITEM = "i.id, i.product_id, i.metadata, c.width, c.height, c.x0, c.y0, c.x1, c.y1"
_STORED = (
    "i.id, i.product_id, i.metadata, i.source, c.asked_box, c.width, c.height, c.sha256, i.content, "
    "c.x0, c.y0, c.x1, c.y1"
)


@dataclass(frozen=True, slots=True)
class StoredItem:
    """An item as its catalogue gave it.

    Fields:
        metadata: JSON text.
        size: of the upright original, pixels.
        sha256: of the photo's bytes.
        content: the number of what the photo became.
        box: x0, y0, x1, y1 of the part that was encoded, pixels.
    """

    id: str
    product_id: str | None
    metadata: str
    source: str
    asked_box: str
    size: tuple[int, int]
    sha256: str
    content: int
    box: tuple[float, float, float, float]


class Snapshot:
    """One generation with the edits of one moment. It never changes; thread-safe.

    Args:
        loaded: the generation.
        changes: the edits on top of it.
    """

    def __init__(self, loaded: LoadedGeneration, changes: Changes) -> None:
        self._loaded, self.readers, self.changes = loaded, loaded.readers, changes
        self._shortlist: Shortlist = FaissShortlist(loaded, changes)
        behind = SqliteFeatures(loaded.readers, loaded.manifest.features)
        self._features: FeatureStore = MappedFeatures(loaded.side, behind)

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

    @property
    def pending(self) -> int:
        """Edits that the generation does not hold yet."""
        return self.changes.pending

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
        where = parse_filter(filter, self.changes.columns) if filter is not None and filter.strip() else None
        return self._shortlist.search(np.asarray(embedding, np.float32), k, where=where)

    @property
    def feature_specs(self) -> tuple[FeatureSpec, ...]:
        """What the gallery keeps of each photo."""
        return self._features.specs

    def features(self, name: str, candidates: Sequence[Candidate]) -> NDArray[Any]:
        """One feature of the candidates.

        Args:
            name: of the feature.
            candidates: N of this snapshot.

        Returns:
            (N, *shape) as `FeatureSpec.unpack` gives it, in the order of the candidates.

        Raises:
            FeatureMissingError: the gallery does not keep it.
            DamagedItemError: a record is missing or fails its checksum.
        """
        return floats(self.stored_features(name, candidates))

    def stored_features(self, name: str, candidates: Sequence[Candidate]) -> Stored:
        """The same as `FeatureSpec.stored` gives it: whole numbers and scales, where those are kept."""
        try:
            return self._features.stored(name, [candidate.row for candidate in candidates])
        except DamagedRecordError as error:
            damaged = next(candidate.id for candidate in candidates if candidate.row == error.row)
            raise DamagedItemError(damaged, name) from error

    def embeddings(self, candidates: Sequence[Candidate]) -> Vectors:
        """(N, E) unit vectors of the candidates, in their order, as the index holds them."""
        return self._shortlist.vectors([candidate.row for candidate in candidates])

    def looks(self, candidates: Sequence[Candidate]) -> list[Look | None]:
        """What the candidates' photos look like, in their order; None where that is not known."""
        contents = [card.content for card in self._cards(candidates)]
        found = self._loaded.looks.get(contents)
        if missing := set(contents) - found.keys():
            with self.readers.connection() as connection:
                read = looks.read(connection, missing)
            self._loaded.looks.put(read)  # a record is written once; one that is not there yet is asked for again
            found |= read
        return [found.get(content) for content in contents]

    def items(self, candidates: Sequence[Candidate]) -> list[Item]:
        """The candidates' items, in their order."""
        rows = [candidate.row for candidate in candidates]
        found = self._loaded.items.get(rows)
        missing = [candidate for candidate in candidates if candidate.row not in found]
        if missing:
            made = {
                candidate.row: _item(card.id, card.product_id, card.metadata, *card.size, *card.box)
                for candidate, card in zip(missing, self._cards(missing), strict=True)
            }
            self._loaded.items.put(made)
            found |= made
        return [found[row] for row in rows]

    def _cards(self, candidates: Sequence[Candidate]) -> list[Card]:
        """In the order of the candidates; those of a shortlist have them already."""
        rows = [candidate.row for candidate in candidates if candidate.card is None]
        read = self._loaded.cards.get(rows) if rows else {}
        found = []
        for candidate in candidates:
            card = candidate.card or read.get(candidate.row)
            if card is None:
                raise ItemNotFoundError(candidate.id)
            found.append(card)
        return found

    def features_of(self, name: str, item_id: str) -> NDArray[Any]:
        """(*shape) one feature of one item by its id; ItemNotFoundError, FeatureMissingError, DamagedItemError."""
        (row,) = self._one("{row}", item_id)
        return np.asarray(self.features(name, [Candidate(item_id, row, 0.0)])[0])

    def item(self, item_id: str) -> Item:
        """One item by its id; ItemNotFoundError when there is none."""
        return _item(*self._one(_ITEM, item_id, "LEFT JOIN contents c USING (content)"))

    def photo(self, item_id: str) -> bytes:
        """An item's display photo, JPEG; ItemNotFoundError, DamagedItemError."""
        data, crc = self._one("p.data, p.crc32c", item_id, "LEFT JOIN photos p USING (content)")
        if data is None or checksum(data) != crc:
            raise DamagedItemError(item_id, "photo")
        return bytes(data)

    def page(self, count: int, *, start: Place = START, filter: str | None = None) -> tuple[list[Item], Place | None]:
        """Some items, and where they end: see `listing`.

        Args:
            count: at most.
            start: where the page before ended.
            filter: as for `shortlist`.

        Returns:
            None for the place where nothing follows.

        Raises:
            FilterError: the expression cannot be understood.
        """
        where = parse_filter(filter, self.changes.columns) if filter is not None and filter.strip() else None
        changes = self.changes
        hidden = frozenset(changes.dead.tolist())
        listed = Listed(self._query, self.manifest.seq, changes.after, changes.upto, hidden)
        rows, end = listed.page(_ITEM, count, start=start, where=where)
        return [_item(*row) for row in rows], end

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

    def _query(self, query: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        with self.readers.connection() as connection:
            return connection.execute(query, values).fetchall()

    def _span(self) -> dict[str, int]:
        return {"seq": self.manifest.seq, "after": self.changes.after, "upto": self.changes.upto}

    def _one(self, fields: str, item_id: str, join: str = "") -> tuple[Any, ...]:
        """Fields of an item's row; `{row}` in them stands for its number."""
        asked = {"id": item_id, **self._span()}  # a delete has no content, so what is joined may be missing
        with self.readers.connection() as connection:
            row = None
            if self.changes.pending:
                row = connection.execute(
                    f"SELECT i.deleted, {fields.format(row='-i.edit')} FROM edits i {join}"  # noqa: S608
                    " WHERE i.id = :id AND i.edit > :after AND i.edit <= :upto ORDER BY i.edit DESC LIMIT 1",
                    asked,
                ).fetchone()
            if row is None:
                row = connection.execute(
                    f"SELECT i.deleted, {fields.format(row='i.seq')} FROM items i {join} WHERE i.id = :id AND {ALIVE}",  # noqa: S608
                    asked,
                ).fetchone()
        if row is None or row[0]:
            raise ItemNotFoundError(item_id)
        return tuple(row[1:])


def _item(item_id: str, product_id: str | None, metadata: str, width: int, height: int, *box: float) -> Item:
    return Item(item_id, product_id, metadata, width, height, Box(*box))


def _stored(*row: Any) -> StoredItem:
    item_id, product_id, metadata, source, asked_box, width, height, sha256, content, *box = row
    x0, y0, x1, y1 = box
    return StoredItem(
        item_id, product_id, metadata, source, asked_box, (width, height), sha256, content, (x0, y0, x1, y1)
    )
