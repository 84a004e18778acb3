"""uvicorn's server, with an end that clients who keep asking cannot put off."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Final

import uvicorn

SWEEP_S: Final = 0.1


class DrainingServer(uvicorn.Server):
    """Ends each connection after the answer it waits for.

    uvicorn asks the connections that it knows when the end begins. One that was accepted at that moment is not yet
    among them: kept alive by a client that goes on asking, or held without a word, it lasted until the time for
    draining was over. So they are asked again and again.
    """

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what was asked, take nothing new, end."""
        sweeping = asyncio.create_task(self._sweep(), name="sweep-connections")
        try:
            await super().shutdown(sockets)
        finally:
            sweeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sweeping

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            for connection in list(self.server_state.connections):
                if not connection.transport.is_closing():
                    connection.shutdown()
