"""Failures of the disk, told so that the one who typed the command can act on them."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from threadmatch.indexer.errors import GalleryError

_REASONS: Final = {
    errno.ENOSPC: "its disk is full",
    errno.EDQUOT: "its owner's share of the disk is used up",
    errno.EROFS: "its disk is read-only",
}
_ROOM_TO_OPEN_BYTES: Final = 2**16
"""What SQLite needs to open a database in WAL mode: shared memory of 32 KiB and a header."""


@contextmanager
def disk_errors(folder: Path, *, kept: str = "") -> Iterator[None]:
    """Around what writes to a gallery: failures of its disk and its database become a GalleryError.

    A disk's own errors name no file ("[Errno 28] No space left on device"). Other errors of the system pass: they may
    be about a catalogue or its photos.

    Args:
        folder: of the gallery.
        kept: what is safe beside the gallery in service, for the message.

    Raises:
        GalleryError: which gallery, why, what is safe, and what to do.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise GalleryError(_message(folder, database_reason(error, folder), kept)) from error
    except OSError as error:
        if error.errno not in _REASONS:
            raise
        raise GalleryError(_message(folder, _REASONS[error.errno], kept)) from error


def database_reason(error: sqlite3.Error, folder: Path) -> str:
    """Why a database cannot be used, in words.

    Args:
        error: that SQLite or Python's module raised; the latter's have no code.
        folder: that the database is in.
    """
    if is_full(error, folder):
        return _REASONS[errno.ENOSPC]
    if is_read_only(error):
        return _REASONS[errno.EROFS]
    return f"{error}"


def is_full(error: sqlite3.Error | OSError, folder: Path) -> bool:
    """Whether a failure is that of a full disk.

    SQLite calls it "disk I/O error" where no room is left for the files beside a database.
    """
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    kind = _kind(error)
    cramped = kind in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
    return kind == sqlite3.SQLITE_FULL or (cramped and not _has_room(folder))


def is_read_only(error: sqlite3.Error) -> bool:
    """Whether a failure is that of a file or a folder that may not be written."""
    return _kind(error) in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)


def can_be_written(folder: Path) -> bool:
    """Whether a database in a folder could be opened for writing now: it is not read-only, and its disk has room."""
    try:
        return os.access(folder, os.W_OK) and _has_room(folder)
    except OSError:  # it is gone
        return False


def _kind(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF  # the low byte of an extended code


def _has_room(folder: Path) -> bool:
    return shutil.disk_usage(folder).free >= _ROOM_TO_OPEN_BYTES


def _message(folder: Path, reason: str, kept: str) -> str:
    safe = "the gallery in service is as it was" + (f" and {kept}" if kept else "")
    return f"writing to {folder} failed: {reason}; {safe}: mend that and run the same command again"
