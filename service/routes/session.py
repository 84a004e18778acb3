"""POST, GET and DELETE /v1/session: a browser gives its key once and has a cookie from then on."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from threadmatch.service.access import sessions
from threadmatch.service.access.guard import AccessRules, access_of
from threadmatch.service.access.roles import NOBODY, Access, needs
from threadmatch.service.access.session_forms import SessionAnswer, SessionForm
from threadmatch.service.errors import KeysError, NotReadyError, UnauthorizedError
from threadmatch.service.routes.openapi_parts import errors
from threadmatch.service.shared import ServiceState, service_of

router = APIRouter(tags=["access"])

Service = Annotated[ServiceState, Depends(service_of)]


@router.get("/v1/session", summary="What may this client do?", responses=errors(500))
@needs("nothing")
async def session(request: Request, service: Service) -> SessionAnswer:
    """Whether a key is needed here, and the role and galleries of the key or session that came with the request."""
    return _answer(request, service, access_of(request))


@router.post("/v1/session", summary="Sign a browser in", responses=errors(401, 422, 500, 503))
@needs("nothing")
async def sign_in(form: SessionForm, request: Request, response: Response, service: Service) -> SessionAnswer:
    """Exchange a key for a cookie that scripts cannot read and other sites' pages cannot send."""
    rules = _rules(request)
    if rules.ring is None:
        return _answer(request, service, access_of(request))
    try:
        stored = rules.ring.find(form.key)
        if stored is None:
            raise UnauthorizedError("this key is not known here; it may have been revoked")
        sessions.begin(response, request, rules.ring, form.key, hours=service.settings.session_hours)
    except KeysError as error:
        raise NotReadyError("the keys cannot be read; the reason is in the service's log") from error
    request.state.log["key"] = stored.id
    return _answer(request, service, stored.access)


@router.delete("/v1/session", summary="Sign a browser out", responses=errors(500))
@needs("nothing")
async def sign_out(request: Request, response: Response, service: Service) -> SessionAnswer:
    """Clear the cookie. The key stays good; `threadmatch keys revoke` ends it."""
    sessions.end(response, request)
    return _answer(request, service, access_of(request) if _rules(request).ring is None else NOBODY)


def _answer(request: Request, service: ServiceState, access: Access) -> SessionAnswer:
    return SessionAnswer(
        keys_required=_rules(request).ring is not None,
        role=access.role,
        galleries=[name for name in service.galleries if access.may_use(name)],
    )


def _rules(request: Request) -> AccessRules:
    rules = request.app.state.access
    assert isinstance(rules, AccessRules)
    return rules
