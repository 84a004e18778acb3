"""Items in the store: the newest row of each id with what is shown of it, and each row's content.

An item's record is one value under one key, put there by `SWAP`: so it changes in one step, and which of two edits is
the later one is decided by their row numbers, not by who arrives last. A search trusts it alone: a row that Milvus
finds counts if the item's record names that row.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from threadmatch.indexer.cluster.names import CONTENT_BYTES, ROWS_A_BUCKET, Names
from threadmatch.indexer.cluster.store import Command, RecordStore
from threadmatch.indexer.errors import GalleryError
from threadmatch.indexer.store import cards
from threadmatch.indexer.store.cards import Card
from threadmatch.indexer.store.records import checksum

_ROW_DIGITS: Final = 19
_HEAD: Final = struct.Struct(f"<I{CONTENT_BYTES}sI")  # CRC-32C of content and the rest, content, bytes of the source


@dataclass(frozen=True, slots=True)
class ItemRecord:
    """The newest version of an item.

    Fields:
        row: its number; the later of two is the higher.
        card: what is shown of it, None where it was deleted. Its content is a `content_number`.
        source: path or address that its photo came from.
    """

    row: int
    card: Card | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class RowEntry:
    """What a row is of, for ever: the item's id, and its content's number."""

    row: int
    id: str
    content: int


def pack(record: ItemRecord) -> bytes:
    """A record."""
    head = b"%0*d" % (_ROW_DIGITS, record.row)
    if record.card is None:
        return head
    card, source = record.card, record.source.encode()
    shown = Card(card.id, card.product_id, card.metadata, 0, card.size, card.box)
    content, rest = card.content.to_bytes(CONTENT_BYTES, "big"), source + cards.pack(shown)
    return head + _HEAD.pack(checksum(content + rest), content, len(source)) + rest


def unpack(data: bytes) -> ItemRecord:
    """Read what `pack` wrote; GalleryError for anything else."""
    try:
        if len(data) < _ROW_DIGITS:
            raise ValueError(f"it has {len(data)} bytes")
        row, rest = int(data[:_ROW_DIGITS]), data[_ROW_DIGITS:]
        if not rest:
            return ItemRecord(row)
        crc, content, source_bytes = _HEAD.unpack_from(rest)
        if checksum(content + rest[_HEAD.size :]) != crc:
            raise ValueError("its checksum does not match")
        end = _HEAD.size + source_bytes
        shown = cards.unpack(rest[end:])
        source = rest[_HEAD.size : end].decode()
    except (ValueError, struct.error) as error:
        raise GalleryError(
            f"an item's record in the store is damaged: {error}; copy the gallery there again"
        ) from error
    number = int.from_bytes(content, "big")
    return ItemRecord(row, Card(shown.id, shown.product_id, shown.metadata, number, shown.size, shown.box), source)


class Items:
    """The items of one generation. Thread-safe.

    Args:
        store: of the cluster.
        names: of the gallery.
        generation: which.
    """

    def __init__(self, store: RecordStore, names: Names, generation: str) -> None:
        self.store, self.names, self.generation = store, names, generation

    def read(self, ids: Sequence[str]) -> list[ItemRecord | None]:
        """The newest versions, in the order of the ids; None where there never was one."""
        found = self.store.ask([("GET", self.names.item(self.generation, item_id)) for item_id in ids])
        return [None if data is None else unpack(data) for data in found]

    def put(self, item_id: str, record: ItemRecord, *, expected: int | None = None) -> tuple[bool, ItemRecord | None]:
        """Put a version in place of an earlier one.

        Args:
            item_id: of the item.
            record: the version.
            expected: only in place of the version of this row, -1 for none; None for whichever is earlier.

        Returns:
            Whether it is there now, and the one before: where it is not, the one that stayed.
        """
        key = self.names.item(self.generation, item_id)
        wanted = "" if expected is None else str(expected)
        done, before = self.store.swap(key, pack(record), expected=wanted)
        return done, unpack(before) if before else None

    def entry_command(self, entry: RowEntry) -> Command:
        """What writes down what a row is of; to be sent before the row can be found."""
        value = entry.content.to_bytes(CONTENT_BYTES, "big") + entry.id.encode()
        return "HSET", self.names.bucket(self.generation, entry.row), str(entry.row % ROWS_A_BUCKET), value

    def contents(self, rows: Sequence[int]) -> dict[int, int]:
        """Contents' numbers by row; rows that never were are left out."""
        found = self.store.ask(
            [("HGET", self.names.bucket(self.generation, row), str(row % ROWS_A_BUCKET)) for row in rows]
        )
        return {
            row: int.from_bytes(value[:CONTENT_BYTES], "big")
            for row, value in zip(rows, found, strict=True)
            if value is not None
        }

    def entries(self, first: int, last: int) -> Iterator[RowEntry]:
        """What rows are of, ascending, later versions and deleted ones too; a few thousand in memory.

        Args:
            first, last: row numbers, both included.
        """
        step = 16 * ROWS_A_BUCKET
        for start in range(first - first % ROWS_A_BUCKET, last + 1, step):
            starts = range(start, min(start + step, last + 1), ROWS_A_BUCKET)
            found = self.store.ask([("HGETALL", self.names.bucket(self.generation, row)) for row in starts])
            for bucket, fields in zip(starts, found, strict=True):
                for field, value in sorted(_pairs(fields), key=lambda pair: int(pair[0])):
                    row = bucket + int(field)
                    if first <= row <= last:
                        content = int.from_bytes(value[:CONTENT_BYTES], "big")
                        yield RowEntry(row, value[CONTENT_BYTES:].decode(), content)

    def live(self, first: int, last: int, *, block: int = 512) -> Iterator[ItemRecord]:
        """Items whose newest version is one of these rows, ascending."""
        waiting: list[RowEntry] = []
        for entry in self.entries(first, last):
            waiting.append(entry)
            if len(waiting) == block:
                yield from self._newest(waiting)
                waiting = []
        yield from self._newest(waiting)

    def _newest(self, entries: Sequence[RowEntry]) -> Iterator[ItemRecord]:
        records = self.read([entry.id for entry in entries])
        for entry, record in zip(entries, records, strict=True):
            if record is not None and record.card is not None and record.row == entry.row:
                yield record


def _pairs(fields: Any) -> list[tuple[bytes, bytes]]:
    """Of HGETALL: a client may have made a dictionary of it, or not."""
    if isinstance(fields, Mapping):
        return list(fields.items())
    return list(zip(fields[::2], fields[1::2], strict=True))


def metadata_of(card: Card) -> dict[str, Any]:
    """An item's metadata."""
    found: dict[str, Any] = json.loads(card.metadata)
    return found
