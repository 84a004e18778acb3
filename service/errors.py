"""What can go wrong in the service room, and the one answer form every error takes.

ServiceError
 +- StartError               the service cannot start: settings, gallery, model or port; printed, exit 1
 |   +- SettingsError        a THREADMATCH_* variable that is unknown or out of range
 |   +- KeysError            the file of API keys cannot be read or written
 +- RequestError             one request cannot be answered; each has a status in `STATUS`
     +- InvalidFieldError    a form field that is missing, unknown, repeated or out of range
     +- TooLargeError        a body or photo beyond the limit
     +- UnsupportedMediaTypeError   a body that is not multipart/form-data
     +- UploadTimeoutError   a client that sends its body too slowly
     +- UnauthorizedError    no API key, or one that is not known
     +- ForbiddenError       a key whose role is too small
     +- ForeignHostError     a Host header that names somebody else
     +- ForeignOriginError   sent by another site's page
     +- RateLimitedError     a key that asks too often
     +- UnknownGalleryError  a gallery that is not there, or not for this client
     +- OverloadedError      more work is waiting than the service takes on
     +- ModelFailedError     the model could not compute a batch
     +- SearchTimeoutError   the answer was not ready in time
     +- SearchNotFoundError  an earlier search that is not remembered (any more)
     +- FeedbackOffError     feedback, where none is taken
     +- FeedbackStoreError   feedback that could not be written down
     +- NotReadyError        no gallery is open yet
     +- StoppedError         the service is shutting down
"""

from __future__ import annotations

import http
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match

from threadmatch.indexer.errors import (
    BacklogError,
    EditBusyError,
    EditError,
    FilterError,
    GalleryFullError,
    IndexerError,
    ItemNotFoundError,
    TooMuchMetadataError,
)
from threadmatch.model.errors import InvalidImageError

logger = logging.getLogger(__name__)


class ServiceError(Exception):
    """Base of every error the service room raises on purpose."""


class StartError(ServiceError):
    """The service cannot start; the message says what to change."""


class SettingsError(StartError):
    """A setting that is unknown or out of range."""


class KeysError(StartError):
    """A file of API keys that cannot be read or written, or a key that is not in it."""


class RequestError(ServiceError):
    """One request cannot be answered; `STATUS` says with which status.

    Args:
        retry_after_s: sent as Retry-After, where trying again helps; None for what the class says.
    """

    retry_after_s: int | None = None

    def __init__(self, *message: object, retry_after_s: int | None = None) -> None:
        super().__init__(*message)
        if retry_after_s is not None:
            self.retry_after_s = retry_after_s


class InvalidFieldError(RequestError):
    """A form field that is missing, unknown, repeated, contradictory or out of range."""


class TooLargeError(RequestError):
    """A request body or photo with more bytes than the service accepts."""


class UnsupportedMediaTypeError(RequestError):
    """A body that is not multipart/form-data."""


class UploadTimeoutError(RequestError):
    """The client did not finish sending its body in time."""


class UnauthorizedError(RequestError):
    """No API key where one is needed, or one that is unknown or revoked."""


class ForbiddenError(RequestError):
    """A key that is known, whose role is not enough for the route."""


class ForeignHostError(RequestError):
    """A Host header with a name that is not this service's."""


class ForeignOriginError(RequestError):
    """A request that changes or computes something, sent by a page of another site."""


class RateLimitedError(RequestError):
    """A key that made more requests than it may."""

    retry_after_s = 1


class UnknownGalleryError(RequestError):
    """A name that no gallery has, or one that this client may not use: the answer is the same."""


class OverloadedError(RequestError):
    """More work is waiting than the service takes on; nothing of this request was done."""

    retry_after_s = 1


class ModelFailedError(RequestError):
    """The model could not compute the batch this request was in."""

    retry_after_s = 1


class SearchTimeoutError(RequestError):
    """The answer was not ready within the time set for a search."""

    retry_after_s = 5


class FeedbackOffError(RequestError):
    """This service takes no feedback."""


class FeedbackStoreError(RequestError):
    """A verdict that could not be written; nothing of it was kept."""

    retry_after_s = 5


class SearchNotFoundError(RequestError):
    """An earlier search that is not remembered: never kept, too long ago, or another gallery's."""


class NotReadyError(RequestError):
    """No gallery is open yet."""

    retry_after_s = 5


class StoppedError(RequestError):
    """The service is shutting down."""

    retry_after_s = 5


# The one table of statuses: our own errors and those of the rooms below that a request can meet.
STATUS: dict[type[Exception], int] = {
    InvalidFieldError: 422,
    TooLargeError: 413,
    UnsupportedMediaTypeError: 415,
    UploadTimeoutError: 408,
    UnauthorizedError: 401,
    ForbiddenError: 403,
    ForeignHostError: 400,
    ForeignOriginError: 403,
    RateLimitedError: 429,
    UnknownGalleryError: 404,
    OverloadedError: 429,
    ModelFailedError: 503,
    SearchTimeoutError: 503,
    SearchNotFoundError: 404,
    FeedbackOffError: 404,
    FeedbackStoreError: 503,
    NotReadyError: 503,
    StoppedError: 503,
    InvalidImageError: 422,
    FilterError: 422,
    ItemNotFoundError: 404,
    GalleryFullError: 507,
    BacklogError: 503,
    EditBusyError: 503,
    TooMuchMetadataError: 422,
    EditError: 503,
    IndexerError: 503,
}

CLIENT_LEFT = 499  # nginx's number for a client that closed the connection; never sent, only logged and counted
UNEXPECTED_DETAIL = "the service failed unexpectedly; its log has the reason under this request_id"
GALLERY_FAILED_DETAIL = "the gallery could not be read; the reason is in the service's log under this request_id"
MODEL_FAILED_DETAIL = "the model could not compute this request; the reason is in the service's log; please try again"


