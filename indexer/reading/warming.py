"""Brings a generation's files into memory before searches ask for them, as far as there is room.

A search reads some hundred records here and there. Each one that is only on the disk costs it a wait, so the first
thousand searches after a start would be slow. What is in memory already costs next to nothing to ask for again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from threadmatch.indexer.index import VectorIndex
from threadmatch.indexer.store.record_file import SUFFIX
from threadmatch.indexer.store.side_files import CARDS, COLUMNS

_ASKED_BYTES: Final = 128 * 1024  # the kernel reads no more for one call, whatever the disk
_WAIT_BYTES: Final = 8 * 1024 * 1024
"""After so many the last one is waited for, so that searches find the disk free in between."""


def warm(folder: Path, index: VectorIndex, room_bytes: int, stopped: Callable[[], bool] = lambda: False) -> int:
    """Read a generation's files into the page cache, the index first, then what is small: the rest where it fits.

    Args:
        folder: of the generation.
        index: its index, open: its pages are entered in this process's own table, or each would be a fault of a search.
        room_bytes: that may be read; of a file that does not fit its beginning is. Less than the index needs: nothing.
        stopped: asked now and then whether to leave off.

    Returns:
        Bytes that are in memory now.
    """
    done = index.size_bytes
    if done > room_bytes:
        return 0
    for _ in index.touched():
        if stopped():
            return done
    for path in _in_order(folder):
        for read in _announced(path, room_bytes - done):
            done += read
            if stopped():
                return done
    return done


def files_bytes(folder: Path, index: VectorIndex) -> int:
    """What `warm` would read, had it room."""
    return index.size_bytes + sum(path.stat().st_size for path in _in_order(folder))


def _in_order(folder: Path) -> list[Path]:
    """The side files: what every search reads first, then the others, small ones first."""

    def rank(path: Path) -> tuple[bool, int, str]:
        return not path.name.startswith((CARDS, COLUMNS)), path.stat().st_size, path.name

    return sorted(folder.glob(f"*{SUFFIX}"), key=rank)


def _announced(path: Path, room_bytes: int) -> Iterator[int]:
    """Have a file read by the kernel, at most so many bytes; gives how many each time some are there."""
    if not hasattr(os, "posix_fadvise"):  # macOS
        return
    with path.open("rb", buffering=0) as file:
        size = min(os.fstat(file.fileno()).st_size, room_bytes)
        for start in range(0, size, _WAIT_BYTES):
            end = min(start + _WAIT_BYTES, size)
            for at in range(start, end, _ASKED_BYTES):
                os.posix_fadvise(file.fileno(), at, min(_ASKED_BYTES, end - at), os.POSIX_FADV_WILLNEED)
            os.pread(file.fileno(), 1, end - 1)
            yield end - start
