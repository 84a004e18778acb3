"""A pool of read-only connections: one thread uses each at a time; there are as many as searches run at once."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from threadmatch.indexer.errors import GalleryError
from threadmatch.indexer.reading.filter_sql import add_functions
from threadmatch.indexer.store.database import DATABASE, open_read_only
from threadmatch.indexer.store.write_errors import can_be_written

MAX_IDLE = 16
THAW_S = 0.25  # how long a reader waits for those of a read-only time to be given back


class Readers:
    """Read-only connections to a gallery's database. Thread-safe.

    A connection that was opened while nothing could be written is frozen: it may never see what is written later, and
    SQLite may let nobody of the same process write while it is open. So frozen ones go as soon as writing is possible.

    Args:
        folder: of the gallery.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.identity = identity(folder)
        self._idle: list[sqlite3.Connection] = []
        self._frozen: set[sqlite3.Connection] = set()
        self._given_back = threading.Condition()

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection.

        Raises:
            GalleryError: the database cannot be opened, or reading it fails.
        """
        connection = self._take()
        kept = False
        try:
            yield connection
            kept = True
        except sqlite3.DatabaseError as error:
            raise GalleryError(f"reading {self.folder} failed: {error}; run `threadmatch gallery verify`") from error
        finally:
            self._give_back(connection, kept=kept)

    def thaw(self) -> None:
        """Let go of frozen connections that nobody uses, where the folder can be written again."""
        with self._given_back:
            if not self._frozen or not can_be_written(self.folder):
                return
            for connection in [one for one in self._idle if one in self._frozen]:
                self._idle.remove(connection)
                self._close(connection)

    def _take(self) -> sqlite3.Connection:
        self.thaw()
        with self._given_back:
            if self._frozen and can_be_written(self.folder):  # one opened beside them would be as they are
                self._given_back.wait_for(lambda: not self._frozen, THAW_S)
            if self._idle:
                return self._idle.pop()
            frozen = bool(self._frozen) or not can_be_written(self.folder)
        connection = open_read_only(self.folder)
        add_functions(connection)
        if frozen:
            with self._given_back:
                self._frozen.add(connection)
        return connection

    def _give_back(self, connection: sqlite3.Connection, *, kept: bool) -> None:
        with self._given_back:
            if kept and len(self._idle) < MAX_IDLE:
                self._idle.append(connection)
            else:
                self._close(connection)
        self.thaw()

    def _close(self, connection: sqlite3.Connection) -> None:
        connection.close()
        self._frozen.discard(connection)
        self._given_back.notify_all()

    def close(self) -> None:
        """Close the connections that nobody is using."""
        with self._given_back:
            idle, self._idle = self._idle, []
            for connection in idle:
                self._close(connection)


def identity(folder: Path) -> tuple[int, int] | None:
    """Which file the gallery's database is: another one after the folder was put in place of another. None without."""
    try:
        found = (folder / DATABASE).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
