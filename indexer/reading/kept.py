"""What was read lately of things that never change, by their numbers.

Most searches of a shop meet the same few thousand items; each was read from a file or the database, checked and
unpacked anew for every search that met it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

V = TypeVar("V")


class Kept(Generic[V]):
    """Values by number; where there are too many, the half that was read first is forgotten. Thread-safe.

    Args:
        most: how many.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: dict[int, V] = {}  # replaced as a whole where something is forgotten, so readers need no lock
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, numbers: Iterable[int]) -> dict[int, V]:
        """Those of the numbers that are kept."""
        values = self._values
        return {number: values[number] for number in numbers if number in values}

    def put(self, values: Mapping[int, V]) -> None:
        """Keep more of them, `most` at the most."""
        if not values:
            return
        with self._lock:
            if len(self._values) + len(values) > self._most:
                self._values = dict(list(self._values.items())[-(self._most // 2) :])
            room = self._most - len(self._values)
            self._values.update(list(values.items())[-room:])
