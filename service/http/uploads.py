"""Bodies on their way in: bounded by number and bytes, for all and for each client, and by how fast they come.

A client that sends a byte a second costs nothing but a connection here: no place among the searches is taken before its
body is complete. Where room runs out, the slowest body goes: first of the client that asks for more, then of the one
that has the most.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from starlette.types import Message, Receive

from threadmatch.service.errors import OverloadedError, RequestError, UploadTimeoutError
from threadmatch.service.queues import clients

YOUNG_S: Final = 1.0
"""A body younger than this has no speed yet, so none is dropped for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadRules:
    """Bounds on bodies.

    Args:
        most: bodies on their way at a time.
        most_bytes: of all bodies that are held, those whose requests are being answered included.
        grace_s: seconds before speed counts.
        least_bytes_s: bytes a second, on average since the grace.
    """

    most: int = 256
    most_bytes: int = 512 * 2**20
    grace_s: float = 5.0
    least_bytes_s: float = 4096.0


class Body:
    """The body of one request; made by `Uploads.body`."""

    def __init__(self, uploads: Uploads, client: str) -> None:
        self.client = client
        self.under_way = False
        self.received = 0
        self.since = 0.0
        self._uploads = uploads
        self._timer: asyncio.Timeout | None = None
        self._dropped: RequestError | None = None
        self._over = False

    @property
    def speed(self) -> float:
        """Bytes a second so far."""
        return self.received / max(1e-3, self._uploads.now() - self.since)

    def drop(self, reason: RequestError) -> None:
        """Make the reader raise `reason` at once."""
        self._dropped = reason
        if self._timer is not None:
            self._timer.reschedule(asyncio.get_running_loop().time())

    def counted(self, receive: Receive) -> Receive:
        """`receive`, whose body is bounded. What it raises are RequestErrors."""

        async def bounded() -> Message:
            if self._over:
                return await receive()
            if self._dropped is not None:
                raise self._dropped
            self._uploads.begin(self)
            await self._uploads.turns.take(self.client)
            try:
                async with asyncio.timeout(self._left_s()) as self._timer:
                    message = await receive()
            except TimeoutError:
                raise self._dropped or self._too_slow() from None
            finally:
                self._timer = None
            if message["type"] != "http.request" or not message.get("more_body", False):
                self._over = True
            self._uploads.got(self, len(message.get("body", b"")), over=self._over)
            return message

        return bounded

    def _left_s(self) -> float:
        """How long it may be silent: what has come so far earns it time."""
        rules = self._uploads.rules
        due = self.since + rules.grace_s + self.received / rules.least_bytes_s
        return max(0.0, due - self._uploads.now())

    def _too_slow(self) -> UploadTimeoutError:
        rules = self._uploads.rules
        return UploadTimeoutError(
            f"the body came at {self.speed:.0f} bytes a second; after {rules.grace_s:g} s it takes "
            f"{rules.least_bytes_s:g} on average. Send a smaller photo or over a better line"
        )


class Turns:
    """Lets each client read from one of its bodies in each round of the event loop.

    A round lasts as long as all that is read in it. A client that sends sixty bodies at a time would otherwise make
    each round sixty times as long for everybody, and a search takes some twenty rounds.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._had: set[str] = set()  # their turn in this round

    async def take(self, client: str) -> None:
        """Wait for this client's turn; at once where it has had none in this round."""
        if client not in self._had and client not in self._waiting:
            self._grant(client)
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        await turn

    def _grant(self, client: str) -> None:
        if not self._had:
            asyncio.get_running_loop().call_soon(self._next)
        self._had.add(client)

    def _next(self) -> None:
        self._had.clear()
        for client, turns in list(self._waiting.items()):
            while turns and turns[0].done():  # its body is gone
                turns.popleft()
            if turns:
                turns.popleft().set_result(None)
                self._grant(client)
            if not turns:
                del self._waiting[client]


class Uploads:
    """All bodies of this process.

    Args:
        rules: the bounds.
        clock: seconds, never falling.
    """

    def __init__(self, rules: UploadRules, *, clock: Callable[[], float] | None = None) -> None:
        self.rules = rules
        self._clock = clock
        self._bodies: set[Body] = set()
        self.turns = Turns()

    def now(self) -> float:
        """The clock."""
        return self._clock() if self._clock is not None else asyncio.get_running_loop().time()

    @property
    def under_way(self) -> int:
        """Bodies that are not complete."""
        return sum(body.under_way for body in self._bodies)

    @property
    def held_bytes(self) -> int:
        """Bytes of all bodies, complete or not, whose requests are not answered yet."""
        return sum(body.received for body in self._bodies)

    @contextlib.contextmanager
    def body(self, client: str) -> Iterator[Body]:
        """The body of one request, held until the block ends.

        Args:
            client: whose; `service.queues.clients.client_name`.
        """
        body = Body(self, client)
        try:
            yield body
        finally:
            self._bodies.discard(body)
            body.under_way = False

    def begin(self, body: Body) -> None:
        """Count a body at the first look at it.

        Raises:
            OverloadedError: this client sends too many at a time, none of them slow.
        """
        if body in self._bodies:
            return
        others, own = self.under_way, [one for one in self._of(body.client) if one.under_way]
        if len(own) + 1 > clients.may_hold(self.rules.most, others - len(own)):
            self._make_room(own, f"this client sends {len(own)} bodies at a time already")
        elif others + 1 > self.rules.most:
            self._make_room(self._largest(lambda _: 1), f"{others} bodies are on their way already")
        body.since, body.under_way = self.now(), True
        self._bodies.add(body)

    def got(self, body: Body, size: int, *, over: bool) -> None:
        """Count what came.

        Raises:
            OverloadedError: it is more than there is room for.
        """
        body.received += size
        if over:
            body.under_way = False
        held = self.held_bytes
        if held == body.received:
            return  # a single one may have it all
        own = sum(one.received for one in self._of(body.client))
        if own > clients.may_hold(self.rules.most_bytes, held - own) and own > body.received:
            slow = [one for one in self._of(body.client) if one.under_way and one is not body]
            self._make_room(slow, f"the photos that this client has sent hold {own >> 20} MiB already")
        elif held > self.rules.most_bytes:
            slow = [one for one in self._largest(lambda one: one.received) if one is not body]
            self._make_room(slow, f"the photos of all clients hold {held >> 20} MiB already")

    def _of(self, client: str) -> list[Body]:
        return [body for body in self._bodies if body.client == client]

    def _largest(self, weigh: Callable[[Body], int]) -> list[Body]:
        """The bodies under way of the client that has most of them."""
        weights: dict[str, int] = {}
        for body in self._bodies:
            if body.under_way:
                weights[body.client] = weights.get(body.client, 0) + weigh(body)
        largest = max(weights, key=lambda client: weights[client], default="")
        return [body for body in self._of(largest) if body.under_way]

    def _make_room(self, among: list[Body], why: str) -> None:
        """Drop the slowest body, or refuse the one that asks."""
        old = [body for body in among if self.now() - body.since >= YOUNG_S]
        if not old:
            raise OverloadedError(f"{why}; try again soon")
        slowest = min(old, key=lambda body: body.speed)
        self._bodies.discard(slowest)
        slowest.under_way = False
        slowest.drop(OverloadedError(f"{why}, and this one came the slowest; try again over a better line"))
