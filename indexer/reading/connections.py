"""A pool of read-only connections: one thread uses each at a time; there are as many as searches run at once."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from threadmatch.indexer.errors import GalleryError
from threadmatch.indexer.store.database import DATABASE, open_read_only

MAX_IDLE = 16


class Readers:
    """Read-only connections to a gallery's database. Thread-safe.

    Args:
        folder: of the gallery.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.identity = identity(folder)
        self._idle: list[sqlite3.Connection] = []
        self._lock = threading.Lock()

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection.

        Raises:
            GalleryError: the database cannot be opened, or reading it fails.
        """
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        connection = connection or open_read_only(self.folder)
        try:
            yield connection
        except sqlite3.DatabaseError as error:
            connection.close()
            raise GalleryError(f"reading {self.folder} failed: {error}; run `threadmatch gallery verify`") from error
        except BaseException:
            connection.close()
            raise
        with self._lock:
            if len(self._idle) < MAX_IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close the connections that nobody is using."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


def identity(folder: Path) -> tuple[int, int] | None:
    """Which file the gallery's database is: another one after the folder was put in place of another. None without."""
    try:
        found = (folder / DATABASE).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
