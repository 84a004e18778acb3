"""What both clients set up and decide alike."""

from __future__ import annotations

from typing import Any, Final, TypeAlias, TypeVar

import httpx

from threadmatch.service.client.calls import Call
from threadmatch.service.client.errors import ServiceUnreachableError
from threadmatch.service.client.retries import RETRIED, Retries, retry_after_s

A = TypeVar("A")
Outcome: TypeAlias = httpx.Response | httpx.RequestError

DEFAULT_TIMEOUT_S: Final = 60.0
CONNECT_TIMEOUT_S: Final = 5.0
CONNECTIONS: Final = 100


def options_of(address: str, key: str | None, timeout_s: float) -> dict[str, Any]:
    """Arguments that both kinds of httpx client take."""
    headers = {"User-Agent": "threadmatch-client"} | ({"Authorization": f"Bearer {key}"} if key else {})
    return {
        "base_url": with_scheme(address),
        "headers": headers,
        "timeout": httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S)),
        "limits": httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
        "trust_env": False,  # the key goes to this address and to no proxy
    }


def with_scheme(address: str) -> str:
    """The address with a scheme, where a person left it out.

    http for this machine and where a port other than 443 is named, as in `localhost` and `10.0.0.5:8000`; https else.
    """
    if "://" in address:
        return address
    url = httpx.URL(f"http://{address}")
    plain = url.port not in (None, 443) or url.host in ("localhost", "127.0.0.1", "::1")
    return f"{'http' if plain else 'https'}://{address}"


class Attempts:
    """One call's tries: says after each whether and when to make another. Knows no clock and no socket.

    Args:
        call: to be sent.
        retries: how often and how long.
    """

    def __init__(self, call: Call[Any], retries: Retries) -> None:
        self._call, self._retries = call, retries
        self._made, self._waited_s = 0, 0.0

    def pause_after(self, outcome: Outcome) -> float | None:
        """Seconds to wait before the next try; None when this outcome stands."""
        asked_s: float | None = None
        if isinstance(outcome, httpx.Response):
            if outcome.status_code not in RETRIED or not self._call.patient:
                return None
            asked_s = retry_after_s(outcome.headers)
        elif not _may_repeat(outcome, self._call):
            return None
        pause_s = self._retries.pause_s(self._made, asked_s=asked_s, waited_s=self._waited_s)
        self._made += 1
        self._waited_s += pause_s or 0.0
        return pause_s


def outcome_of(call: Call[A], outcome: Outcome, address: httpx.URL) -> A:
    """The result of the last try.

    Raises:
        ServiceUnreachableError: no answer came.
        RequestFailedError, AnswerNotUnderstoodError: see `Call.result`.
    """
    if isinstance(outcome, httpx.Response):
        return call.result(outcome)
    said = str(outcome) or type(outcome).__name__
    raise ServiceUnreachableError(
        f"no answer from {address}: {said}; is `threadmatch serve` running there?"
    ) from outcome


def _may_repeat(error: httpx.RequestError, call: Call[Any]) -> bool:
    """Whether asking again does no harm: the request never left, or it is one that may arrive twice.

    A timeout of an answer is not tried again: the service is still at it, and a second request would only add to that.
    """
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
        return True
    return call.repeatable and isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError)
