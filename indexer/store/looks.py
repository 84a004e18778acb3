"""What near-duplicates are told by, found once for each content: its photo's cells, and what it was compared with.

A record of `looks` is written once and never changed: the mean colours of the photo's cells (`model.same_photo`), then
the earlier contents that could be the same photo by them, each with the verdict of the comparison. So a search decides
most pairs by a subtraction and nearly all the others by looking them up. Everything here is derived: a content without
a record, or with a damaged one, is compared when a search meets it.

Letters  G cells a side
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from threadmatch.indexer.store.records import checksum, has_table, read_rows
from threadmatch.model.same_photo import CELLS, Lab

TABLE: Final = "looks"
_SCHEMA: Final = (
    f"CREATE TABLE IF NOT EXISTS {TABLE} (content INTEGER PRIMARY KEY, data BLOB NOT NULL, crc32c INTEGER NOT NULL)"
)
_CELLS_BYTES: Final = 2 * 3 * CELLS**2


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What one photo looks like; made by `look_of`, or read.

    Fields:
        content: its number, 0 where it has none yet.
        data: the record: (G, G, 3) float16, then an int64 a comparison: the other's number, negative where it is
            another photo. Empty where the photo is no picture, which is then alike to none.
    """

    content: int
    data: bytes

    @property
    def cells(self) -> Lab | None:
        """(G, G, 3) mean colours in Lab, rounded to float16; None where there is no picture."""
        if not self.data:
            return None
        return np.frombuffer(self.data[:_CELLS_BYTES], "<f2").astype(np.float32).reshape(CELLS, CELLS, 3)

    @property
    def verdicts(self) -> dict[int, bool]:
        """Contents it was compared with, and whether each is the same photo."""
        return {abs(number): number > 0 for number in np.frombuffer(self.data[_CELLS_BYTES:], "<i8").tolist()}


def known_cells(looks: Sequence[Look | None]) -> tuple[NDArray[np.bool_], Lab]:
    """Of N looks: (N,) whose cells are known, and (N, G, G, 3) those cells, 0 where they are not."""
    known = np.array([look is not None and bool(look.data) for look in looks], bool)
    cells = np.zeros((len(looks), CELLS, CELLS, 3), np.float32)
    if known.any():
        records = b"".join(look.data[:_CELLS_BYTES] for look in looks if look is not None and look.data)
        cells[known] = np.frombuffer(records, "<f2").reshape(-1, CELLS, CELLS, 3)
    return known, cells


def may_be_pictures(looks: Sequence[Look | None]) -> NDArray[np.bool_]:
    """(N,) of N looks: False where the photo is known to be no picture, which is then like no other."""
    return np.array([look is None or bool(look.data) for look in looks], bool)


def look_of(cells: Lab | None, verdicts: Mapping[int, bool], *, content: int = 0) -> Look:
    """Pack what was found of a photo; None for `cells` where it is no picture."""
    if cells is None:
        return Look(content, b"")
    numbers = [other if same else -other for other, same in sorted(verdicts.items())]
    return Look(content, cells.astype("<f2").tobytes() + np.array(numbers, "<i8").tobytes())


def write(connection: sqlite3.Connection, looks: Iterable[Look]) -> None:
    """Add records, in the transaction that runs; one that is there already stays."""
    connection.execute(_SCHEMA)
    connection.executemany(
        f"INSERT OR IGNORE INTO {TABLE} VALUES (?, ?, ?)",  # noqa: S608
        [(look.content, look.data, checksum(look.data)) for look in looks],
    )


def read(connection: sqlite3.Connection, contents: Iterable[int]) -> dict[int, Look]:
    """The records that are there and whole, by content."""
    rows = read_rows(connection, TABLE, f"SELECT content, data, crc32c FROM {TABLE} WHERE", set(contents))  # noqa: S608
    return {content: Look(content, data) for content, (data, crc) in rows.items() if _whole(data, crc)}


def missing(connection: sqlite3.Connection, alive: str, values: Mapping[str, int]) -> Sequence[int]:
    """Contents of live items without a record, ascending.

    Args:
        alive: SQL condition on the row `i` of `items`.
        values: its named values.
    """
    absent = f" AND NOT EXISTS (SELECT 1 FROM {TABLE} l WHERE l.content = i.content)"  # noqa: S608
    query = f"SELECT DISTINCT i.content FROM items i WHERE {alive}"  # noqa: S608
    rows = connection.execute(query + (absent if has_table(connection, TABLE) else "") + " ORDER BY 1", values)
    return [content for (content,) in rows]


def damaged(connection: sqlite3.Connection) -> list[int]:
    """Contents whose record fails its checksum."""
    if not has_table(connection, TABLE):
        return []
    rows = connection.execute(f"SELECT content, data, crc32c FROM {TABLE}")  # noqa: S608
    return [content for content, data, crc in rows if not _whole(data, crc)]


def drop_damaged(connection: sqlite3.Connection) -> int:
    """Delete the records that fail their checksum, so that they are made again. Returns how many."""
    bad = damaged(connection)
    connection.executemany(f"DELETE FROM {TABLE} WHERE content = ?", [(content,) for content in bad])  # noqa: S608
    return len(bad)


def _whole(data: bytes, crc: int) -> bool:
    return checksum(data) == crc and (not data or (len(data) - _CELLS_BYTES) % 8 == 0 <= len(data) - _CELLS_BYTES)
