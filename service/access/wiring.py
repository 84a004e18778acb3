"""Puts the guard in front of an app, and what it asks for into the app's description."""

from __future__ import annotations

import http
import logging
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route

from threadmatch.service.access.guard import AccessMiddleware, AccessRules
from threadmatch.service.access.keys import read_keys
from threadmatch.service.access.origins import SAFE_METHODS, is_loopback
from threadmatch.service.access.roles import declared_need, every_route, needs
from threadmatch.service.access.sessions import COOKIE
from threadmatch.service.config import Settings
from threadmatch.service.errors import StartError

logger = logging.getLogger(__name__)

SCHEMES: dict[str, dict[str, str]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "a key made by `threadmatch keys add`"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "the same, for old clients"},
    "session": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "a browser's, from POST /v1/session"},
}


def install_access(app: FastAPI, settings: Settings, reject: Callable[[str], None]) -> None:
    """Guard every route of `app`, now and later; to be called when its routes are there.

    Raises:
        SettingsError: a setting that cannot be understood.
    """
    rules = AccessRules.of(settings)
    app.state.access = rules
    app.add_middleware(AccessMiddleware, rules=rules, reject=reject)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
            allow_headers=("Authorization", "X-API-Key", "Content-Type", "X-Request-ID", "If-None-Match"),
            expose_headers=("X-Request-ID", "Retry-After", "ETag"),
            max_age=600,  # no cookies: a session is for this service's own page
        )
    for route in app.routes:
        if isinstance(route, Route) and route.path == app.openapi_url:
            needs("nothing")(route.endpoint)
    _describe_access(app, keys_required=settings.keys is not None)


def check_reach(settings: Settings) -> None:
    """Refuse to be reached from other machines without keys, unless that was said in so many words.

    Raises:
        StartError: no keys, and an address beyond this machine; or the key file cannot be used.
    """
    if settings.keys is not None:
        if not read_keys(settings.keys).keys:
            logger.warning("no key is in the key file yet: nobody is let in", extra={"keys": str(settings.keys)})
        return
    if not is_loopback(settings.host) and not settings.allow_anonymous:
        raise StartError(
            f"refused to listen on {settings.host}, where other machines reach it, without API keys: make one with "
            "`threadmatch keys add --role search` and give its file as --keys or THREADMATCH_KEYS, or listen on "
            "127.0.0.1; THREADMATCH_ALLOW_ANONYMOUS=true lets everybody there do everything"
        )


def _describe_access(app: FastAPI, *, keys_required: bool) -> None:
    plain = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            _add_access(plain(), app, keys_required)
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]


def _add_access(api: dict[str, Any], app: FastAPI, keys_required: bool) -> None:
    """Security and refusals of every operation, read off what its route declares."""
    api["components"]["securitySchemes"] = SCHEMES
    without: list[dict[str, list[str]]] = [] if keys_required else [{}]
    for route in every_route(app.routes):
        path = api["paths"].get(getattr(route, "path_format", ""), {})
        for method in getattr(route, "methods", None) or ():
            operation = path.get(method.lower())
            if operation is None:
                continue
            need = declared_need(route) or "admin"
            refusals = {400} if method in SAFE_METHODS else {400, 403, 408, 413}
            if need != "nothing":
                operation["security"] = [*without, *({name: []} for name in SCHEMES)]
                operation["x-needs"] = need
                refusals |= {401, 403, 429, 503}
            for status in sorted(refusals):
                operation["responses"].setdefault(str(status), _refusal(status))
            operation["responses"] = dict(sorted(operation["responses"].items()))


def _refusal(status: int) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/ErrorAnswer"}
    return {"description": http.HTTPStatus(status).phrase, "content": {"application/json": {"schema": schema}}}
