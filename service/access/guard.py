"""The middleware in front of every route: who is asking, from where, may they, and how often.

    Host and Origin  ->  key or cookie  ->  role of the route  ->  rate  ->  size of a small body  ->  the route

What it finds out stands in `request.state.access`; `service.routes.gallery_choice` asks there which galleries
the client may use.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from threadmatch.service.access import sessions
from threadmatch.service.access.keys import KeyRing
from threadmatch.service.access.origins import LOOPBACK_NAMES, SAFE_METHODS, check_host, check_origin, is_loopback
from threadmatch.service.access.rates import RateLimits, parse_rate
from threadmatch.service.access.roles import ANYBODY, NOBODY, Access, Need, is_known_path, need_of
from threadmatch.service.config import MIB, Settings, variable
from threadmatch.service.errors import (
    ForbiddenError,
    KeysError,
    NotReadyError,
    RequestError,
    TooLargeError,
    UnauthorizedError,
    UploadTimeoutError,
    known_error_response,
)
from threadmatch.service.http.forwarded import own_path
from threadmatch.service.http.uploads import UploadRules, Uploads
from threadmatch.service.queues import clients
from threadmatch.service.queues.clients import client_name

logger = logging.getLogger(__name__)

SMALL_BODY_BYTES = 256 * 1024  # of a body that is not a form with photos, such as JSON
BY_ADDRESS = ("/health/",)  # probes name a machine by its address, so any Host will do; these say nothing secret


@dataclass(slots=True)
class AccessRules:
    """What the guard goes by; made once from the settings.

    Args:
        ring: the keys; None where the service needs none.
        hosts: see `origins.check_host`.
        origins: of other sites that may send requests.
        rates: counts them.
        anywhere: whether a service without keys may answer at addresses beyond this machine.
        body_timeout_s: how long a small body may take to arrive.
        uploads: bodies on their way in.
        wrong_keys: counts those of each address.
    """

    ring: KeyRing | None
    hosts: tuple[str, ...]
    origins: tuple[str, ...]
    rates: RateLimits
    anywhere: bool
    body_timeout_s: float
    uploads: Uploads
    wrong_keys: RateLimits
    _complained: str = field(default="")

    @classmethod
    def of(cls, settings: Settings) -> AccessRules:
        """The rules of these settings."""
        hosts = settings.allowed_hosts
        if not hosts and settings.keys is None and is_loopback(settings.host):
            hosts = LOOPBACK_NAMES
        return cls(
            ring=None if settings.keys is None else KeyRing(settings.keys),
            hosts=tuple(name.lower() for name in hosts),
            origins=settings.cors_origins,
            rates=RateLimits(parse_rate(settings.rate_limit), shared=_shared_file("rates")),
            wrong_keys=RateLimits(
                parse_rate(settings.wrong_keys, variable("wrong_keys")),
                shared=_shared_file("wrong-keys"),
                what="without a key that is known here, this address",
            ),
            anywhere=settings.allow_anonymous,
            body_timeout_s=settings.upload_timeout_s,
            uploads=Uploads(
                UploadRules(
                    most=settings.max_uploads,
                    most_bytes=settings.max_upload_mib * MIB,
                    grace_s=settings.upload_grace_s,
                    least_bytes_s=settings.upload_bytes_s,
                )
            ),
        )

    def access_of(self, request: Request) -> Access:
        """What the client of a request may do, by its key, its cookie, or for want of both.

        Raises:
            UnauthorizedError: a key that is unknown or revoked; RateLimitedError: one of too many.
            NotReadyError: the key file cannot be read.
        """
        if self.ring is None:
            return ANYBODY
        try:
            key = sent_key(request)
            stored = self.ring.find(key) if key is not None else sessions.find(request, self.ring)
        except KeysError as error:
            if self._complained != str(error):  # once, not at every request
                logger.error("keys cannot be read, nobody is let in", extra={"reason": str(error)})
            self._complained = str(error)
            raise NotReadyError("the keys cannot be read; the reason is in the service's log") from error
        if stored is None and (key is not None or sessions.has_cookie(request)):
            # A right key is let through whatever else its address sent: one client must not shut out another.
            self.wrong_keys.spend(client_name(None, request.client.host if request.client else None))
            raise UnauthorizedError(
                "this key is not known here; it may have been revoked"
                if key is not None
                else "the session has ended; send the key to POST /v1/session again"
            )
        return NOBODY if stored is None else stored.access


def _shared_file(name: str) -> Path | None:
    """A file in the folder that the workers of one service share; None where there are none."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return Path(folder) / name if folder else None


