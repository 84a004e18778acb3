"""What every request gets, whatever its route: an id, one log line, safe headers, HEAD, and a 500 that says nothing."""

from __future__ import annotations

import logging
import re
import time
import uuid
from contextlib import nullcontext
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from threadmatch.service.errors import CLIENT_LEFT, UNEXPECTED_DETAIL, error_response
from threadmatch.service.http.forwarded import own_path
from threadmatch.service.watching import logs
from threadmatch.service.watching.metrics import Metrics
from threadmatch.service.watching.tracing import NO_SPAN, Span, Tracing

logger = logging.getLogger(__name__)

REQUEST_ID_HEADER = "X-Request-ID"
_GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_QUIET = ("/health/", "/metrics")  # asked every few seconds: logged at debug level
_SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # Nothing an API answer could load or frame; the pages set their own.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


class RequestMiddleware:
    """Around all that answers, plain ASGI so that bodies stream through untouched."""

    def __init__(self, app: ASGIApp, metrics: Metrics, tracing: Tracing) -> None:
        self._app, self._metrics, self._tracing = app, metrics, tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
        request_id = given if _GIVEN_ID.fullmatch(given) else uuid.uuid4().hex
        token = logs.request_id.set(request_id)
        asked: str = scope["method"]
        inner: dict[str, Any] = dict(scope)
        inner["state"] = {**scope.get("state", {}), "request_id": request_id, "log": {}}
        inner["asked_method"] = asked
        if asked == "HEAD":  # answered like GET, without the body
            inner["method"] = "GET"
        status = CLIENT_LEFT
        started = time.perf_counter()

        async def send_out(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID_HEADER] = request_id
                for name, value in _SECURITY.items():
                    headers.setdefault(name, value)
            elif message["type"] == "http.response.body" and asked == "HEAD":
                message = {**message, "body": b""}
            await send(message)

        quiet = own_path(scope).startswith(_QUIET)
        with nullcontext(NO_SPAN) if quiet else self._tracing.request(asked, Headers(scope=scope)) as span:
            try:
                await self._app(inner, receive, send_out)
            except Exception as error:
                logger.exception("unexpected error", extra={"path": scope["path"], "kind": type(error).__name__})
                if status != CLIENT_LEFT:
                    raise  # the answer has begun: only the server can break it off
                response = error_response(inner, status=500, error="Unexpected", detail=UNEXPECTED_DETAIL)
                await response(inner, receive, send_out)
            finally:
                self._record(inner, status, time.perf_counter() - started, span=span)
                logs.request_id.reset(token)

    def _record(self, scope: Scope, status: int, seconds: float, *, span: Span) -> None:
        route = getattr(scope.get("route"), "path", "none")  # the pattern, never the path: a bounded set of labels
        method = scope["asked_method"] if scope["asked_method"] in _METHODS else "other"
        self._metrics.requests.labels(route, method, str(status)).inc()
        span.rename(f"{method} {route}")
        span.set(
            {
                "http.request.method": method,
                "http.route": route,
                "http.response.status_code": status,
                "threadmatch.request_id": scope["state"]["request_id"],
            }
        )
        if status >= 500:
            span.fail()
        trace = {"trace_id": span.trace_id} if span.trace_id else {}
        level = logging.DEBUG if own_path(scope).startswith(_QUIET) else logging.INFO
        logger.log(
            level,
            "request",
            extra={
                "method": scope["asked_method"],
                "path": scope["path"],
                "status": status,
                "ms": round(1000 * seconds, 1),
                **trace,
                **scope["state"]["log"],
            },
        )


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
