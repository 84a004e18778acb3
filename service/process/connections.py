"""uvicorn's HTTP/1.1 connection, with a limit on the time that a request's head may take."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class TimedHead(H11Protocol):
    """Closes a connection whose request line and headers do not come to their end.

    uvicorn bounds the quiet between two requests, and h11 the bytes of a head. Neither bounds its time: a client that
    sent a byte now and then held a connection for as long as it liked. Bodies and answers have limits of their own
    (`upload_timeout_s`, `search_timeout_s`).
    """

    head_timeout_s: ClassVar[float] = 20.0
    """From the connection, or the first byte of a further request, to the end of the head."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        if self.conn.their_state is h11.IDLE:  # the first bytes of one more request
            self._expect_head()
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._have_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._have_head()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(self.head_timeout_s, self.transport.close)

    def _have_head(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
