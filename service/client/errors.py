"""What can go wrong between a program and the service.

ClientError
 +- ServiceUnreachableError    no answer: no connection, a broken one, or a timeout
 +- AnswerNotUnderstoodError   an answer of another form: another program listens there, or another version
 +- RequestFailedError         the service answered with an error: status, error, detail, request_id
     +- TryAgainLaterError     429 or 503, also after the retries: overload, or no gallery yet
"""

from __future__ import annotations

import httpx
from pydantic import ValidationError

from threadmatch.service.client.retries import RETRIED, retry_after_s
from threadmatch.service.http.schemas.health import ErrorAnswer

SHOWN_CHARS = 200


class ClientError(Exception):
    """Base of all errors of the client."""


class ServiceUnreachableError(ClientError):
    """No answer came. A request that changes something may have been carried out all the same."""


class AnswerNotUnderstoodError(ClientError):
    """The answer has a form that this client does not know."""


class RequestFailedError(ClientError):
    """The service answered with an error.

    Fields:
        status: of HTTP.
        error: stable name to switch on, such as "InvalidImage"; "" where something else answered, a proxy say.
        detail: what was found, what was expected, what to do.
        request_id: under which the service's log has the request; "" where nothing told it.
    """

    def __init__(self, *, status: int, error: str, detail: str, request_id: str) -> None:
        super().__init__(f"{status} {error}: {detail} (request {request_id or 'without id'})")
        self.status, self.error, self.detail, self.request_id = status, error, detail, request_id


class TryAgainLaterError(RequestFailedError):
    """The service could not take the request on now; `retry_after_s` is the pause it asks for, None if it does not."""

    retry_after_s: float | None = None


def failure_of(response: httpx.Response) -> RequestFailedError:
    """The error that an answer beyond 299 stands for."""
    request_id = response.headers.get("X-Request-ID", "")
    try:
        said = ErrorAnswer.model_validate_json(response.content)
        error, detail, request_id = said.error, said.detail, said.request_id
    except ValidationError:
        error, detail = "", f"an answer that is not the service's: {response.text[:SHOWN_CHARS]!r}"
    if response.status_code not in RETRIED:
        return RequestFailedError(status=response.status_code, error=error, detail=detail, request_id=request_id)
    later = TryAgainLaterError(status=response.status_code, error=error, detail=detail, request_id=request_id)
    later.retry_after_s = retry_after_s(response.headers)
    return later
