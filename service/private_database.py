"""A small SQLite database in a folder that only the service's user can enter, since it holds customers' photos."""

from __future__ import annotations

import os
import sqlite3
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from threadmatch.indexer.store.write_errors import is_full
from threadmatch.service.errors import StartError

FULL: Final = "its disk is full"


class NoRoomError(StartError):
    """The disk is full: nothing can be kept until there is room; what is served else need not wait for that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateDatabase:
    """What is kept, and how.

    Fields:
        holds: what is in it, in words for messages.
        file: its name in the folder.
        schema: SQL that makes what is missing.
        pragmas: set before anything else.
        busy_s: how long one process waits for another's writing.
        setting: environment variable that names the folder.
        way_out: what one can do instead of choosing another folder.
        precious: False where a torn file is made anew rather than the start refused.
    """

    holds: str
    file: str
    schema: str
    pragmas: tuple[str, ...]
    busy_s: float
    setting: str
    way_out: str
    precious: bool

    def open(self, folder: Path) -> sqlite3.Connection:
        """Open it for reading and writing, from any thread but one at a time; folder and file are made when missing.

        Raises:
            NoRoomError: its disk is full. StartError: the folder cannot be used, or others could read it.
        """
        try:
            self._make_private(folder)
            try:
                return self._connect(folder / self.file)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:  # torn by a power cut
                if self.precious:
                    raise
                for part in folder.glob(f"{self.file}*"):
                    part.unlink(missing_ok=True)
                return self._connect(folder / self.file)
        except (OSError, sqlite3.Error) as error:
            full = is_full(error, folder if folder.is_dir() else folder.parent)
            why = FULL if full else error
            raise (NoRoomError if full else StartError)(
                f"the folder for {self.holds}, {folder}, cannot be used: {why}; choose another with {self.setting}, "
                f"or {self.way_out}"
            ) from error

    def _make_private(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise StartError(
                f"the folder for {self.holds}, {folder}, holds customers' photos and others may enter it: chmod 700 it "
                f"and let it belong to the service's user, or choose another with {self.setting}"
            )

    def _connect(self, path: Path) -> sqlite3.Connection:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = sqlite3.connect(path, timeout=self.busy_s, isolation_level=None, check_same_thread=False)
        try:
            for pragma in self.pragmas:
                connection.execute(f"PRAGMA {pragma}")
            connection.executescript(f"BEGIN IMMEDIATE; {self.schema} COMMIT;")
        except BaseException:
            connection.close()
            raise
        return connection
