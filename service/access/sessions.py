"""The cookie that a browser gets in exchange for a key.

    <key id>.<good until, seconds since 1970>.<token>.<signature>

The token comes from the key by HMAC (`keys.session_token`): the service can check it against the key file's hash, and
it is of no use as an API key. The signature is made with the key file's secret, so that no client can lengthen its
session. Whoever steals a cookie has it until then; whoever steals the key file cannot make one, since the tokens are
not in it. Nothing is stored, so every worker process and a restarted service know the session; a revoked key ends it.
"""

from __future__ import annotations

import hashlib
import hmac
import time

from starlette.requests import HTTPConnection
from starlette.responses import Response

from threadmatch.service.access.keys import KeyRing, StoredKey, session_token

COOKIE = "threadmatch-session"
SECURE_COOKIE = "__Host-threadmatch-session"  # browsers take this name over https only, for this host only


def begin(response: Response, request: HTTPConnection, ring: KeyRing, key: str, *, hours: float) -> None:
    """Set the cookie for a key that `ring` has just found."""
    stored = ring.find(key)
    assert stored is not None, "the caller has checked the key"
    seconds = int(hours * 3600)
    body = f"{stored.id}.{int(time.time()) + seconds}.{session_token(key)}"
    name, secure = _name(request)
    response.set_cookie(
        name,
        f"{body}.{_signature(ring, body)}",
        max_age=seconds,
        path="/",
        secure=secure,
        httponly=True,
        samesite="strict",
    )


def end(response: Response, request: HTTPConnection) -> None:
    """Clear the cookie."""
    name, secure = _name(request)
    response.delete_cookie(name, path="/", secure=secure, httponly=True, samesite="strict")


def find(request: HTTPConnection, ring: KeyRing) -> StoredKey | None:
    """The key behind a request's cookie; None without one, or with one that is not good (any more)."""
    value = request.cookies.get(_name(request)[0], "")
    identity, _, rest = value.partition(".")
    until, _, rest = rest.partition(".")
    token, _, signature = rest.partition(".")
    if not (identity and token and signature and until.isascii() and until.isdecimal()) or len(value) > 400:
        return None
    good = hmac.compare_digest(
        signature.encode("utf-8", "replace"), _signature(ring, f"{identity}.{until}.{token}").encode()
    )
    if not good or int(until) < time.time():
        return None
    return ring.find_session(identity, token)


def has_cookie(request: HTTPConnection) -> bool:
    """Whether the browser sent a session's cookie, good or not."""
    return _name(request)[0] in request.cookies


def _name(request: HTTPConnection) -> tuple[str, bool]:
    secure = request.url.scheme == "https"
    return (SECURE_COOKIE if secure else COOKIE), secure


def _signature(ring: KeyRing, body: str) -> str:
    secret = bytes.fromhex(ring.current().session_secret)
    return hmac.new(secret, body.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
