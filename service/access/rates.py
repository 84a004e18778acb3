"""How many requests a key may make, and how many wrong keys an address may send.

Alone, a process counts in its own memory, in a moving window of the `limits` library; workers of one service count
together (`service.access.shared_counts`).
"""

from __future__ import annotations

import math
import time
from pathlib import Path

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from threadmatch.service.access.shared_counts import SharedCounts
from threadmatch.service.errors import RateLimitedError, SettingsError


def parse_rate(rate: str, variable: str = "THREADMATCH_RATE_LIMIT") -> RateLimitItem | None:
    """`6000/minute` as the library has it; None for an empty one.

    Args:
        rate: as it was set.
        variable: that set it.

    Raises:
        SettingsError: it cannot be read.
    """
    if not rate.strip():
        return None
    try:
        item = parse(rate)
    except ValueError as error:
        raise SettingsError(f"{variable}={rate!r}: expected a rate such as 600/minute or 10/second") from error
    if item.amount < 1:
        raise SettingsError(f"{variable}={rate!r} lets nothing through; leave it empty for no limit")
    return item


class RateLimits:
    """Counts the requests of each key.

    Args:
        rate: what one key may; None for no limit.
        shared: file that the workers of one service count in; None in a service of one process.
        what: who may make them, in the words of the refusal.
    """

    def __init__(self, rate: RateLimitItem | None, *, shared: Path | None = None, what: str = "this key") -> None:
        self._rate, self._what = rate, what
        self._shared = SharedCounts(shared) if shared is not None and rate is not None else None
        self._limiter = MovingWindowRateLimiter(MemoryStorage()) if rate is not None else None

    def spend(self, who: str, cost: int = 1) -> None:
        """Count a request.

        Args:
            who: the key's id, or whatever stands for the client.
            cost: how many requests it counts for.

        Raises:
            RateLimitedError: too many; says after how many seconds the next one is let through.
        """
        if self._limiter is None or self._rate is None:
            return
        cost = min(cost, self._rate.amount)  # else it could never be let through
        if self._shared is not None:
            wait_s = self._shared.hit(self._rate, who, cost)
            if not wait_s:
                return
        elif self._limiter.hit(self._rate, who, cost=cost):
            return
        else:
            wait_s = self._limiter.get_window_stats(self._rate, who).reset_time - time.time()
        seconds = max(1, math.ceil(wait_s))
        raise RateLimitedError(f"{self._what} may make {self._rate}; wait {seconds} s", retry_after_s=seconds)
