"""Edits of a gallery in service: put an item, delete one. Durable when the call returns, seen by the next search.

An edit is a row of `edits` (see `indexer.store.schema`), added under SQLite's write lock alone: not under the
gallery's, which an ingestion may hold for hours. Several edits share one transaction, so one wait for the disk.

Who wins: an ingestion takes up the edits made before it began and puts its catalogue's rows over them. An edit made
after it began lies on top of what it publishes, until the next ingestion that names the id.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

from threadmatch.indexer.catalogue.values import metadata_json
from threadmatch.indexer.errors import (
    BacklogError,
    EditBusyError,
    EditError,
    EditFailedError,
    GalleryError,
    GalleryFullError,
    ReadOnlyError,
    TooMuchMetadataError,
)
from threadmatch.indexer.reading.connections import identity
from threadmatch.indexer.store import generations
from threadmatch.indexer.store.contents import Content, add_content, find_content
from threadmatch.indexer.store.database import ALIVE, DATABASE, create_or_open
from threadmatch.indexer.store.manifest import Manifest
from threadmatch.indexer.store.versions import Version, last_number, now
from threadmatch.indexer.store.write_errors import is_full, is_read_only

logger = logging.getLogger(__name__)

BUSY_TIMEOUT_MS = 5_000
KEEP: Final = "\0keep"
"""In place of a product id: the one that the item has. No id holds this character."""
MAX_METADATA_BYTES: Final = 256 * 1024
"""Of one item, as JSON, after many changes; a photo's form holds far less."""
MAX_PENDING = 50_000


@dataclass(frozen=True, slots=True)
class Put:
    """Put an item in place of one with its id; `version.content` counts where `content` is None."""

    version: Version
    content: Content | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """Change an item's fields and leave its photo, if there is such an item.

    Fields:
        id: of the item.
        metadata: merged into what the item has (RFC 7396): a value takes the place of the one before, None takes the
            column away, an object is merged into an object.
        product_id: the new one; KEEP leaves it.
    """

    id: str
    metadata: Mapping[str, Any]
    product_id: str | None = KEEP


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete an item, if there is one."""

    id: str


@dataclass(frozen=True, slots=True)
class Edited:
    """What became of an edit: whether the item was there before, and whether anything changed."""

    existed: bool
    changed: bool


class ContentGoneError(EditError):
    """The features a `Put` counted on were removed meanwhile: encode the photo and put it again."""


Edit: TypeAlias = Put | Change | Delete


class Editor:
    """Writes edits. One thread at a time; opens the database with the first one.

    Args:
        folder: of the gallery.
        features_fingerprint: of the model that encodes what is put.
        max_pending: edits that may wait for being folded; the next is refused.
    """

    def __init__(self, folder: Path, *, features_fingerprint: str, max_pending: int = MAX_PENDING) -> None:
        self.folder, self.max_pending = folder, max_pending
        self._fingerprint = features_fingerprint
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._base: Manifest | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the database; what was not committed is rolled back."""
        with self._lock:
            self._close()

    def apply(self, edits: Sequence[Edit]) -> list[Edited | EditError]:
        """Make edits durable, in their order; each is done wholly or not at all.

        Returns:
            What became of each; an error where it was refused.
        """
        with self._lock:
            try:
                return list(self._together(edits))
            except EditError as error:
                if len(edits) == 1:
                    return [error]
        return [self.apply([edit])[0] for edit in edits]  # the fault of one must not be another's

    def _together(self, edits: Sequence[Edit]) -> list[Edited]:
        connection = None
        try:
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
            done = self._written(connection, edits)
            connection.execute("COMMIT")  # returns when it is on the disk
            return done
        except sqlite3.Error as error:
            self._close()  # rolls back
            raise _edit_error(error, self.folder) from error
        except (GalleryError, OSError) as error:
            self._close()
            if isinstance(error.__cause__, sqlite3.Error):  # it could not even be opened
                raise _edit_error(error.__cause__, self.folder) from error
            logger.exception("the gallery cannot be edited")
            raise EditFailedError("the gallery cannot be edited now; the service's log has the reason") from error
        except BaseException:
            if connection is not None and connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _open(self) -> sqlite3.Connection:
        """The database that the folder has now; another gallery may have been put in its place."""
        found = identity(self.folder)
        if self._connection is not None and found == self._identity:
            return self._connection
        self._close()
        if found is None:
            raise GalleryError(f"{self.folder} has no {DATABASE}")
        connection = create_or_open(self.folder)
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        self._connection, self._identity = connection, found
        return connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection, self._base = None, None

    def _written(self, connection: sqlite3.Connection, edits: Sequence[Edit]) -> list[Edited]:
        base = self._generation()
        if base.model.features_fingerprint != self._fingerprint:
            raise EditFailedError("another gallery, of another model, was put in this one's place; restart the service")
        pending = last_number(connection, "edits") - base.edits
        if pending + len(edits) > self.max_pending:
            raise BacklogError(
                f"{pending} changes wait for being folded into the index, at most {self.max_pending} may; an ingestion "
                "that runs or was broken off keeps them waiting: end it, or run `threadmatch gallery compact`"
            )
        ingesting = connection.execute("SELECT max(edits) FROM runs WHERE state = 'open'").fetchone()[0]
        return [_Edit(connection, base, ingesting).do(edit) for edit in edits]

    def _generation(self) -> Manifest:
        name = generations.current_name(self.folder)
        if name is None:
            raise GalleryError(f"{self.folder} has no finished generation")
        if self._base is None or self._base.generation != name:
            self._base = generations.read_manifest(self.folder, name)
        return self._base


