"""uvicorn's HTTP/1.1 connection, and what it leaves open: slow heads, rests of bodies, two lengths, half-closes."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import ClassVar, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

PROBES_S: Final = (0.0, 0.02, 0.25, 2.0)
"""When a client that closed its side is asked whether it still listens, in seconds after that."""


class OneLength(h11.Connection):
    """Refuses a request whose body has two lengths.

    h11 goes by `Transfer-Encoding` and passes over a `Content-Length` beside it. A proxy in front that goes by the
    other one sees the rest of the body as a request of its own, or the other way round: so requests are smuggled past
    its checks. RFC 9112, section 6.1, lets a server answer 400 and close; HTTP/1.0 has no `Transfer-Encoding` at all.
    """

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """The next event; h11.RemoteProtocolError where the length of the body is in doubt."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            names = {name for name, _ in event.headers}  # in lower case
            if b"transfer-encoding" in names and (b"content-length" in names or event.http_version < b"1.1"):
                raise h11.RemoteProtocolError("Content-Length and Transfer-Encoding in one request")
        return event


class TimedHead(H11Protocol):
    """A connection that no client holds for longer than it has something to say or to hear.

    - uvicorn bounds the quiet between two requests, and h11 the bytes of a head. Neither bounds its time: a client that
      sent a byte now and then held a connection for as long as it liked.
    - An answer may come before the body has ended (a refusal does). What is left of the body is passed over, for
      `rest_timeout_s` at most.
    - A client that has closed its side may still listen (`shutdown(SHUT_WR)`), or be gone: both look the same. It is
      sent an interim answer (102), which a client that listens passes over, and whose system resets the connection
      where nobody does. So the first gets its answer, and the work for the second is stopped.

    Bodies and answers have limits of their own (`service.http.uploads`, `search_timeout_s`).
    """

    head_timeout_s: ClassVar[float] = 20.0
    """From the connection, or the first byte of a further request, to the end of the head."""
    rest_timeout_s: ClassVar[float] = 5.0
    """From the answer to the end of a body that was not read."""
    most_of_one_address: ClassVar[int] = 64
    """Connections at a time; each has its turn in every round of the loop, so that thousands of one client's would make
    a round last for seconds. Those beyond are ended before anything is read from them."""
    of_address: ClassVar[Counter[str]] = Counter()

    _late: asyncio.TimerHandle | None = None
    _address: str = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        most = self.config.h11_max_incomplete_event_size
        self.conn = OneLength(h11.SERVER) if most is None else OneLength(h11.SERVER, most)
        self._expect(self.head_timeout_s)
        self._address = self.client[0] if self.client is not None else ""
        self.of_address[self._address] += 1
        if self._address and self.of_address[self._address] > self.most_of_one_address:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.conn.their_state is h11.IDLE:  # the first bytes of one more request
            self._expect(self.head_timeout_s)
        super().data_received(data)
        resting = self.cycle is not None and self.cycle.response_complete and self.conn.their_state is h11.SEND_BODY
        if self.conn.their_state is not h11.IDLE and not resting:
            self._have_it()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY and not self.transport.is_closing():
            self._expect(self.rest_timeout_s)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Keep our side open where an answer is on its way to a request that is complete."""
        if self.cycle is None or self.cycle.response_complete or self.cycle.more_body:
            return None
        self.cycle.keep_alive = False
        for after_s in PROBES_S:
            self.loop.call_later(after_s, self._probe)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._have_it()
        self.of_address[self._address] -= 1
        if not self.of_address[self._address]:
            del self.of_address[self._address]
        super().connection_lost(exc)

    def _probe(self) -> None:
        if self.conn.our_state is h11.SEND_RESPONSE and not self.transport.is_closing():
            if self.conn.their_http_version == b"1.0":  # it knows no interim answers
                return
            processing = h11.InformationalResponse(status_code=102, headers=[], reason=b"Processing")
            self.transport.write(self.conn.send(processing) or b"")

    def _expect(self, within_s: float) -> None:
        if self._late is None:
            self._late = self.loop.call_later(within_s, self.transport.close)

    def _have_it(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
