"""Whole addresses in answers, where the service is told by which address clients reach it.

Answers name pictures by paths (`/v1/items/a/image`). Who hands an answer on, to a page of another site or in a mail,
needs the whole address, and only the operator knows it: a Host header is the client's word.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator
from starlette.types import ASGIApp, Receive, Scope, Send

base: ContextVar[str] = ContextVar("base", default="")
"""What addresses in the answer to this request begin with: "" or "https://shop.example/find"."""


def _check(address: str) -> str:
    """As it stands before a path.

    Raises:
        ValueError: it is no address of the web, or has more than a path.
    """
    parts = urlsplit(address)
    if address and (parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment):
        raise ValueError(f"found {address[:200]!r}; expected an address such as https://shop.example/find, or nothing")
    return address.rstrip("/")


PublicUrl = Annotated[str, AfterValidator(_check)]


class PublicAddressMiddleware:
    """Sets `base` for every request.

    Args:
        address: checked.
    """

    def __init__(self, app: ASGIApp, address: str) -> None:
        self._app, self._address = app, address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        token = base.set(self._address)
        try:
            await self._app(scope, receive, send)
        finally:
            base.reset(token)
