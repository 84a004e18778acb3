"""A balancer before replicas of the service, as small as one can be: by turns, and the next one where one fails."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

CONNECT_S: Final = 2.0
READ_S: Final = 90.0
"""More than the service takes to say 503 where an engine does not answer."""
_DOWN_S: Final = 2.0
"""So long a replica that could not be reached is passed over, where others are there."""


@dataclass(slots=True)
class Known:
    """What all clients of some replicas know of them.

    Fields:
        addresses: host:port of each.
        down_until: time until which each is passed over, `time.monotonic` seconds.
    """

    addresses: Sequence[str]
    down_until: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.down_until = [0.0] * len(self.addresses)


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of a request.

    Fields:
        answer: the last one; None where no replica gave any.
        passed_over: replicas that refused or broke the connection, or said 503, before that.
    """

    answer: httpx.Response | None
    passed_over: int


class Balancer:
    """For one client. Not thread-safe.

    A request goes to the next replica where one refuses or breaks the connection, or says 503: so what is sent must be
    harmless to send twice. Each is asked once.

    Args:
        known: the replicas, shared by all clients.
        first: which replica the first request goes to.
    """

    def __init__(self, known: Known, *, first: int = 0) -> None:
        self._known = known
        self._next = itertools.count(first)
        timeout = httpx.Timeout(READ_S, connect=CONNECT_S)
        self._clients = [
            httpx.Client(base_url=f"http://{address}", timeout=timeout, trust_env=False) for address in known.addresses
        ]

    def close(self) -> None:
        """Close all connections."""
        for client in self._clients:
            client.close()

    def send(self, method: str, path: str, **body: Any) -> Sent:
        """Send a request.

        Args:
            method, path: of it.
            body: as `httpx.Client.request` takes it.
        """
        answer, passed_over = None, 0
        for number in self._order():
            try:
                answer = self._clients[number].request(method, path, **body)
            except httpx.TransportError:
                self._known.down_until[number] = time.monotonic() + _DOWN_S
                passed_over += 1
                continue
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                return Sent(answer, passed_over)
            passed_over += 1
        return Sent(answer, passed_over - (answer is not None))

    def _order(self) -> list[int]:
        count = len(self._clients)
        first = next(self._next) % count
        turn = [(first + step) % count for step in range(count)]
        now = time.monotonic()
        return sorted(turn, key=lambda number: self._known.down_until[number] > now)  # stable: the turn stays