@dataclass(frozen=True, slots=True)
class _Edit:
    """One edit in the transaction that runs, on top of a generation.

    Args:
        ingesting: the last edit that an ingestion under way has taken up, None where there is no ingestion.
    """

    connection: sqlite3.Connection
    base: Manifest
    ingesting: int | None

    def do(self, edit: Edit) -> Edited:
        match edit:
            case Delete():
                return self._delete(edit.id)
            case Change():
                return self._change(edit)
            case Put():
                return self._put(edit)

    def _put(self, edit: Put) -> Edited:
        version = edit.version
        if edit.content is not None:
            photo, box = edit.content.sha256, edit.content.asked_box
            known = find_content(self.connection, photo, box, specs=self.base.features)
            version = replace(version, content=known or add_content(self.connection, edit.content))
        elif not self._has_content(version.content):
            raise ContentGoneError("the item's photo was removed while it was put; put it again")
        before, lasts = self._now(version.id)
        if before == version and lasts:
            return Edited(existed=True, changed=False)
        self.connection.execute(
            "INSERT INTO edits (id, product_id, metadata, source, content, made) VALUES (?, ?, ?, ?, ?, ?)",
            (version.id, version.product_id, version.metadata, version.source, version.content, now()),
        )
        return Edited(existed=before is not None, changed=True)

    def _change(self, edit: Change) -> Edited:
        before, _ = self._now(edit.id)
        if before is None:
            return Edited(existed=False, changed=False)
        metadata = metadata_json(merged(json.loads(before.metadata), edit.metadata))
        if len(metadata.encode()) > MAX_METADATA_BYTES:
            raise TooMuchMetadataError(
                f"the item's metadata would have {len(metadata.encode())} bytes, at most {MAX_METADATA_BYTES} are kept"
            )
        product_id = before.product_id if edit.product_id == KEEP else edit.product_id
        return self._put(Put(replace(before, metadata=metadata, product_id=product_id)))

    def _delete(self, item_id: str) -> Edited:
        before, lasts = self._now(item_id)
        if before is None and lasts:
            return Edited(existed=False, changed=False)
        self.connection.execute("INSERT INTO edits (id, deleted, made) VALUES (?, 1, ?)", (item_id, now()))
        return Edited(existed=before is not None, changed=True)

    def _now(self, item_id: str) -> tuple[Version | None, bool]:
        """The item as it is in service, and whether it stays so when the ingestion under way is published.

        Without that, an edit that changes nothing today would be lost to a catalogue row that says something else.
        """
        row = self.connection.execute(
            "SELECT edit, deleted, id, product_id, metadata, source, content FROM edits WHERE id = ? AND edit > ?"
            " ORDER BY edit DESC LIMIT 1",
            (item_id, self.base.edits),
        ).fetchone()
        if row is not None:
            return (None if row[1] else Version(*row[2:])), self.ingesting is None or row[0] > self.ingesting
        row = self.connection.execute(
            f"SELECT i.id, i.product_id, i.metadata, i.source, i.content FROM items i WHERE i.id = :id AND {ALIVE}",  # noqa: S608
            {"id": item_id, "seq": self.base.seq},
        ).fetchone()
        return (Version(*row) if row else None), self.ingesting is None

    def _has_content(self, number: int) -> bool:
        return self.connection.execute("SELECT 1 FROM contents WHERE content = ?", (number,)).fetchone() is not None


def merged(before: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON merge patch (RFC 7396) applied; neither argument is changed."""
    after = dict(before)
    for name, value in patch.items():
        if value is None:
            after.pop(name, None)
        elif isinstance(value, Mapping):
            own = after.get(name)
            after[name] = merged(own if isinstance(own, Mapping) else {}, value)
        else:
            after[name] = value
    return after


def _edit_error(error: sqlite3.Error, folder: Path) -> EditError:
    if is_full(error, folder):
        return GalleryFullError("there is no room for the change on the gallery's disk; nothing of it was kept")
    if (getattr(error, "sqlite_errorcode", 0) & 0xFF) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return EditBusyError("the gallery's database is busy; nothing of the change was kept, try again")
    if is_read_only(error):
        return ReadOnlyError("this service may read the gallery but not write it")
    logger.error("an edit failed", exc_info=error)
    return EditFailedError(
        "the gallery's database failed; the service's log has the reason. Look at the item, or repeat the change"
    )
