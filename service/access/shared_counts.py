"""Counts of requests in a file that all workers of one service map, so that a rate holds for all of them together."""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from limits import RateLimitItem

SLOTS: Final = 4096
TRIES: Final = 8
_SLOT: Final = struct.Struct("<QQdd")  # who, which window, counted in it, in the one before


class SharedCounts:
    """A sliding window: the counts of this window and, for the part of it that still lies within, of the one before.

    Args:
        path: of the file; made when missing, readable by its owner alone.
        clock: seconds since 1970.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        os.posix_fallocate(self._file, 0, SLOTS * _SLOT.size)  # room that is there: a full disk would kill us later
        self._map = mmap.mmap(self._file, SLOTS * _SLOT.size)

    def hit(self, rate: RateLimitItem, who: str, cost: int = 1) -> float:
        """Count a request, where the rate allows it.

        Returns:
            0 where it was counted; else seconds after which it would be.
        """
        now, window_s = self._clock(), float(rate.get_expiry())
        name = f"{rate.key_for()}/{who}".encode()
        key = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little") or 1
        window, part = int(now // window_s), now % window_s / window_s
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            at = self._place(key)
            found, seen, current, before = _SLOT.unpack_from(self._map, at)
            if found != key or seen < window - 1:
                current = before = 0.0
            elif seen == window - 1:
                current, before = 0.0, current
            if before * (1 - part) + current + cost > rate.amount:
                return self._wait_s(rate.amount - cost, current, before, window_s, part)
            _SLOT.pack_into(self._map, at, key, window, current + cost, before)
            return 0.0
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    @staticmethod
    def _wait_s(room: float, current: float, before: float, window_s: float, part: float) -> float:
        """Seconds until no more than `room` counts, if nothing is added."""
        if current <= room:  # what was before fades within this window
            return max(0.0, (1 - (room - current) / before - part) * window_s)
        return (1 - part + 1 - room / current) * window_s

    def _place(self, key: int) -> int:
        """Where a client's counts stand, or shall: in the place of what was asked for longest ago."""
        places = [(key + n) % SLOTS * _SLOT.size for n in range(TRIES)]
        for at in places:
            if _SLOT.unpack_from(self._map, at)[0] in (key, 0):
                return at
        return min(places, key=lambda at: _SLOT.unpack_from(self._map, at)[1])
