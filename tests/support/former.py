"""Galleries as earlier releases left them, made from one of today: for tests that need a large or a special one.

`tests/golden` holds a gallery that the release before made itself.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

from threadmatch.indexer.store.database import DATABASE
from threadmatch.indexer.store.generations import GENERATIONS, MANIFEST_FILE
from threadmatch.model.features import FeatureSpec

TO_2 = """
CREATE TABLE embeddings (content INTEGER PRIMARY KEY, data BLOB NOT NULL, crc32c INTEGER NOT NULL);
CREATE TABLE regions (content INTEGER PRIMARY KEY, data BLOB NOT NULL, crc32c INTEGER NOT NULL);
INSERT INTO embeddings SELECT content, data, crc32c FROM features WHERE name = 'embedding' ORDER BY content;
INSERT INTO regions SELECT content, data, crc32c FROM features WHERE name = 'regions' ORDER BY content;
DROP TABLE features;
PRAGMA user_version = 2;
"""
TO_1 = """
DROP TABLE edits;
ALTER TABLE runs DROP COLUMN edits;
CREATE TABLE seen (id TEXT PRIMARY KEY, row INTEGER NOT NULL) WITHOUT ROWID;
PRAGMA user_version = 1;
"""


def make_former(folder: Path, *, version: int) -> None:
    """Turn a gallery of today into one of format 1 or 2; format 1 loses its edits."""
    database = sqlite3.connect(folder / DATABASE, isolation_level=None)
    has_features = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'features'").fetchone()
    if has_features:
        database.executescript(TO_2)
        (listed,) = database.execute("SELECT value FROM meta WHERE key = 'features'").fetchone()
        for key, value in _sizes(json.loads(listed)).items():
            database.execute("INSERT INTO meta VALUES (?, ?)", (key, str(value)))
        database.execute("DELETE FROM meta WHERE key = 'features'")
    if version == 1:
        database.executescript(TO_1)
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    for path in (folder / GENERATIONS).glob(f"*/{MANIFEST_FILE}"):
        manifest = json.loads(path.read_text("utf-8"))
        if "features" in manifest:
            sizes = _sizes(manifest.pop("features"))
            manifest["embedding_dim"] = sizes["embedding_dim"]
            manifest["regions_shape"] = [sizes["regions_rows"], sizes["regions_channels"]]
        if version == 1:
            del manifest["edits"]
        path.write_text(json.dumps(manifest | {"format": version}), "utf-8")


def _sizes(listed: list[dict[str, Any]]) -> dict[str, int]:
    shapes = {spec.name: spec.shape for spec in map(FeatureSpec.from_dict, listed)}
    rows, channels = shapes["regions"]
    return {"embedding_dim": shapes["embedding"][0], "regions_rows": rows, "regions_channels": channels}
