"""Work that ends when the client who asked for it has left."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

R = TypeVar("R")


async def unless_client_leaves(request: Request, work: Coroutine[Any, Any, R]) -> R:
    """The result of `work`, which is cancelled when the client closes the connection: nobody would read it.

    Raises:
        ClientDisconnect: the client left.
    """
    task = asyncio.create_task(work)
    watch = asyncio.create_task(_client_left(request))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return await task
    finally:
        for one in (task, watch):
            one.cancel()
        await asyncio.wait({task, watch})


async def _client_left(request: Request) -> None:
    """Return once the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
