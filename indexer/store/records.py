"""Records of `features`: packed bytes, each with a checksum. The only module that reads and writes them.

Formats 1 and 2 kept two features, each in a table of its own. Reading looks there first, then in `features`: a row only
ever moves that way, in one transaction (`indexer.store.upgrades`), so whoever reads finds each in one of the two
whatever another process does meanwhile.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import google_crc32c

from threadmatch.model.features import EMBEDDING, REGIONS, FeatureSpec

FORMER_TABLES: Final = {EMBEDDING: "embeddings", REGIONS: "regions"}
"""Where formats 1 and 2 kept a feature."""


def checksum(data: bytes) -> int:
    """CRC-32C."""
    return int(google_crc32c.value(data))


def read(connection: sqlite3.Connection, spec: FeatureSpec, contents: Iterable[int]) -> dict[int, bytes]:
    """The records of one feature that are there and whole, by content: neither torn, nor missing, nor of another size.

    Args:
        connection: to the gallery's database, of any format.
        spec: the feature.
        contents: numbers in `contents`; what is not there is passed over.
    """
    wanted = set(contents)
    rows: dict[int, tuple[bytes, int]] = {}
    former = FORMER_TABLES.get(spec.name)
    if former is not None and has_table(connection, former):
        rows = read_rows(connection, former, f"SELECT content, data, crc32c FROM {former} WHERE", wanted)  # noqa: S608
    missing = wanted - rows.keys()
    if missing:
        rows |= read_rows(
            connection, "features", "SELECT content, data, crc32c FROM features WHERE name = :name AND", missing, spec
        )
    return {
        content: data for content, (data, crc) in rows.items() if len(data) == spec.size_bytes and checksum(data) == crc
    }


def read_photos(connection: sqlite3.Connection, contents: Iterable[int]) -> dict[int, bytes]:
    """The display photos (JPEG) that are there and whole, by content."""
    rows = read_rows(connection, "photos", "SELECT content, data, crc32c FROM photos WHERE", set(contents))
    return {content: data for content, (data, crc) in rows.items() if checksum(data) == crc}


def write(connection: sqlite3.Connection, content: int, records: Mapping[str, bytes]) -> None:
    """Add a content's records, by `FeatureSpec.key`, in the transaction that runs."""
    connection.executemany(
        "INSERT INTO features (content, name, data, crc32c) VALUES (?, ?, ?, ?)",
        [(content, name, data, checksum(data)) for name, data in records.items()],
    )


def undamaged(connection: sqlite3.Connection, content: int, specs: Sequence[FeatureSpec]) -> bool:
    """Whether all that is kept of a photo is whole: each feature, and the display photo."""
    if not all(read(connection, spec, [content]) for spec in specs):
        return False
    return bool(read_photos(connection, [content]))


def has_table(connection: sqlite3.Connection, name: str) -> bool:
    """Whether the database has a table of this name, now."""
    query = "SELECT 1 FROM main.sqlite_master WHERE type = 'table' AND name = ?"
    return connection.execute(query, (name,)).fetchone() is not None


def read_rows(
    connection: sqlite3.Connection, table: str, query: str, contents: set[int], spec: FeatureSpec | None = None
) -> dict[int, tuple[bytes, int]]:
    """Data and checksum by content, unchecked; empty where the table is not there (yet, or any more).

    Args:
        table: that the query reads.
        query: gives content, data and checksum; ends where a condition on `content` follows.
        contents: numbers in `contents`.
        spec: whose name the query binds as `:name`.
    """
    values = {"contents": json.dumps(sorted(contents)), **({"name": spec.key} if spec else {})}
    try:
        query = f"{query} content IN (SELECT value FROM json_each(:contents))"  # noqa: S608
        found = connection.execute(query, values)
        return {content: (data, crc) for content, data, crc in found}
    except sqlite3.OperationalError:
        if has_table(connection, table):
            raise
        return {}  # not made yet, or dropped since it was looked for
