"""The edits that lie on top of a generation, as a search needs them: which rows they hide, which items they add.

A `ChangeLog` reads the edits that are new since it was last asked, whatever process made them, and gives a `Changes`:
a frozen view of everything up to one number. Vectors are kept in one array that is only ever added to, so that an edit
costs what it adds and older views stay as they are.

Letters  n edits that put an item, E embedding size
"""

from __future__ import annotations

import bisect
import logging
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from threadmatch.indexer.index import Ids, Vectors
from threadmatch.indexer.store import records
from threadmatch.indexer.store.database import ALIVE, EDITS_GONE
from threadmatch.indexer.store.manifest import JSON_KINDS, ColumnKind, Manifest, merge_kinds
from threadmatch.indexer.store.versions import last_number

logger = logging.getLogger(__name__)

FIRST_ROOM = 64
BLOCK_ROWS = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """The edits of one moment on top of one generation. Numbers: `after` is the generation's own, `upto` the last."""

    after: int
    upto: int
    rows: Ids  # (n,) minus the edit's number, so that no edit has the number of a row of the generation
    vectors: Vectors  # (n, E)
    newest: NDArray[np.bool_]  # (n,) False where a later edit took its place
    dead: Ids  # ascending rows of the generation that an edit replaced or deleted
    columns: Mapping[str, ColumnKind]  # of the generation and the edits together
    put: int  # items that the edits hold

    @property
    def pending(self) -> int:
        """Edits that no generation holds yet."""
        return self.upto - self.after


class ChangesGoneError(Exception):
    """Edits that were never read here are folded and removed already: a newer generation holds them."""


def latest_edit(connection: sqlite3.Connection) -> int:
    """The number of the last edit, 0 for none. A few microseconds: asked before each search."""
    return last_number(connection, "edits")


class ChangeLog:
    """Reads the edits on top of one generation. Not thread-safe.

    Args:
        manifest: of the generation.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self._room = np.empty((FIRST_ROOM, manifest.embedding_dim), np.float32)
        self._rows = np.empty(FIRST_ROOM, np.int64)
        self._count = 0
        self._place: dict[str, int] = {}  # of the id's newest edit that put it; absent where it was deleted
        self._stale: set[int] = set()  # places whose edit has a successor
        self._dead: list[int] = []
        self._columns = dict(manifest.columns)
        self.changes = self._frozen(manifest.edits)

    def read(self, connection: sqlite3.Connection) -> Changes:
        """Everything up to the last edit there is.

        Raises:
            ChangesGoneError: take the newer generation, then ask again.
        """
        connection.execute("BEGIN")  # one state of the database for all that follows
        try:
            upto = latest_edit(connection)
            if upto > self.changes.upto:
                gone = connection.execute("SELECT value FROM meta WHERE key = ?", (EDITS_GONE,)).fetchone()
                if gone is not None and int(gone[0]) > self.changes.upto:
                    raise ChangesGoneError
                self._take(connection, upto)
                self.changes = self._frozen(upto)
        finally:
            connection.execute("COMMIT")
        return self.changes

    def _take(self, connection: sqlite3.Connection, upto: int) -> None:
        span = {"last": self.changes.upto, "upto": upto, "seq": self.manifest.seq}
        edits = connection.execute(
            "SELECT edit, id, deleted, metadata, content FROM edits WHERE edit > :last AND edit <= :upto ORDER BY edit",
            span,
        )
        while block := edits.fetchmany(BLOCK_ROWS):
            self._take_block(connection, block)
        hidden = connection.execute(
            "SELECT DISTINCT i.seq FROM edits d JOIN items i ON i.id = d.id"  # noqa: S608
            f" WHERE d.edit > :last AND d.edit <= :upto AND {ALIVE}",
            span,
        )
        for (row,) in hidden:
            place = bisect.bisect_left(self._dead, row)
            if place == len(self._dead) or self._dead[place] != row:
                self._dead.insert(place, row)

    def _take_block(self, connection: sqlite3.Connection, edits: list[tuple[int, str, int, str, int]]) -> None:
        indexed = self.manifest.indexed
        found = records.read(connection, indexed, {content for *_, content in edits if content})
        for edit, item_id, deleted, metadata, content in edits:
            earlier = self._place.pop(item_id, None)
            if earlier is not None:
                self._stale.add(earlier)
            if deleted:
                continue
            if content not in found:
                logger.error("damaged change left out of searches", extra={"item": item_id, "edit": edit})
                continue
            self._place[item_id] = self._append(-edit, indexed.unpack([found[content]])[0])
            for name, kind in connection.execute("SELECT key, type FROM json_each(?)", (metadata,)):
                self._columns[name] = merge_kinds(self._columns.get(name), JSON_KINDS[kind])

    def _append(self, row: int, vector: NDArray[np.float32]) -> int:
        place = self._count
        if place == len(self._rows):  # views hold on to the array they have
            self._room = np.concatenate([self._room, np.empty_like(self._room)])
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
        self._room[place], self._rows[place] = vector, row
        self._count += 1
        return place

    def _frozen(self, upto: int) -> Changes:
        newest = np.ones(self._count, dtype=bool)
        newest[list(self._stale)] = False
        return Changes(
            after=self.manifest.edits,
            upto=upto,
            rows=self._rows[: self._count],
            vectors=self._room[: self._count],
            newest=newest,
            dead=np.array(self._dead, np.int64),
            columns=dict(self._columns),
            put=len(self._place),
        )


def describe_changes(connection: sqlite3.Connection, manifest: Manifest) -> dict[str, Any]:
    """The edits that the generation does not hold yet: {"pending", "put", "deleted", "oldest"}; by id, the newest.

    Args:
        connection: to the gallery's database.
        manifest: of the generation in service.
    """
    if not latest_edit(connection):
        return {"pending": 0, "put": 0, "deleted": 0, "oldest": None}
    pending, oldest = connection.execute(
        "SELECT count(*), min(made) FROM edits WHERE edit > ?", (manifest.edits,)
    ).fetchone()
    put, deleted = connection.execute(
        "SELECT coalesce(sum(deleted = 0), 0), coalesce(sum(deleted), 0) FROM edits"
        " WHERE edit IN (SELECT max(edit) FROM edits WHERE edit > ? GROUP BY id)",
        (manifest.edits,),
    ).fetchone()
    return {"pending": pending, "put": put, "deleted": deleted, "oldest": oldest}
