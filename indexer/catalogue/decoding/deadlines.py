"""Calls that are made when something takes too long, all by one thread.

A `threading.Timer` for each photo would start a thread for each, and nearly none of them has anything to do.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass(order=True, slots=True)
class _Deadline:
    at: float
    number: int
    late: Callable[[], None] = field(compare=False)
    over: bool = field(default=False, compare=False)


class Deadlines:
    """Watches over calls. Thread-safe; its thread is started when first needed, and ends with the process.

    Args:
        clock: seconds, never falling.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: list[_Deadline] = []  # a heap; those that are over stay until their time
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def within(self, limit_s: float, late: Callable[[], None]) -> Iterator[None]:
        """Call `late`, on a thread of its own, if the block takes longer."""
        deadline = _Deadline(self._clock() + limit_s, next(self._numbers), late)
        with self._changed:
            heapq.heappush(self._waiting, deadline)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="deadlines", daemon=True)
                self._thread.start()
            elif self._waiting[0] is deadline:
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                deadline.over = True

    def _watch(self) -> None:
        while True:
            with self._changed:
                while not self._waiting or (left_s := self._waiting[0].at - self._clock()) > 0:
                    self._changed.wait(left_s if self._waiting else None)
                deadline = heapq.heappop(self._waiting)
                late = None if deadline.over else deadline.late
            if late is not None:
                late()


DEADLINES = Deadlines()
"""Of this process."""
