"""Recent searches that could not be written: the latest of them in memory, and why, for a while.

A worker process knows its own only. It is better than nothing where a disk is full: feedback on what was just answered
can be taken, and what cannot be found is told the true reason.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Generic, TypeVar

T = TypeVar("T")

HELD_BYTES: Final = 4 * 2**20
"""Of searches in memory, about eighty of them."""
REASONS: Final = 4096
"""Searches whose reason is remembered, a few hundred bytes each."""

Key = tuple[str, str]


class Unkept(Generic[T]):
    """Searches by gallery and request id. Use on one thread."""

    def __init__(self) -> None:
        self._held: OrderedDict[Key, tuple[int, T]] = OrderedDict()
        self._reasons: OrderedDict[Key, str] = OrderedDict()
        self._bytes = 0

    def add(self, key: Key, search: T, size_bytes: int, reason: str) -> None:
        """Hold a search as long as there is room, and the reason longer."""
        self.forget(key)
        self._held[key] = (size_bytes, search)
        self._bytes += size_bytes
        while self._bytes > HELD_BYTES:
            _, (freed, _) = self._held.popitem(last=False)
            self._bytes -= freed
        self._reasons[key] = reason
        while len(self._reasons) > REASONS:
            self._reasons.popitem(last=False)

    def get(self, key: Key) -> T | None:
        """A search that is held."""
        found = self._held.get(key)
        return None if found is None else found[1]

    def reason(self, key: Key) -> str | None:
        """Why a search was not kept; None for one that was, or is not known."""
        return self._reasons.get(key)

    def forget(self, key: Key) -> None:
        """Another one of its name was kept."""
        self._reasons.pop(key, None)
        if key in self._held:
            self._bytes -= self._held.pop(key)[0]
