"""Brings a database of an older format up. Killed at any moment, it goes on where it was.

    begin    one short transaction, by the first process that writes: the tables of this format; features stay in theirs
    finish   by the first that holds the gallery's lock: moves the features, some contents a transaction

While they move, searches and edits go on: a record is in its former table or in `features`, never in both or neither,
and `records.read` looks in both. Pages that a batch leaves free are the next one's, so the file hardly grows.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time

from threadmatch.indexer.store.manifest import former_features
from threadmatch.indexer.store.records import FORMER_TABLES, has_table
from threadmatch.indexer.store.schema import EDITS, FEATURES, SCHEMA_VERSION

logger = logging.getLogger(__name__)

BATCH_CONTENTS = 256  # a transaction of some 4 MB
REST_SHARE = 0.25  # of a batch's time: the database is free for edits that wait
FEATURES_KEY = "features"  # in `meta`: what the gallery keeps of each photo, JSON
FORMER_KEYS = ("embedding_dim", "regions_rows", "regions_channels")  # which said so in formats 1 and 2

_TO_2 = f"ALTER TABLE runs ADD COLUMN edits INTEGER NOT NULL DEFAULT 0; DROP TABLE seen; {EDITS}"


def begin(connection: sqlite3.Connection) -> None:
    """Make a database of format 1 or 2 one of this format; its features stay where they are for now."""
    connection.execute("BEGIN IMMEDIATE")  # another process may be at it: whoever comes second finds it done
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version < SCHEMA_VERSION:
        for statement in [*(_TO_2.split(";") if version == 1 else ()), *FEATURES.split(";")]:
            connection.execute(statement)
        _name_features(connection)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")


def _name_features(connection: sqlite3.Connection) -> None:
    meta = dict(connection.execute("SELECT key, value FROM meta").fetchall())
    if not all(key in meta for key in FORMER_KEYS):
        return  # nothing was ever encoded
    specs = former_features(*(int(meta[key]) for key in FORMER_KEYS))
    value = json.dumps([spec.to_dict() for spec in specs])
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (FEATURES_KEY, value))
    connection.executemany("DELETE FROM meta WHERE key = ?", [(key,) for key in FORMER_KEYS])


def finish(connection: sqlite3.Connection) -> None:
    """Move what is left in the former tables to `features`, then drop them. The caller holds the gallery's lock."""
    if not any(has_table(connection, table) for table in FORMER_TABLES.values()):
        return
    logger.info("bringing the gallery to a newer format", extra={"format": SCHEMA_VERSION})
    started, moved = time.monotonic(), 0
    while True:
        batch_started = time.monotonic()
        count = _move(connection)
        if not count:
            break
        moved += count
        logger.debug("a batch has moved", extra={"contents": moved})
        time.sleep(REST_SHARE * (time.monotonic() - batch_started))
    seconds = round(time.monotonic() - started, 3)
    logger.info("gallery brought to a newer format", extra={"contents": moved, "seconds": seconds})


def _move(connection: sqlite3.Connection) -> int:
    """Move one batch; how many contents that was. With nothing left the former tables go."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        tables = {name: table for name, table in FORMER_TABLES.items() if has_table(connection, table)}
        listed = " UNION ".join(f"SELECT content FROM {table}" for table in tables.values())  # noqa: S608
        query = f"SELECT count(*), max(content) FROM ({listed} ORDER BY content LIMIT ?)"  # noqa: S608
        count, last = connection.execute(query, (BATCH_CONTENTS,)).fetchone() if tables else (0, None)
        for name, table in tables.items():
            if not count:
                connection.execute(f"DROP TABLE {table}")
                continue
            connection.execute(
                f"INSERT INTO features SELECT content, ?, data, crc32c FROM {table} WHERE content <= ?",  # noqa: S608
                (name, last),
            )
            connection.execute(f"DELETE FROM {table} WHERE content <= ?", (last,))  # noqa: S608
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return int(count)
