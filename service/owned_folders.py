"""Temporary folders that do not outlive their owner for long: a killed one's are swept when the next one starts."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

OWNER: Final = ".owner"
"""Locked by the owner for as long as it lives; the system lets go of the lock when it is killed."""
MEMORY: Final = Path("/dev/shm")  # noqa: S108  the folder in it is private, as others are
UNLOCKED_S: Final = 3600.0
"""Age of a folder without that file from which on nobody is about to make it."""


@contextlib.contextmanager
def owned_folder(prefix: str, *, within: Path | None = None) -> Iterator[Path]:
    """A private temporary folder, removed when the block ends. Those of owners that were killed are removed first.

    Args:
        prefix: how its name begins.
        within: folder to make it in; None for that of temporary files.
    """
    sweep(prefix, within=within)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=within))
    locked = folder / f"{OWNER}.new"  # gets its name when it is locked, so that nobody sees an owner without a lock
    descriptor = os.open(locked, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        locked.rename(folder / OWNER)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def in_memory() -> Path | None:
    """A folder whose files take no room on a disk, for files that are mapped: on a full one, writing them kills."""
    return MEMORY if os.access(MEMORY, os.W_OK | os.X_OK) else None


def sweep(prefix: str, *, within: Path | None = None) -> list[Path]:
    """Remove the folders of this prefix, and of this user, whose owners are gone; those that were removed."""
    removed = []
    for folder in (within or Path(tempfile.gettempdir())).glob(f"{prefix}*"):
        with contextlib.suppress(OSError):  # removed by another one, or not ours
            status = folder.lstat()
            if folder.is_symlink() or not folder.is_dir() or status.st_uid != os.getuid() or _is_owned(folder):
                continue
            shutil.rmtree(folder)
            removed.append(folder)
            logger.info("a killed service's folder is removed", extra={"folder": str(folder)})
    return removed


def _is_owned(folder: Path) -> bool:
    try:
        descriptor = os.open(folder / OWNER, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return time.time() - folder.lstat().st_mtime < UNLOCKED_S
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
