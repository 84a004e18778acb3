"""The tables of a gallery's database.

A row of `items` is one version of an item. It holds from its own number `seq` up to, but not including, `until`; so the
set of items at any number S is `seq <= S AND until > S AND NOT deleted` (`ALIVE`), and a generation is a number. A
delete is a row. What a photo became is a row of `contents`, shared by all versions of all items with that photo and
box, with a row of `features` for each feature that the gallery keeps (`meta` lists them) and one of `photos`.

A row of `edits` is one change made while the gallery is in service: an item put, or one deleted. Edits have numbers of
their own, so that they never meet the rows of an ingestion that runs at the same time. What is in service is a
generation and, on top of it, the newest edit of each id among those numbered above the generation's own (`edits` of its
manifest). Folding writes edits into `items` and publishes the outcome; `meta` says below which number edits are gone.

`features` has row numbers of its own: WITHOUT ROWID a record spills from its page sooner, and 200 records of 12 KB took
6.9 ms and 26 MB of reading in place of 1.4 ms and 4 MB.
"""

from __future__ import annotations

from typing import Final

SCHEMA_VERSION: Final = 3
OLDEST_VERSION: Final = 1  # read as it is, brought up by the first process that writes (`indexer.store.upgrades`)
APPLICATION_ID: Final = 0x74686D61  # "thma"
FOREVER: Final = 2**62  # `until` of a version that nothing has replaced

SCHEMA: Final = f"""
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

CREATE TABLE photos (content INTEGER PRIMARY KEY, data BLOB NOT NULL, crc32c INTEGER NOT NULL);  -- JPEG
"""

EDITS: Final = """
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

FEATURES: Final = """
CREATE TABLE features (
    content INTEGER NOT NULL,
    name TEXT NOT NULL,
    data BLOB NOT NULL,               -- as `FeatureSpec.pack` writes it
    crc32c INTEGER NOT NULL,
    PRIMARY KEY (content, name)
);
"""
