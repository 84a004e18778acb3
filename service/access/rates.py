"""How many requests a key may make: a moving window, counted by the `limits` library in this process's memory."""

from __future__ import annotations

import math
import time

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from threadmatch.service.errors import RateLimitedError, SettingsError


def parse_rate(rate: str) -> RateLimitItem | None:
    """`6000/minute` as the library has it; None for an empty one.

    Raises:
        SettingsError: it cannot be read.
    """
    if not rate.strip():
        return None
    try:
        item = parse(rate)
    except ValueError as error:
        raise SettingsError(
            f"THREADMATCH_RATE_LIMIT={rate!r}: expected a rate such as 600/minute or 10/second"
        ) from error
    if item.amount < 1:
        raise SettingsError(f"THREADMATCH_RATE_LIMIT={rate!r} lets nothing through; leave it empty for no limit")
    return item


class RateLimits:
    """Counts the requests of each key. With several worker processes each counts for itself.

    Args:
        rate: what one key may; None for no limit.
    """

    def __init__(self, rate: RateLimitItem | None) -> None:
        self._rate = rate
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
        if self._limiter.hit(self._rate, who, cost=cost):
            return
        stats = self._limiter.get_window_stats(self._rate, who)
        seconds = max(1, math.ceil(stats.reset_time - time.time()))
        raise RateLimitedError(f"this key may make {self._rate}; wait {seconds} s", retry_after_s=seconds)
