"""The writing side of the database: runs, row versions, contents. One writer at a time (`generations.lock`).

Edits (`indexer.edits.live_writes`) are written beside it at any time, so every transaction here is a short one.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from threadmatch.indexer.store import records, upgrades
from threadmatch.indexer.store.contents import Content, add_content, find_content
from threadmatch.indexer.store.database import BUSY_TIMEOUT_S, create_or_open
from threadmatch.indexer.store.manifest import Manifest
from threadmatch.indexer.store.schema import FOREVER
from threadmatch.model.features import FeatureSpec


@dataclass(frozen=True, slots=True)
class Run:
    """One piece of writing, from its start to the generation it publishes."""

    run: int
    kind: str
    plan: str
    base: str
    first_content: int
    edits: int  # made before it began: they are in it; later ones stay on top of what it publishes


@dataclass(frozen=True, slots=True)
class Version:
    """What one version of an item says; two equal ones are the same version."""

    id: str
    product_id: str | None
    metadata: str  # JSON object, as `catalogue_values.metadata_json` writes it
    source: str
    content: int


CHECKPOINT_WAIT_MS = 500
IN_TABLE = "table:"
"""Begins the source of a photo that stood in the catalogue itself."""
NEWEST_EDITS = "SELECT max(edit) FROM edits WHERE edit > :after AND edit <= :upto GROUP BY id"


def now() -> str:
    """UTC, ISO 8601, seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Store:
    """A gallery's database, open for writing. Not thread-safe; the caller holds the gallery's lock.

    Args:
        folder: of the gallery; the database is made when missing, brought up when of an older format.
    """

    def __init__(self, folder: Path) -> None:
        self.connection = create_or_open(folder)
        try:
            upgrades.finish(self.connection)
        except BaseException:
            self.connection.close()
            raise
        self._features: tuple[FeatureSpec, ...] | None = None
        # Ids the running ingestion has met: a table, since a catalogue may be larger than memory, and a temporary one,
        # which needs no write lock.
        self.connection.execute("CREATE TEMP TABLE seen (id TEXT PRIMARY KEY, row INTEGER NOT NULL) WITHOUT ROWID")

    def close(self) -> None:
        """Close, rolling back what was not committed."""
        self.connection.close()

    # Transactions. A batch begins with its first write and ends with `commit`.

    def begin(self) -> None:
        """Start a transaction unless one is running."""
        if not self.connection.in_transaction:
            self.connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Make everything since `begin` durable."""
        if self.connection.in_transaction:
            self.connection.execute("COMMIT")

    def checkpoint(self) -> None:
        """Bring the write-ahead log into the database file, so that a copy of that file is whole.

        While it waits for readers nobody can write, so it does not wait long; whatever is left comes with a later one.
        """
        self.connection.execute(f"PRAGMA busy_timeout = {CHECKPOINT_WAIT_MS}")
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.connection.execute(f"PRAGMA busy_timeout = {int(1000 * BUSY_TIMEOUT_S)}")

    # Meta: what the gallery is tied to.

    def meta(self) -> dict[str, str]:
        """All keys and values; empty for a new gallery."""
        return dict(self.connection.execute("SELECT key, value FROM meta").fetchall())

    def set_meta(self, values: dict[str, str]) -> None:
        """Write keys, in a transaction of their own."""
        self.begin()
        self.connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(values.items()))
        self._features = None
        self.commit()

    @property
    def features(self) -> tuple[FeatureSpec, ...]:
        """What is kept of photos that are added; none before the gallery is tied to a model.

        Of what a part of the model makes, older photos may lack records (`kept_of_all`).
        """
        if self._features is None:
            listed = json.loads(self.meta().get(upgrades.FEATURES_KEY, "[]"))
            self._features = tuple(FeatureSpec.from_dict(values) for values in listed) or None
        return self._features or ()

    def start_over(self, *, unless_tied_to: str, even_encoded: bool) -> None:
        """Let another model have a gallery that never published anything.

        Args:
            unless_tied_to: features fingerprint of the model that comes now; its own rows stay.
            even_encoded: also where photos were encoded already; they are lost.
        """
        tied_to = self.meta().get("features_fingerprint", unless_tied_to)
        if tied_to == unless_tied_to or (self._number("SELECT count(*) FROM contents") and not even_encoded):
            return
        self.begin()
        for table in ("meta", "runs", "items", "contents", "features", "photos", "edits"):
            self.connection.execute(f"DELETE FROM {table}")  # noqa: S608
        self._features = None
        self.commit()

    # Runs.

    def open_run(self) -> Run | None:
        """The run that was begun and not published, if any."""
        row = self.connection.execute(
            "SELECT run, kind, plan, base, first_content, edits FROM runs"
            " WHERE state = 'open' ORDER BY run DESC LIMIT 1"
        ).fetchone()
        return Run(*row) if row else None

    def start_run(self, *, kind: str, plan: str, base: Manifest | None, fresh: bool = False, fold: bool = True) -> Run:
        """Begin a run on top of a generation; leaves a transaction open.

        After a rollback the database holds versions newer than the generation in service. The run takes them back
        with versions of its own, so that it builds on what is in service and nothing else. Then it takes up the edits
        made so far.

        Args:
            kind, plan: for the table of runs.
            base: the generation it builds on.
            fresh: use no features encoded before.
            fold: False leaves the edits made so far out, for good.
        """
        assert self.open_run() is None, "an unfinished run must be continued or dropped first"
        self.begin()
        edits = last_number(self.connection, "edits")
        first = 1 + self._number("SELECT coalesce(max(content), 0) FROM contents") if fresh else 0
        cursor = self.connection.execute(
            "INSERT INTO runs (kind, plan, base, first_content, state, started, edits)"
            " VALUES (?, ?, ?, ?, 'open', ?, ?)",
            (kind, plan, base.generation if base else "", first, now(), edits),
        )
        run = Run(int(cursor.lastrowid or 0), kind, plan, base.generation if base else "", first, edits)
        self._take_back(run, base.seq if base else 0)
        if fold and base is not None:
            self._fold_edits(run, base.edits)
        return run

    def drop_run(self, run: Run) -> None:
        """Forget an unfinished run's versions. Contents stay: whatever needs the same photo takes them."""
        self.begin()
        first = self._number("SELECT min(seq) FROM items WHERE run = ?", run.run)
        if first:
            self.connection.execute(
                f"UPDATE items SET until = {FOREVER} WHERE until >= ? AND until < {FOREVER}",  # noqa: S608
                (first,),
            )
            self.connection.execute("DELETE FROM items WHERE run = ?", (run.run,))
        self.connection.execute("DELETE FROM runs WHERE run = ?", (run.run,))
        self.commit()

    def finish_run(self, run: Run, generation: str) -> None:
        """Mark a run as published in this generation."""
        self.begin()
        self.connection.execute(
            "UPDATE runs SET state = 'published', generation = ?, finished = ? WHERE run = ?",
            (generation, now(), run.run),
        )
        self.commit()

    def _take_back(self, run: Run, base_seq: int) -> None:
        changed = self.connection.execute(
            "SELECT DISTINCT id FROM items WHERE seq > :base OR (until > :base AND until < :forever) ORDER BY id",
            {"base": base_seq, "forever": FOREVER},
        )
        for (item_id,) in changed.fetchall():
            row = self.connection.execute(
                "SELECT id, product_id, metadata, source, content FROM items"
                " WHERE id = ? AND seq <= ? AND until > ? AND deleted = 0",
                (item_id, base_seq, base_seq),
            ).fetchone()
            current = self.live_version(item_id)
            if row is not None and Version(*row) != current:
                self.put_version(run, Version(*row))
            elif row is None and current is not None:
                self.delete(run, [item_id])

    def _fold_edits(self, run: Run, after: int) -> None:
        """Write the newest edit of each id as a version of the run's own."""
        rows = self.connection.execute(
            f"SELECT deleted, id, product_id, metadata, source, content FROM edits WHERE edit IN ({NEWEST_EDITS})"  # noqa: S608
            " ORDER BY edit",
            {"after": after, "upto": run.edits},
        )
        for deleted, *fields in rows.fetchall():
            version = Version(*fields)
            if deleted:
                self.delete(run, [version.id])
            elif version != self.live_version(version.id):
                self.put_version(run, version)

    # Row versions.

    def claim(self, item_id: str, row: int) -> int | None:
        """Note that a catalogue row uses this id; the row that did before, or None."""
        cursor = self.connection.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (item_id, row))
        if cursor.rowcount:
            return None
        return self._number("SELECT row FROM seen WHERE id = ?", item_id)

    def forget_claims(self) -> None:
        """Start a new pass over a catalogue."""
        self.connection.execute("DELETE FROM seen")

    def done_in(self, run: Run, item_id: str, row: int) -> bool:
        """Whether this run already holds the version that this catalogue row asks for."""
        found = self.connection.execute(
            "SELECT 1 FROM items WHERE id = ? AND run = ? AND row = ?", (item_id, run.run, row)
        ).fetchone()
        return found is not None

    def live_version(self, item_id: str) -> Version | None:
        """The newest version of an item, None when there is none or it is deleted."""
        row = self.connection.execute(
            "SELECT id, product_id, metadata, source, content FROM items WHERE id = ? AND until = ? AND deleted = 0",
            (item_id, FOREVER),
        ).fetchone()
        return Version(*row) if row else None

    def put_version(self, run: Run, version: Version, *, row: int | None = None) -> int:
        """Add a version in place of the item's newest one; leaves a transaction open. Returns its seq."""
        self.begin()
        cursor = self.connection.execute(
            "INSERT INTO items (id, product_id, metadata, source, content, run, row) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (version.id, version.product_id, version.metadata, version.source, version.content, run.run, row),
        )
        return self._supersede(version.id, int(cursor.lastrowid or 0))

    def delete(self, run: Run, item_ids: Iterable[str]) -> int:
        """Add a row that says "deleted" for each live item among these; leaves a transaction open. Returns how many."""
        self.begin()
        count = 0
        for item_id in item_ids:
            if self.live_version(item_id) is None:
                continue
            cursor = self.connection.execute(
                "INSERT INTO items (id, deleted, run) VALUES (?, 1, ?)", (item_id, run.run)
            )
            self._supersede(item_id, int(cursor.lastrowid or 0))
            count += 1
        return count

    def delete_unseen(self, run: Run) -> int:
        """Delete every live item that the catalogue just read does not hold; leaves a transaction open."""
        gone = self.connection.execute(
            "SELECT id FROM items WHERE until = ? AND deleted = 0 AND id NOT IN (SELECT id FROM seen) ORDER BY seq",
            (FOREVER,),
        )
        return self.delete(run, [item_id for (item_id,) in gone.fetchall()])

    def changes(self, run: Run) -> int:
        """Rows this run has written."""
        return self._number("SELECT count(*) FROM items WHERE run = ?", run.run)

    def last_seq(self) -> int:
        """The highest row number ever given, 0 for a new gallery; rows that were compacted away count."""
        return last_number(self.connection, "items")

    def _supersede(self, item_id: str, seq: int) -> int:
        self.connection.execute(
            "UPDATE items SET until = ? WHERE id = ? AND until = ? AND seq < ?", (seq, item_id, FOREVER, seq)
        )
        return seq

    # Contents.

    def add_content(self, content: Content) -> int:
        """Add what a photo became; leaves a transaction open. Returns its number."""
        self.begin()
        return add_content(self.connection, content)

    def content_of(self, sha256: str, asked_box: str, *, first: int) -> int | None:
        """An undamaged content of these bytes with this box, not older than `first`."""
        return find_content(self.connection, sha256, asked_box, specs=self.features, first=first)

    def known_sha256(self, source: str, asked_box: str, *, first: int) -> frozenset[str]:
        """Digests that this path or address had before and whose features are still good: reading is enough then."""
        rows = self.connection.execute(
            "SELECT content, sha256 FROM contents WHERE source = ? AND asked_box = ? AND content >= ?",
            (source, asked_box, first),
        )
        return frozenset(
            sha256 for number, sha256 in rows.fetchall() if records.undamaged(self.connection, number, self.features)
        )

    def _number(self, query: str, *values: object) -> int:
        row = self.connection.execute(query, values).fetchone()
        return int(row[0] or 0) if row else 0


def last_number(connection: sqlite3.Connection, table: str) -> int:
    """The highest number a table of rows ever gave, 0 for none; rows that were removed count."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
    return int(row[0]) if row else 0