def sent_key(request: Request) -> str | None:
    """The key in the headers, `Authorization: Bearer KEY` or `X-API-Key: KEY`; None without one."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    return request.headers.get("x-api-key")  # another scheme may be a proxy's own


def access_of(request: Request) -> Access:
    """What the client of this request may do, as the guard found it."""
    access = request.state.access
    assert isinstance(access, Access)
    return access


def charge(request: Request, more: int) -> None:
    """Count a request for `more` further ones against its key's rate, such as one for each photo of a batch.

    Raises:
        RateLimitedError: the key may not make so many now.
    """
    rules, access = request.app.state.access, access_of(request)
    assert isinstance(rules, AccessRules)
    if access.key_id is not None and more > 0:
        rules.rates.spend(access.key_id, more)


class AccessMiddleware:
    """Lets a request through to its route, or answers for it. Plain ASGI; photos stream through untouched.

    Args:
        rules: from `AccessRules.of`.
        reject: called with the reason of each refusal.
    """

    def __init__(self, app: ASGIApp, rules: AccessRules, reject: Callable[[str], None]) -> None:
        self._app, self._rules, self._reject = app, rules, reject

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            self._check_where(request)
            access = scope["state"]["access"] = self._check_who(request)
        except RequestError as error:
            await known_error_response(request, error, self._reject)(scope, receive, send)
            return
        name = client_name(access.key_id, request.client.host if request.client else None)
        with self._rules.uploads.body(name) as body, self._as_client(name):
            receive = body.counted(receive)
            try:
                receive = await self._small_body(request, receive)
            except RequestError as error:
                await known_error_response(request, error, self._reject)(scope, receive, send)
                return
            await self._app(scope, receive, send)

    @staticmethod
    @contextlib.contextmanager
    def _as_client(name: str) -> Iterator[None]:
        token = clients.current.set(name)
        try:
            yield
        finally:
            clients.current.reset(token)

    def _check_where(self, request: Request) -> None:
        host = request.headers.get("host", "")
        if not own_path(request.scope).startswith(BY_ADDRESS):
            check_host(host, self._rules.hosts)
        seen_as = request.scope["state"].get("forwarded_host", host)  # a proxy may have put another name in its place
        check_origin(request.method, request.headers.get("origin"), seen_as, self._rules.origins)
        here, port = request.scope.get("server") or ("127.0.0.1", None)
        if self._rules.ring is None and not self._rules.anywhere and port is not None and not is_loopback(here):
            raise UnauthorizedError(  # started past `threadmatch serve`, which would have refused
                "this service has no keys and answers on its own machine only; see THREADMATCH_KEYS"
            )

    def _check_who(self, request: Request) -> Access:
        need = need_of(request.scope)
        if need == "nothing" or (need is None and is_known_path(request.scope)):  # open, or about to be a 405
            try:
                return self._rules.access_of(request)
            except RequestError:
                return NOBODY
        access = self._rules.access_of(request)
        if access.key_id is not None:
            request.state.log["key"] = access.key_id
            self._rules.rates.spend(access.key_id)
        self._check_role(access, need)
        return access

    def _check_role(self, access: Access, need: Need | None) -> None:
        if access.role is None:
            raise UnauthorizedError(
                "this needs an API key: send it as `Authorization: Bearer KEY`; `threadmatch keys add` makes one"
            )
        if need is not None and not access.may(need):
            every = " for every gallery" if need == "metrics" and access.role == "admin" else ""
            raise ForbiddenError(f"this key has the role {access.role!r}; this needs {need!r}{every}")

    async def _small_body(self, request: Request, receive: Receive) -> Receive:
        """Read a body that is not a form ahead, up to its limit: what reads JSON further in takes any number of bytes.

        Raises:
            TooLargeError, UploadTimeoutError: see each class.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if request.method in SAFE_METHODS or kind == "multipart/form-data":
            return receive
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > SMALL_BODY_BYTES:
            raise _too_large()
        messages: deque[Message] = deque()
        total, more = 0, True
        try:
            async with asyncio.timeout(self._rules.body_timeout_s):
                while more:
                    message = await receive()
                    messages.append(message)
                    total += len(message.get("body", b""))
                    more = message["type"] == "http.request" and message.get("more_body", False)
                    if total > SMALL_BODY_BYTES:
                        raise _too_large()
        except TimeoutError as error:
            raise UploadTimeoutError(f"the body did not arrive within {self._rules.body_timeout_s:g} s") from error

        async def again() -> Any:
            return messages.popleft() if messages else await receive()

        return again


def _too_large() -> TooLargeError:
    return TooLargeError(f"the body has more than {SMALL_BODY_BYTES} bytes; photos are sent as multipart/form-data")
