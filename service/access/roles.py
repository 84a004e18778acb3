"""Roles: what a route needs, and what a client may.

Every route says who may call it, in one line between the router's line and the function:

    @router.get("/v1/gallery", ...)
    @needs("search")
    async def gallery(chosen: Chosen) -> Response:

A route that says nothing needs `admin`, and a test fails for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar, get_args

from starlette.routing import BaseRoute, Match
from starlette.types import Scope

Role = Literal["search", "write", "admin", "metrics"]
Need = Literal["nothing", "search", "write", "admin", "metrics"]

ROLES: Final[tuple[Role, ...]] = get_args(Role)
EVERY_GALLERY: Final = "*"
_MAY: Final[dict[Role, frozenset[Need]]] = {
    "search": frozenset({"nothing", "search"}),
    "write": frozenset({"nothing", "search", "write"}),
    "admin": frozenset({"nothing", "search", "write", "admin"}),
    "metrics": frozenset({"nothing", "metrics"}),
}
_MARK: Final = "__access_need__"

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What the client of one request may do.

    Args:
        role: None for a client without a key where keys are needed: open routes only.
        galleries: names; None for every gallery.
        key_id: the public part of its key; None without one.
    """

    role: Role | None
    galleries: frozenset[str] | None = frozenset()
    key_id: str | None = None

    def may(self, need: Need) -> bool:
        """Whether its role is enough for a route."""
        if need == "metrics" and self.role == "admin":
            return self.galleries is None  # the counters are those of every gallery
        return need == "nothing" if self.role is None else need in _MAY[self.role]

    def may_use(self, gallery: str) -> bool:
        """Whether it may use a gallery, if there is one of this name."""
        return self.galleries is None or gallery in self.galleries


ANYBODY: Final = Access(role="admin", galleries=None)
"""Every client of a service without keys."""
NOBODY: Final = Access(role=None)
"""A client without a key."""


def needs(need: Need) -> Callable[[F], F]:
    """Declare who may call a route; "nothing" opens it to everybody."""

    def mark(endpoint: F) -> F:
        setattr(endpoint, _MARK, need)
        return endpoint

    return mark


def declared_need(route: BaseRoute) -> Need | None:
    """What a route says it needs; None if it says nothing."""
    need: Need | None = getattr(getattr(route, "endpoint", None), _MARK, None)
    return need


def every_route(routes: list[BaseRoute]) -> Iterator[BaseRoute]:
    """The routes of an app, those of included routers too."""
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is None:
            yield route
        else:
            yield from every_route(included.routes)


def need_of(scope: Scope) -> Need | None:
    """What the route of a request needs. None where no route is at the path, or none takes the method."""
    asked = dict(scope)
    for route in every_route(scope["app"].routes):
        match, _ = route.matches(asked)
        if match == Match.FULL:
            return declared_need(route) or "admin"
    return None


def is_known_path(scope: Scope) -> bool:
    """Whether any route is at the path of a request, whatever the method."""
    asked = dict(scope)
    return any(route.matches(asked)[0] != Match.NONE for route in every_route(scope["app"].routes))