def error_name(error: type[Exception]) -> str:
    """`InvalidImageError` -> `InvalidImage`, the stable name clients can switch on."""
    return error.__name__.removesuffix("Error")


def request_id_of(scope: Mapping[str, Any]) -> str:
    """The id that the request middleware gave this request, or "" outside of one."""
    return str(scope.get("state", {}).get("request_id", ""))


def error_response(
    scope: Mapping[str, Any], *, status: int, error: str, detail: str, headers: Mapping[str, str] | None = None
) -> Response:
    """The one error form: {"error", "detail", "request_id"}.

    The JSON is plain ASCII, so that no text a client sent (lone surrogates, say) can fail to encode here.
    """
    body = {"error": error, "detail": detail, "request_id": request_id_of(scope)}
    return Response(
        json.dumps(body, ensure_ascii=True), status_code=status, media_type="application/json", headers=headers
    )


def status_of(error: Exception) -> int:
    """The status of the nearest class in `STATUS` along the error's ancestry."""
    for ancestor in type(error).__mro__:
        if ancestor in STATUS:
            return STATUS[ancestor]
    raise LookupError(f"{type(error).__name__} has no status in threadmatch.service.errors.STATUS")


def reason_of(error: Exception) -> str:
    """A short name of a known error, out of a bounded set, for counting."""
    return error.reason if isinstance(error, InvalidImageError) else error_name(type(error))


def detail_of(error: Exception) -> str:
    """What a client may read of a known error. What it may not is logged here, or was where it happened."""
    if isinstance(error, ModelFailedError):
        return MODEL_FAILED_DETAIL  # its text may name paths and internals
    if (
        isinstance(error, IndexerError)
        and not isinstance(error, EditError)
        and status_of(error) == STATUS[IndexerError]
    ):
        logger.error("gallery failed", exc_info=error)
        return GALLERY_FAILED_DETAIL
    return str(error)


def known_error_response(request: Request, error: Exception, reject: Callable[[str], None]) -> Response:
    """The answer to an error of `STATUS`, counted by `reject`."""
    status = status_of(error)
    reject(reason_of(error))
    headers: dict[str, str] = {}
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        headers["Retry-After"] = str(retry_after_s)
    if isinstance(error, UnauthorizedError):
        headers["WWW-Authenticate"] = 'Bearer realm="threadmatch"'
    if isinstance(error, UploadTimeoutError):
        headers["Connection"] = "close"  # whatever the slow client still sends is not the start of a request
    return error_response(
        request.scope, status=status, error=error_name(type(error)), detail=detail_of(error), headers=headers
    )


_Handler: TypeAlias = Callable[[Request, Exception], Awaitable[Response]]


def _known_error(reject: Callable[[str], None]) -> _Handler:
    async def answer(request: Request, error: Exception) -> Response:
        return known_error_response(request, error, reject)

    return answer


async def _client_left(_request: Request, _error: Exception) -> Response:
    """Nobody reads this; it gives the log line and the counters their status."""
    return Response(status_code=CLIENT_LEFT)


async def _http_error(request: Request, error: Exception) -> Response:
    """404 for an unknown route, 405 for a known one; OPTIONS on a known route is answered, not refused."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        methods = _methods_here(request)
        methods |= {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
        headers["Allow"] = ", ".join(sorted(methods))
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=headers)
    detail = str(error.detail)
    if error.status_code == 404:
        detail = f"nothing is at {request.url.path[:200]}; /docs lists what there is"
    elif error.status_code == 405:
        asked = request.scope.get("asked_method", request.method)
        detail = f"{asked} is not possible here; use {headers['Allow']} (/docs shows how)"
    return error_response(
        request.scope,
        status=error.status_code,
        error=_phrase(error.status_code),
        detail=detail,
        headers=headers,
    )


def _methods_here(request: Request) -> set[str]:
    """Every method that this address takes; the framework names those of the first route only."""
    routes = [route for route in request.app.state.routes if route.matches(request.scope)[0] is not Match.NONE]
    return {method for route in routes if route.path == routes[0].path for method in route.methods or ()}


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = "; ".join(f"{'.'.join(map(str, fault['loc'][1:]))}: {fault['msg']}" for fault in error.errors())
    return error_response(
        request.scope,
        status=STATUS[InvalidFieldError],
        error=error_name(InvalidFieldError),
        detail=faults,
    )


def install_error_handlers(app: FastAPI, reject: Callable[[str], None]) -> None:
    """Give every known error its handler. Unknown ones are caught by the request middleware.

    Args:
        reject: called with the reason of each refusal, a short name out of a bounded set.
    """
    for error in STATUS:
        app.add_exception_handler(error, _known_error(reject))
    app.add_exception_handler(ClientDisconnect, _client_left)
    app.add_exception_handler(HTTPException, _counted(_http_error, reject))
    app.add_exception_handler(RequestValidationError, _counted(_validation_error, reject))


def _counted(handler: _Handler, reject: Callable[[str], None]) -> _Handler:
    """A handler whose refusals are counted, as those of our own errors are."""

    async def answer(request: Request, error: Exception) -> Response:
        response = await handler(request, error)
        if response.status_code >= 400:
            invalid = isinstance(error, RequestValidationError)
            reject(error_name(InvalidFieldError) if invalid else _phrase(response.status_code))
        return response

    return answer


def _phrase(status: int) -> str:
    """404 -> "NotFound"."""
    return http.HTTPStatus(status).phrase.replace(" ", "").replace("-", "")
