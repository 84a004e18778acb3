"""Edits of a cluster's gallery: put an item, change one, delete one. See `indexer.edits.live_writes.Editor`.

    row, what it is of  ->  content  ->  Milvus  ->  time of the write  ->  the item's record
    store        store                   row         store                   store: from here on it is so

Each step is durable before the next one begins, and only the last one counts: a writer that dies before it leaves a row
that no search gives. Two edits of one item are in the order of their row numbers, whoever is the quicker. The row
that was there before is taken out of Milvus last; a search that still finds it knows it for an older one.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Final

from threadmatch.indexer.catalogue.values import kind_of, metadata_json
from threadmatch.indexer.cluster.contents import DOOM, FEATURE
from threadmatch.indexer.cluster.filling import new_row
from threadmatch.indexer.cluster.gallery import ClusterGallery
from threadmatch.indexer.cluster.generation import CLOSED, EDITS, ITEMS, raise_written
from threadmatch.indexer.cluster.items import ItemRecord, RowEntry
from threadmatch.indexer.cluster.snapshot import ClusterGeneration
from threadmatch.indexer.cluster.store import Command
from threadmatch.indexer.edits.live_writes import (
    KEEP,
    Change,
    ContentGoneError,
    Delete,
    Edit,
    Edited,
    Put,
    merged,
)
from threadmatch.indexer.errors import (
    EditBusyError,
    EditError,
    EditFailedError,
    IndexerError,
    StoreUnavailableError,
)
from threadmatch.indexer.store.cards import Card
from threadmatch.indexer.store.manifest import merge_kinds

logger = logging.getLogger(__name__)

TRIES: Final = 16
"""Of a change whose item others change at the same time."""


class ClusterEditor:
    """Writes edits. Thread-safe; several processes may edit one gallery.

    Args:
        gallery: opened with the model that encodes what is put; closed by whoever opened it.
    """

    def __init__(self, gallery: ClusterGallery) -> None:
        self._gallery = gallery

    def close(self) -> None:
        """Nothing is held."""

    def apply(self, edits: Sequence[Edit]) -> list[Edited | EditError]:
        """Make edits durable, in their order; each is done wholly or not at all.

        Returns:
            What became of each; an error where it was refused, or where it is not known that it was done.
        """
        return [self._answered(edit) for edit in edits]

    def _answered(self, edit: Edit) -> Edited | EditError:
        try:
            return _Edit(self._gallery.opened, self._gallery).do(edit)
        except EditError as error:
            return error
        except StoreUnavailableError as error:
            logger.warning("an edit has no answer", extra={"reason": str(error)})
            return EditBusyError("an engine of the cluster does not answer; look at the item, or repeat the change")
        except IndexerError:
            logger.exception("an edit failed")
            return EditFailedError("the gallery cannot be edited now; the service's log has the reason")


class _Edit:
    """One edit on top of a generation."""

    def __init__(self, of: ClusterGeneration, gallery: ClusterGallery) -> None:
        self._of, self._gallery, self._items = of, gallery, of.items
        self._store, self._names = of.items.store, of.items.names
        self._about = self._names.about(of.items.generation)

    def do(self, edit: Edit) -> Edited:
        self._check_open()
        match edit:
            case Delete():
                return self._delete(edit.id)
            case Change():
                return self._change(edit)
            case Put():
                return self._put(edit)

    def _put(self, edit: Put) -> Edited:
        version, number, contents = edit.version, edit.version.content, self._of.contents
        command: Command | None = None
        if edit.content is not None:
            number, command = contents.command(edit.content)
        (before,) = self._items.read([version.id])
        row = None
        if before is None or before.card is None or before.card.content != number:  # else its row names the content
            row = self._new_row(version.id, number)
            self._store.write("HDEL", contents.key(number), DOOM)  # see `clearing`: not cleared away from here on
        if command is not None and contents.lacking([number], self._of.manifest.features):
            self._store.write(*command)
        about = contents.about(number)
        if about is None:
            raise ContentGoneError("the item's photo was removed while it was put; put it again")
        card = Card(version.id, version.product_id, version.metadata, number, about.size, about.box)
        if before is not None and before.card == card and before.source == version.source:
            return Edited(existed=True, changed=False)
        _, replaced = self._written(card, version.source, row=row)
        return Edited(existed=replaced is not None and replaced.card is not None, changed=True)

    def _change(self, edit: Change) -> Edited:
        for _ in range(TRIES):
            (before,) = self._items.read([edit.id])
            if before is None or before.card is None:
                return Edited(existed=False, changed=False)
            card = before.card
            metadata = metadata_json(merged(json.loads(card.metadata), edit.metadata))
            product_id = card.product_id if edit.product_id == KEEP else edit.product_id
            after = Card(card.id, product_id, metadata, card.content, card.size, card.box)
            if after == card:
                return Edited(existed=True, changed=False)
            done, _ = self._written(after, before.source, expected=before.row)
            if done:
                return Edited(existed=True, changed=True)
        raise EditBusyError(f"others changed the item {TRIES} times meanwhile; nothing of this change was kept")

    def _delete(self, item_id: str) -> Edited:
        (before,) = self._items.read([item_id])
        if before is None or before.card is None:
            return Edited(existed=False, changed=False)
        row = self._next_row()
        self._store.write("HINCRBY", self._about, EDITS, 1)
        done, replaced = self._items.put(item_id, ItemRecord(row))
        existed = replaced is not None and replaced.card is not None
        if done and existed:
            self._store.write("HINCRBY", self._about, ITEMS, -1)
        self._check_open()
        if done and replaced is not None:
            self._forget(replaced.row)
        return Edited(existed=existed, changed=existed)

    def _written(
        self, card: Card, source: str, *, expected: int | None = None, row: int | None = None
    ) -> tuple[bool, ItemRecord | None]:
        """Whether the item is so now (else somebody's later edit stands), and how it was before.

        Args:
            card, source: of the item.
            expected: the row that it has to be in place of; None for any earlier one.
            row: a `_new_row` of this content; None for another.
        """
        row = self._new_row(card.id, card.content) if row is None else row
        spec = self._of.manifest.indexed
        record = self._of.contents.read(FEATURE + spec.key, [card.content]).get(card.content)
        if record is None:
            raise ContentGoneError("the item's photo was removed while it was put; put it again")
        new = new_row(row, card, spec.unpack([record])[0])
        self._name_columns(card)
        time = self._of.engine.insert(self._of.collection, [new])
        raise_written(self._store, self._names, self._items.generation, time)
        self._store.write("HINCRBY", self._about, EDITS, 1)
        done, replaced = self._items.put(card.id, ItemRecord(row, card, source), expected=expected)
        if done and (replaced is None or replaced.card is None):
            self._store.write("HINCRBY", self._about, ITEMS, 1)
        self._check_open()
        if not done:
            self._forget(row)
        elif replaced is not None and replaced.card is not None and replaced.row != row:
            self._forget(replaced.row)
        return done, replaced

    def _name_columns(self, card: Card) -> None:
        known = self._gallery.columns()
        for name, value in json.loads(card.metadata).items():
            kind = merge_kinds(known.get(name), kind_of(value))
            if known.get(name) != kind:
                self._store.write("HSET", self._names.columns(self._items.generation), name, kind)

    def _new_row(self, item_id: str, content: int) -> int:
        """A row of the item that names its content."""
        row = self._next_row()
        self._store.write(*self._items.entry_command(RowEntry(row, item_id, content)))
        return row

    def _next_row(self) -> int:
        return int(self._store.write("INCR", self._names.sequence))

    def _check_open(self) -> None:
        if self._store.one("HGET", self._about, CLOSED):
            raise EditBusyError("the gallery moves to another generation; repeat the change")

    def _forget(self, row: int) -> None:
        """Take an older row out of the collection; where that fails, searches know it for one all the same."""
        try:
            self._of.engine.delete(self._of.collection, [row])
        except IndexerError as error:
            logger.warning("an older row stays in Milvus", extra={"row": row, "reason": str(error)})
