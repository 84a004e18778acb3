"""When to ask again: after 429 and 503, and after a connection that failed where asking twice does no harm."""

from __future__ import annotations

import email.utils
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

RETRIED = frozenset({429, 503})


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often and how long a call is repeated. Pauses double and are drawn at random, so that clients that were
    refused together do not return together.

    Args:
        most: requests after the first; 0 never asks again.
        first_s: upper end of the first pause, seconds.
        longest_s: upper end of any pause that the service did not ask for, seconds.
        total_s: of all pauses of a call together; a longer Retry-After is not waited for.
        draw: gives a number in 0..1.
    """

    most: int = 4
    first_s: float = 0.25
    longest_s: float = 8.0
    total_s: float = 30.0
    draw: Callable[[], float] = field(default=random.random, repr=False)

    def pause_s(self, retry: int, *, asked_s: float | None, waited_s: float) -> float | None:
        """Seconds to wait before a repetition, None to give up.

        Args:
            retry: number of the repetition, from 0.
            asked_s: the service's Retry-After; the pause is never shorter.
            waited_s: pauses of this call so far.
        """
        if retry >= self.most:
            return None
        pause_s = (asked_s or 0.0) + self.draw() * min(self.longest_s, self.first_s * 2.0**retry)
        return None if waited_s + pause_s > self.total_s else pause_s


def retry_after_s(headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks for, given as a number or as a date; None without one."""
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value[:9])
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())
