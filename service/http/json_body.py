"""A small JSON body: counted and timed while it arrives, then checked. FastAPI alone would take any number of bytes."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from threadmatch.service.errors import InvalidFieldError, TooLargeError, UnsupportedMediaTypeError, UploadTimeoutError

MAX_JSON_BYTES = 16 * 1024

M = TypeVar("M", bound=BaseModel)


async def read_json(request: Request, kind: type[M], *, timeout_s: float) -> M:
    """Read a body of this kind.

    Args:
        request: not read yet.
        kind: what it must be.
        timeout_s: seconds until its last byte.

    Raises:
        UnsupportedMediaTypeError, TooLargeError, UploadTimeoutError, InvalidFieldError: see each class.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMediaTypeError(f"found {media_type[:80] or 'no content type'!r}; expected application/json")
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
        return kind.model_validate_json(bytes(body))
    except ValidationError as error:
        raise InvalidFieldError(
            "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'body'}: {fault['msg']}" for fault in error.errors())
        ) from error
