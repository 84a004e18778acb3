"""The one truth of a gallery: its SQLite schema, and how the database is opened for writing and for reading.

A row of `items` is one version of an item. It holds from its own number `seq` up to, but not including, `until`; so the
set of items at any number S is `seq <= S AND until > S AND NOT deleted` (`ALIVE`), and a generation is a number. A
delete is a row. What a photo became (features, display photo) is a row of `contents`, shared by all versions of all
items with that photo and box.

A row of `edits` is one change made while the gallery is in service: an item put, or one deleted. Edits have numbers of
their own, so that they never meet the rows of an ingestion that runs at the same time. What is in service is a
generation and, on top of it, the newest edit of each id among those numbered above the generation's own (`edits` of its
manifest). Folding writes edits into `items` and publishes the outcome; `meta` says below which number edits are gone.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from threadmatch.indexer.errors import GalleryError

DATABASE = "gallery.sqlite3"
SCHEMA_VERSION = 2
OLDEST_VERSION = 1  # read as it is, brought up to date by the first process that writes
APPLICATION_ID = 0x74686D61  # "thma"
FOREVER = 2**62  # `until` of a version that nothing has replaced

PAGE_BYTES = 16_384  # the regions of an item fill several pages; larger pages mean fewer of them to chase
CACHE_KIB = 16_384
READ_CACHE_KIB = 2_048  # of each reading connection; the kernel's page cache holds the rest, once for all processes
BUSY_TIMEOUT_S = 30.0

EDITS_GONE = "edits_gone"  # key in `meta`: edits up to this number were removed; every generation left holds them
ALIVE = "i.seq <= :seq AND i.until > :seq AND i.deleted = 0"

_SCHEMA = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE runs (
    run INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,               -- ingest, edit
    plan TEXT NOT NULL,               -- hash of all that decides the outcome: only the same plan is continued
    base TEXT NOT NULL,               -- generation it builds on, '' for none
    first_content INTEGER NOT NULL,   -- older contents are not used again: 0, or where a --fresh run began
    state TEXT NOT NULL CHECK (state IN ('open', 'published')),
    generation TEXT,
    started TEXT NOT NULL,
    finished TEXT,
    edits INTEGER NOT NULL DEFAULT 0  -- edits up to this number were made before the run began, and are in it
);

CREATE TABLE items (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    until INTEGER NOT NULL DEFAULT {FOREVER},
    id TEXT NOT NULL,
    deleted INTEGER NOT NULL DEFAULT 0,
    product_id TEXT,
    metadata TEXT NOT NULL DEFAULT '{{}}',
    source TEXT NOT NULL DEFAULT '',
    content INTEGER NOT NULL DEFAULT 0,
    run INTEGER NOT NULL,
    row INTEGER                       -- of the catalogue, NULL for a version that no catalogue row asked for
);
CREATE INDEX items_by_id ON items (id, seq);
CREATE INDEX items_by_run ON items (run);
CREATE INDEX items_by_content ON items (content);

CREATE TABLE contents (
    content INTEGER PRIMARY KEY AUTOINCREMENT,
    source TEXT NOT NULL,             -- path or address it came from: a hint, to look it up before the bytes are read
    sha256 TEXT NOT NULL,             -- of the source's bytes
    asked_box TEXT NOT NULL,          -- as in the catalogue, '' for the whole image
    width INTEGER NOT NULL, height INTEGER NOT NULL,
    x0 REAL NOT NULL, y0 REAL NOT NULL, x1 REAL NOT NULL, y1 REAL NOT NULL
);
CREATE INDEX contents_by_sha256 ON contents (sha256, asked_box);
CREATE INDEX contents_by_source ON contents (source, asked_box);

CREATE TABLE embeddings (content INTEGER PRIMARY KEY, data BLOB NOT NULL, crc32c INTEGER NOT NULL);  -- (E,) float32
CREATE TABLE regions (content INTEGER PRIMARY KEY, data BLOB NOT NULL, crc32c INTEGER NOT NULL);     -- (R, C) float16
CREATE TABLE photos (content INTEGER PRIMARY KEY, data BLOB NOT NULL, crc32c INTEGER NOT NULL);      -- JPEG
"""

_EDITS = """
CREATE TABLE edits (
    edit INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    deleted INTEGER NOT NULL DEFAULT 0,
    product_id TEXT,
    metadata TEXT NOT NULL DEFAULT '{}',
    source TEXT NOT NULL DEFAULT '',
    content INTEGER NOT NULL DEFAULT 0,
    made TEXT NOT NULL                -- UTC, ISO 8601
);
CREATE INDEX edits_by_id ON edits (id, edit);
CREATE INDEX edits_by_content ON edits (content);
"""

_UPGRADE_1 = f"ALTER TABLE runs ADD COLUMN edits INTEGER NOT NULL DEFAULT 0; DROP TABLE seen; {_EDITS}"


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
        raise GalleryError(f"{path} is not a usable gallery database: {error}") from error
    except GalleryError:
        connection.close()
        raise
    return connection


def set_up(connection: sqlite3.Connection) -> None:
    """Make a connection one for durable writing; a new file gets the schema, an older format the newest."""
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # only a new file takes it
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # a committed batch survives a power cut too; one fsync a batch
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    if _number(connection, "PRAGMA application_id") == 0 and not _number(
        connection, "SELECT count(*) FROM sqlite_master"
    ):
        connection.executescript(
            f"BEGIN IMMEDIATE; {_SCHEMA} {_EDITS} PRAGMA application_id = {APPLICATION_ID}; "
            f"PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        )
    check_format(connection)
    if _number(connection, "PRAGMA user_version") == OLDEST_VERSION:
        _upgrade(connection)


def _upgrade(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")  # another process may be at it: whoever comes second finds it done
    if _number(connection, "PRAGMA user_version") == OLDEST_VERSION:
        for statement in _UPGRADE_1.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")


def open_read_only(folder: Path) -> sqlite3.Connection:
    """Open the gallery's database for reading, from any thread but one at a time.

    A folder that cannot be written, with no writer's files in it, is opened as immutable: SQLite's WAL mode would have
    to write its shared-memory file. Whoever ingests into a served folder must give the service write access too.

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
        if "open" not in str(error) and "readonly" not in str(error):
            raise GalleryError(f"{path} is not a usable gallery database: {error}") from error
        if wal.exists() and wal.stat().st_size:
            raise GalleryError(
                f"{path} has writes that only a writable folder can show ({error}); give this process write access"
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
