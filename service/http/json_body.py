"""A small JSON body: counted and timed while it arrives, then checked. FastAPI alone would take any number of bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from threadmatch.service.errors import InvalidFieldError, TooLargeError, UnsupportedMediaTypeError, UploadTimeoutError

MAX_JSON_BYTES = 16 * 1024

M = TypeVar("M", bound=BaseModel)


def parse_json(text: str | bytes) -> Any:
    """JSON as a stranger may send it: no name twice in an object, no NaN, no depth that ends the interpreter.

    Raises:
        ValueError: anything else; says what.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except RecursionError as error:
        raise ValueError("lists and objects lie too deep in one another") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


async def read_json(
    request: Request, kind: type[M], *, timeout_s: float, media_types: Collection[str] = ("application/json",)
) -> M:
    """Read a body of this kind.

    Args:
        request: not read yet.
        kind: what it must be.
        timeout_s: seconds until its last byte.
        media_types: that are taken; the first is named where another came.

    Raises:
        UnsupportedMediaTypeError, TooLargeError, UploadTimeoutError, InvalidFieldError: see each class.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in media_types:
        raise UnsupportedMediaTypeError(
            f"found {media_type[:80] or 'no content type'!r}; expected {next(iter(media_types))}"
        )
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_JSON_BYTES:
                    raise TooLargeError(f"the body has more than {MAX_JSON_BYTES} bytes; send the fields alone")
    except TimeoutError as error:
        raise UploadTimeoutError(f"the body did not arrive within {timeout_s:g} s; send it again") from error
    try:
        return kind.model_validate(parse_json(bytes(body)))
    except ValidationError as error:
        raise InvalidFieldError(
            "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'body'}: {fault['msg']}" for fault in error.errors())
        ) from error
    except ValueError as error:  # UnicodeDecodeError is one; ValidationError too, and comes first
        raise InvalidFieldError(f"the body is not JSON: {error}") from error
