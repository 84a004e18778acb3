"""How tests wait: for a state that is bound to come and to stay, however busy the machine is; never for a moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

PATIENCE_S: Final = 240.0
"""Longer than anything takes on a machine that has other things to do; it is over only where something is wrong."""


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it is so; TimeoutError where it never is."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)


def wait_until(condition: Callable[[], bool], what: str, *, every_s: float = 0.005) -> None:
    """The same outside of an event loop.

    Raises:
        TimeoutError: it never was; `what` says what should have been.
    """
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"never: {what}")
        time.sleep(every_s)
