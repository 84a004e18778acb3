"""What a cluster's gallery holds: shortlist, features, items, photos. See `reading.opened.OpenSnapshot`.

It is of one moment in that a search that begins with it sees every edit made until then. Later edits may be seen too:
an item that is replaced or deleted while a search runs keeps its place in it once the shortlist is there, with the
features it had; before that it is left out.

Letters  E embedding size, N candidates
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from threadmatch.indexer.cluster.comparing import batches
from threadmatch.indexer.cluster.contents import LOOK, PHOTO, About, Contents
from threadmatch.indexer.cluster.feature_store import RowContents, StoredFeatures
from threadmatch.indexer.cluster.filter_milvus import Expression, to_milvus
from threadmatch.indexer.cluster.generation import FIRST_ROW, Moment, read_described
from threadmatch.indexer.cluster.items import ItemRecord, Items
from threadmatch.indexer.cluster.names import short_number
from threadmatch.indexer.cluster.shortlist import MilvusShortlist, NotAskedError, choose
from threadmatch.indexer.cluster.vectors import VectorEngine
from threadmatch.indexer.errors import DamagedItemError, FilterError, ItemNotFoundError
from threadmatch.indexer.index import Vectors
from threadmatch.indexer.reading.columns import Column
from threadmatch.indexer.reading.conditions import Condition
from threadmatch.indexer.reading.feature_store import DamagedRecordError
from threadmatch.indexer.reading.filters import parse_filter
from threadmatch.indexer.reading.items import Item
from threadmatch.indexer.reading.listing import START, Place
from threadmatch.indexer.reading.shortlist import Candidate
from threadmatch.indexer.reading.snapshot import StoredItem
from threadmatch.indexer.store.cards import Card
from threadmatch.indexer.store.looks import Look
from threadmatch.indexer.store.manifest import ColumnKind, Manifest
from threadmatch.model.coded import Stored, floats
from threadmatch.model.features import FeatureSpec
from threadmatch.model.images import Box

_LISTED = 200
_READ = 64
"""Contents that are read at a time: some MB with features and photos."""


class ClusterGeneration:
    """What never changes of a generation: its manifest, and where its parts are. Thread-safe.

    Args:
        manifest: of it.
        engine: Milvus.
        items: of it, in the store.
    """

    def __init__(self, manifest: Manifest, engine: VectorEngine, items: Items) -> None:
        self.manifest, self.engine, self.items = manifest, engine, items
        self.collection = items.names.collection(items.generation)
        self.contents = Contents(items.store, items.names.prefix, manifest.model.features_fingerprint)
        self.rows = RowContents(items)
        self.features = StoredFeatures(self.contents, self.rows, manifest.features)

    @cached_property
    def described(self) -> list[Column]:
        """The metadata columns with the values to choose from, as of its publication."""
        return read_described(self.items.store, self.items.names, self.items.generation)


class ClusterSnapshot:
    """One generation as of one moment. Thread-safe.

    Args:
        of: the generation.
        moment: how it was.
    """

    def __init__(self, of: ClusterGeneration, moment: Moment) -> None:
        self._of, self.moment = of, moment
        self._columns = dict(moment.columns)
        self._shortlist = MilvusShortlist(of.engine, of.items, of.rows, of.features, after=moment.written)

    @property
    def manifest(self) -> Manifest:
        """Of the generation."""
        return self._of.manifest

    @property
    def generation(self) -> str:
        """Its name, such as "000003"."""
        return self.manifest.generation

    @property
    def item_count(self) -> int:
        """Items in it, edits counted; see `Moment.items`."""
        return max(0, self.moment.items)

    @property
    def pending(self) -> int:
        """None ever waits: an edit is in the collection when it is answered."""
        return 0

    @property
    def feature_specs(self) -> tuple[FeatureSpec, ...]:
        """What the gallery keeps of each photo."""
        return self._of.features.specs

    def columns(self) -> dict[str, ColumnKind]:
        """The metadata columns and their kinds, those that edits added last."""
        known = {name: self._columns.get(name, kind) for name, kind in self.manifest.columns.items()}
        return known | self._columns

    def described_columns(self) -> list[Column]:
        """The metadata columns with the values to choose from; what edits added is named only."""
        known = {column.name for column in self._of.described}
        return self._of.described + [Column(name, kind) for name, kind in self.columns().items() if name not in known]

    def shortlist(self, embedding: NDArray[np.float32], k: int, *, filter: str | None = None) -> list[Candidate]:
        """See `Snapshot.shortlist`; StoreUnavailableError where an engine does not answer."""
        if embedding.shape != (self.manifest.embedding_dim,):
            raise ValueError(f"embedding is {embedding.shape}, this gallery's are ({self.manifest.embedding_dim},)")
        try:
            return self._shortlist.search(np.asarray(embedding, np.float32), k, where=self._where(filter))
        except NotAskedError as error:
            raise FilterError(str(error), expression=filter or "") from error

    def features(self, name: str, candidates: Sequence[Candidate]) -> NDArray[Any]:
        """See `Snapshot.features`."""
        return floats(self.stored_features(name, candidates))

    def stored_features(self, name: str, candidates: Sequence[Candidate]) -> Stored:
        """See `Snapshot.stored_features`."""
        try:
            return self._of.features.stored(name, [candidate.row for candidate in candidates])
        except DamagedRecordError as error:
            damaged = next(candidate.id for candidate in candidates if candidate.row == error.row)
            raise DamagedItemError(damaged, name) from error

    def embeddings(self, candidates: Sequence[Candidate]) -> Vectors:
        """(N, E) unit vectors of the candidates, in their order."""
        return self._shortlist.vectors([candidate.row for candidate in candidates])

    def looks(self, candidates: Sequence[Candidate]) -> list[Look | None]:
        """What the candidates' photos look like, in their order; None where that is not known."""
        contents = [card.content for card in self._cards(candidates)]
        found = self._of.contents.read(LOOK, contents)
        return [Look(short_number(number), found[number]) if number in found else None for number in contents]

    def items(self, candidates: Sequence[Candidate]) -> list[Item]:
        """The candidates' items, in their order."""
        return [_item(card) for card in self._cards(candidates)]

    def features_of(self, name: str, item_id: str) -> NDArray[Any]:
        """(*shape) one feature of one item by its id; ItemNotFoundError, FeatureMissingError, DamagedItemError."""
        record, _ = self._one(item_id)
        return np.asarray(self.features(name, [Candidate(item_id, record.row, 0.0)])[0])

    def item(self, item_id: str) -> Item:
        """One item by its id; ItemNotFoundError when there is none."""
        return _item(self._one(item_id)[1])

    def photo(self, item_id: str) -> bytes:
        """An item's display photo, JPEG; ItemNotFoundError, DamagedItemError."""
        content = self._one(item_id)[1].content
        photo = self._of.contents.read(PHOTO, [content]).get(content)
        if photo is None:
            raise DamagedItemError(item_id, "photo")
        return photo

    def page(self, count: int, *, start: Place = START, filter: str | None = None) -> tuple[list[Item], Place | None]:
        """See `Snapshot.page`: items in the order of their rows, so one that is edited meanwhile comes again."""
        where = self._where(filter)
        shown = self._listed(count + 1, max(0, start.row), where)
        end = Place(self.manifest.seq, shown[count - 1].row) if len(shown) > count else None
        return [_item(record.card) for record in shown[:count] if record.card is not None], end

    def stored_items(self) -> Iterator[StoredItem]:
        """Every item, in the order of rows; a few hundred in memory. DamagedItemError where a photo is not known."""
        for block in batches(self._live(), _READ):
            known = self._of.contents.about_all([card.content for _, card in block])
            for (record, card), about in zip(block, known, strict=True):
                if about is None:
                    raise DamagedItemError(card.id, "photo")
                yield _stored(record, card, about)

    def read_back(self) -> Iterator[tuple[StoredItem, dict[str, bytes], bytes]]:
        """Every item with its features by `FeatureSpec.key` and its photo; DamagedItemError where one is not whole."""
        for block in batches(self._live(), _READ):
            found = self._of.contents.whole([card.content for _, card in block], self.manifest.features)
            for (record, card), whole in zip(block, found, strict=True):
                if whole is None:
                    raise DamagedItemError(card.id, "features or photo")
                about, features, photo = whole
                yield _stored(record, card, about), features, photo

    def _live(self) -> Iterator[tuple[ItemRecord, Card]]:
        """Every item's record and card, in the order of rows."""
        items = self._of.items
        last = int(items.store.one("GET", items.names.sequence) or 0)
        for record in items.live(int(self.manifest.index.parameters[FIRST_ROW]), last):
            if record.card is not None:
                yield record, record.card

    def _where(self, filter: str | None) -> Condition | None:
        return parse_filter(filter, self.columns()) if filter is not None and filter.strip() else None

    def _listed(self, count: int, last: int, where: Condition | None) -> list[ItemRecord]:
        """At most `count` records of rows beyond `last`."""
        asked = Expression("row >= 0", exact=True) if where is None else to_milvus(where)
        found: list[ItemRecord] = []
        while len(found) < count:
            rows = self._of.engine.rows(
                self._of.collection, asked.text, last=last, count=max(count, _LISTED), after=self.moment.written
            )
            records = self._of.items.read([item_id for _, item_id in rows])
            newest = [
                record
                for (row, _), record in zip(rows, records, strict=True)
                if record is not None and record.row == row and record.card is not None
            ]
            if where is not None and not asked.exact:
                chosen = choose(where, [(one.row, one.card) for one in newest if one.card is not None])
                newest = [one for one, is_so in zip(newest, chosen.tolist(), strict=True) if is_so]
            found += newest
            if len(rows) < max(count, _LISTED):
                break
            last = rows[-1][0]
        return found[:count]

    def _cards(self, candidates: Sequence[Candidate]) -> list[Card]:
        """In the order of the candidates; those of a shortlist have them already."""
        asked = [candidate.id for candidate in candidates if candidate.card is None]
        read = dict(zip(asked, self._of.items.read(asked), strict=True)) if asked else {}
        found = []
        for candidate in candidates:
            record = read.get(candidate.id)
            card = candidate.card or (record.card if record is not None else None)
            if card is None:
                raise ItemNotFoundError(candidate.id)
            found.append(card)
        return found

    def _one(self, item_id: str) -> tuple[ItemRecord, Card]:
        (record,) = self._of.items.read([item_id])
        if record is None or record.card is None:
            raise ItemNotFoundError(item_id)
        self._of.rows.remember({record.row: record.card.content})
        return record, record.card


def _item(card: Card) -> Item:
    return Item(card.id, card.product_id, card.metadata, *card.size, Box(*card.box))


def _stored(record: ItemRecord, card: Card, about: About) -> StoredItem:
    return StoredItem(
        card.id,
        card.product_id,
        card.metadata,
        record.source,
        about.asked_box,
        about.size,
        about.sha256,
        card.content,
        about.box,
    )
