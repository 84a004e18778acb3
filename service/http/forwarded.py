"""What a proxy in front says of a request: who asks, by which scheme and name, and below which prefix.

It is believed from trusted hops only: those of uvicorn's `FORWARDED_ALLOW_IPS` (127.0.0.1 where it is not set; several
with commas, networks, or * for all). `X-Forwarded-For` and `X-Forwarded-Proto` are read as uvicorn reads them.

    X-Forwarded-Prefix: /shop    links and addresses begin with it; it may still be on the path, or be taken off
    X-Forwarded-Host: a.example  the name that a page of this service has for the browser, for the check of its Origin

The name is not believed for the check of the Host header: a page of another site whose name is made to point here can
send any header with its requests.
"""

from __future__ import annotations

import contextvars
import os
import re
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

OWN: Final = frozenset({"docs", "favicon.ico", "health", "metrics", "openapi.json", "page", "search", "v1"})
"""First parts of this service's own paths: a prefix that begins so could not be told from them."""
TRUSTED: Final = "FORWARDED_ALLOW_IPS"
_PREFIX: Final = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,63}){1,8}")
_HOST: Final = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")

prefix: contextvars.ContextVar[str] = contextvars.ContextVar("prefix", default="")
"""What links of the answer to this request begin with: "" or "/shop"."""


def is_prefix(text: str) -> bool:
    """Whether it can stand before this service's own paths: "/shop" or "/a/b", without a slash at the end."""
    return bool(_PREFIX.fullmatch(text)) and text.split("/")[1] not in OWN


def own_path(scope: Scope) -> str:
    """The path of a request without the prefix that its scope names."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


class ForwardedMiddleware:
    """Outermost part of the app: reads those headers, and puts the prefix where ASGI has it.

    Args:
        root_path: a fixed prefix; then no header is asked. "" for the one that a hop names, or none.
        trusted: as in `FORWARDED_ALLOW_IPS`; None reads that variable.
    """

    def __init__(self, app: ASGIApp, root_path: str = "", trusted: str | None = None) -> None:
        named = trusted if trusted is not None else os.environ.get(TRUSTED, "127.0.0.1")
        self._app, self._root_path = app, root_path
        self._proxied = ProxyHeadersMiddleware(app, named)  # type: ignore[arg-type]  # ASGI's types, uvicorn's spelling

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = {**scope, "state": dict(scope.get("state", {}))}
        if self._trusts(scope):
            headers = Headers(scope=scope)
            if _HOST.fullmatch(host := _nearest(headers, "x-forwarded-host")):
                scope["state"]["forwarded_host"] = host
            named = _nearest(headers, "x-forwarded-prefix").rstrip("/")
        else:
            named = ""
        root = self._root_path or (named if is_prefix(named) else "") or str(scope.get("root_path", ""))
        if root and scope["path"] == root:  # relative addresses of the page need the slash
            await RedirectResponse(f"{root}/", status_code=308)(scope, receive, send)
            return
        if root:
            taken_off = not str(scope["path"]).startswith(f"{root}/")
            scope |= {"root_path": root, "path": root + scope["path"] if taken_off else scope["path"]}
        token = prefix.set(root)
        try:
            await self._proxied(scope, receive, send)  # type: ignore[arg-type]
        finally:
            prefix.reset(token)

    def _trusts(self, scope: Scope) -> bool:
        """Whether the hop that the connection comes from may say such things."""
        client = scope.get("client")
        if client is None:
            return False
        host, port = client
        # No connection comes from port 0: uvicorn has put the asker's address there, having trusted the hop.
        return port == 0 or host in self._proxied.trusted_hosts


def _nearest(headers: Headers, name: str) -> str:
    """The value that the nearest hop gave, or appended; what stands before it may be the asker's own."""
    values = headers.getlist(name)
    return values[-1].rpartition(",")[2].strip() if values else ""
