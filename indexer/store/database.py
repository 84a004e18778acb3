"""The one truth of a gallery: how its database is opened, for writing and for reading. The tables: `store.schema`."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from threadmatch.indexer.errors import GalleryError
from threadmatch.indexer.store import upgrades
from threadmatch.indexer.store.schema import (
    APPLICATION_ID,
    EDITS,
    FEATURES,
    OLDEST_VERSION,
    SCHEMA,
    SCHEMA_VERSION,
)
from threadmatch.indexer.store.write_errors import database_reason, is_full, is_read_only

DATABASE = "gallery.sqlite3"

PAGE_BYTES = 16_384  # the regions of an item fill several pages; larger pages mean fewer of them to chase
CACHE_KIB = 16_384
READ_CACHE_KIB = 2_048  # of each reading connection; the kernel's page cache holds the rest, once for all processes
BUSY_TIMEOUT_S = 30.0

EDITS_GONE = "edits_gone"  # key in `meta`: edits up to this number were removed; every generation left holds them
ALIVE = "i.seq <= :seq AND i.until > :seq AND i.deleted = 0"


def create_or_open(folder: Path) -> sqlite3.Connection:
    """Open the gallery's database for writing; make it when there is none.

    The connection is in autocommit mode: the caller says BEGIN and COMMIT.

    Raises:
        GalleryError: the file is no gallery, or of another format.
    """
    path = folder / DATABASE
    connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
    try:
        set_up(connection)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise GalleryError(f"{path} cannot be used: {database_reason(error, folder)}") from error
    except GalleryError:
        connection.close()
        raise
    return connection


def set_up(connection: sqlite3.Connection) -> None:
    """Make a connection one for durable writing; a new file gets the schema.

    An older format becomes the newest at once; its features may stay where they were (`upgrades.finish` moves them).
    """
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # only a new file takes it
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # a committed batch survives a power cut too; one fsync a batch
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    if _number(connection, "PRAGMA application_id") == 0 and not _number(
        connection, "SELECT count(*) FROM sqlite_master"
    ):
        connection.executescript(
            f"BEGIN IMMEDIATE; {SCHEMA} {EDITS} {FEATURES} PRAGMA application_id = {APPLICATION_ID}; "
            f"PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        )
    check_format(connection)
    if _number(connection, "PRAGMA user_version") < SCHEMA_VERSION:
        upgrades.begin(connection)


def open_read_only(folder: Path) -> sqlite3.Connection:
    """Open the gallery's database for reading, from any thread but one at a time.

    A folder that cannot be written, with no writer's files in it, is opened as immutable: SQLite's WAL mode would have
    to write its shared-memory file. Whoever ingests into a served folder must give the service write access too. So is
    one whose disk is full.

    Raises:
        GalleryError: missing, not a gallery, or of another format.
    """
    path = folder / DATABASE
    if not path.is_file():
        raise GalleryError(f"{folder} is not a gallery: it has no {DATABASE}; make one with `threadmatch ingest`")
    try:
        return _open(path, "mode=ro")
    except sqlite3.DatabaseError as error:
        wal = path.with_name(path.name + "-wal")
        if not (is_read_only(error) or is_full(error, folder)):
            raise GalleryError(f"{path} cannot be used: {database_reason(error, folder)}") from error
        if wal.exists() and wal.stat().st_size:
            raise GalleryError(
                f"{path} has writes that only a writable folder can show ({database_reason(error, folder)}); give this "
                "process write access, and the disk room"
            ) from error
        try:
            return _open(path, "immutable=1")
        except sqlite3.DatabaseError as again:
            raise GalleryError(f"{path} cannot be opened: {again}") from again


def _open(path: Path, how: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{how}",
        uri=True,
        isolation_level=None,
        timeout=BUSY_TIMEOUT_S,
        check_same_thread=False,
    )
    try:
        connection.execute(f"PRAGMA cache_size = -{READ_CACHE_KIB}")
        connection.execute("PRAGMA query_only = 1")
        check_format(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def check_format(connection: sqlite3.Connection) -> None:
    """GalleryError unless this is a gallery of the format this version knows."""
    application = _number(connection, "PRAGMA application_id")
    version = _number(connection, "PRAGMA user_version")
    if application != APPLICATION_ID:
        raise GalleryError("the database is not a threadmatch gallery (another application's file)")
    if not OLDEST_VERSION <= version <= SCHEMA_VERSION:
        raise GalleryError(
            f"the gallery has format {version}, this version of threadmatch reads up to {SCHEMA_VERSION}; "
            "use the version that wrote it, or ingest the catalogue again into a new folder"
        )


def _number(connection: sqlite3.Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])
