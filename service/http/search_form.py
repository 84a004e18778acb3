"""The multipart body of a search: counted while it arrives, parsed, and checked field by field.

FastAPI would parse the form by itself, but only after taking in any number of bytes, at any slowness, and it passes
over fields that it does not know. Here a mistyped field name is an answer that names the right one.
"""

from __future__ import annotations

import asyncio
import difflib
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from threadmatch.service.errors import InvalidFieldError, TooLargeError, UnsupportedMediaTypeError, UploadTimeoutError
from threadmatch.service.http.schemas.search import STAGE_ONE, SearchOptions

Fields = TypeVar("Fields", bound=BaseModel)

IMAGE_FIELD = "image"
IMAGES_FIELD = "images"
MAX_NAME_CHARS = 200
MAX_FIELDS = 64  # text fields; more than there are, so that a mistyped one is still named
MAX_FILES = 8
MAX_FIELD_BYTES = 16 * 1024
OVERHEAD_BYTES = 64 * 1024  # what a body may hold beside the photo: boundaries, part headers, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadLimits:
    """What a client may send.

    Args:
        max_image_bytes: size of a photo.
        timeout_s: seconds from the first look at the body to its last byte.
        max_bytes: of all photos together; None where there is one.
    """

    max_image_bytes: int
    timeout_s: float
    max_bytes: int | None = None

    @property
    def body_bytes(self) -> int:
        """Most bytes of a whole body."""
        return (self.max_bytes or self.max_image_bytes) + OVERHEAD_BYTES


@dataclass(frozen=True, slots=True)
class Upload:
    """One file of a form; its name is the client's, shortened and made printable."""

    name: str
    data: bytes


class _MemoryParser(MultiPartParser):
    """Starlette's parser without its temporary files: the body is bounded, and the root may be read-only."""

    spool_max_size = sys.maxsize


async def read_search(request: Request, limits: UploadLimits) -> tuple[bytes, SearchOptions]:
    """Read the photo and the fields of one search.

    Returns:
        The photo's bytes, as sent, and the checked fields.

    Raises:
        UnsupportedMediaTypeError, TooLargeError, UploadTimeoutError, InvalidFieldError: see each class.
    """
    _refuse_query(request)
    async with _form(request, limits, field=IMAGE_FIELD, max_files=MAX_FILES) as form:
        image = await _image_of(form, limits)
        return image, check_together(_fields_of(form, SearchOptions, IMAGE_FIELD))


async def read_photo_and(request: Request, limits: UploadLimits, kind: type[Fields]) -> tuple[bytes, Fields]:
    """Read one photo and the text fields of any form; the query string is the route's affair.

    Raises:
        UnsupportedMediaTypeError, TooLargeError, UploadTimeoutError, InvalidFieldError: see each class.
    """
    async with _form(request, limits, field=IMAGE_FIELD, max_files=MAX_FILES) as form:
        return await _image_of(form, limits), _fields_of(form, kind, IMAGE_FIELD)


async def read_batch(request: Request, limits: UploadLimits, *, most: int) -> tuple[list[Upload], SearchOptions]:
    """Read the photos and the fields of a batch. Whether a photo is too large or empty is not looked at here.

    Args:
        request: with the files in IMAGES_FIELD.
        limits: of the whole body.
        most: photos.

    Raises:
        UnsupportedMediaTypeError, TooLargeError, UploadTimeoutError, InvalidFieldError: see each class.
    """
    _refuse_query(request)
    async with _form(request, limits, field=IMAGES_FIELD, max_files=most) as form:
        sent = form.getlist(IMAGES_FIELD)
        if not 1 <= len(sent) <= most:
            raise InvalidFieldError(f"found {len(sent)} files named {IMAGES_FIELD!r}; a batch has 1 to {most}")
        if any(not isinstance(image, UploadFile) for image in sent):
            raise InvalidFieldError(
                f"{IMAGES_FIELD!r} came as text; send files (with a file name in their Content-Disposition)"
            )
        photos = [Upload(_shown(image.filename), await image.read()) for image in sent if isinstance(image, UploadFile)]
        return photos, check_together(_fields_of(form, SearchOptions, IMAGES_FIELD))


def check_photo(data: bytes, max_image_bytes: int) -> None:
    """Refuse a photo by its size.

    Raises:
        InvalidFieldError: it is empty; TooLargeError: it has too many bytes.
    """
    if not data:
        raise InvalidFieldError("the file is empty; send a photo")
    if len(data) > max_image_bytes:
        raise _too_large(_size(len(data)), max_image_bytes)


def _refuse_query(request: Request) -> None:
    if request.query_params:
        name = next(iter(request.query_params))
        raise InvalidFieldError(f"{name[:80]!r} was given in the address; send it as a form field beside the image")


@asynccontextmanager
async def _form(request: Request, limits: UploadLimits, *, field: str, max_files: int) -> AsyncIterator[FormData]:
    """The parsed body, of bounded size and time."""
    _check_content_type(request, field)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > limits.body_bytes:
        raise _body_too_large(_size(int(declared[:20])), limits)
    try:
        async with asyncio.timeout(limits.timeout_s):
            form = await _parse(request, limits, max_files)
    except TimeoutError as error:
        raise UploadTimeoutError(
            f"the body did not arrive within {limits.timeout_s:g} s; send a smaller photo or over a better line"
        ) from error
    try:
        yield form
    finally:
        await form.close()


def _check_content_type(request: Request, field: str) -> None:
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data":
        found = request.headers.get("content-type", "")[:80] or "no content type"
        raise UnsupportedMediaTypeError(
            f"found {found!r}; expected multipart/form-data with the photo in the file field {field!r}"
        )
    if options.get(b"charset", b"utf-8").lower() not in (b"utf-8", b"us-ascii"):
        raise UnsupportedMediaTypeError("form fields are UTF-8; leave the charset away")


async def _parse(request: Request, limits: UploadLimits, max_files: int) -> FormData:
    counted = _counted(request, limits)
    async with aclosing(counted):
        parser = _MemoryParser(
            request.headers, counted, max_files=max_files, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES
        )
        try:
            return await parser.parse()
        except MultiPartException as error:
            raise InvalidFieldError(f"the multipart body is not well-formed: {error.message}") from error
        except (ValueError, LookupError, AttributeError) as error:  # odd part headers that the parser trips over
            raise InvalidFieldError("the multipart body is not well-formed") from error


async def _counted(request: Request, limits: UploadLimits) -> AsyncGenerator[bytes, None]:
    """The body's chunks, up to the first one beyond the limit: a body without Content-Length is counted too."""
    total = 0
    async for chunk in request.stream():
        total += len(chunk)
        if total > limits.body_bytes:
            raise _body_too_large(f"more than {_size(limits.body_bytes)}", limits)
        yield chunk


def _body_too_large(found: str, limits: UploadLimits) -> TooLargeError:
    if limits.max_bytes is None:
        return _too_large(found, limits.max_image_bytes)
    return TooLargeError(
        f"the photos have {found} together; a batch may have {_size(limits.max_bytes)}. Send smaller ones (1000 pixels "
        "on the long side are enough for a search), or fewer at a time"
    )


def _too_large(found: str, max_image_bytes: int) -> TooLargeError:
    return TooLargeError(
        f"the file has {found}; a photo may have {_size(max_image_bytes)}. Send a smaller one: "
        "1000 pixels on the long side are enough for a search"
    )


def _size(size_bytes: int) -> str:
    """In the unit that people compare file sizes in."""
    return f"{size_bytes / 2**20:.1f} MiB" if size_bytes >= 2**20 else f"{size_bytes} bytes"


async def _image_of(form: FormData, limits: UploadLimits) -> bytes:
    sent = form.getlist(IMAGE_FIELD)
    if not sent:
        raise InvalidFieldError(f"the file field {IMAGE_FIELD!r} is missing; it holds the photo")
    if len(sent) > 1:
        raise InvalidFieldError(f"{len(sent)} fields are named {IMAGE_FIELD!r}; send one photo a request")
    image = sent[0]
    if not isinstance(image, UploadFile):
        raise InvalidFieldError(
            f"{IMAGE_FIELD!r} came as text; send it as a file (with a file name in its Content-Disposition)"
        )
    data = await image.read()
    if not data:
        raise InvalidFieldError(f"the file in {IMAGE_FIELD!r} is empty")
    if len(data) > limits.max_image_bytes:
        raise _too_large(_size(len(data)), limits.max_image_bytes)
    return data


def _shown(filename: str | None) -> str:
    """A file's name as it can stand in an answer."""
    name = (filename or "").encode("utf-8", "replace").decode()
    return "".join(letter if letter.isprintable() else "?" for letter in name)[:MAX_NAME_CHARS]


def _fields_of(form: FormData, kind: type[Fields], image_field: str) -> Fields:
    values: dict[str, str] = {}
    for name, value in form.multi_items():
        if name == image_field:
            continue
        if name not in kind.model_fields and not kind.model_fields:
            raise InvalidFieldError(f"{name[:80]!r} is not a field; send the photo alone, as the file {image_field!r}")
        if name not in kind.model_fields:
            known = [*kind.model_fields, image_field]
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            raise InvalidFieldError(f"{name[:80]!r} is not a field; did you mean {nearest!r}? All: {', '.join(known)}")
        if isinstance(value, UploadFile):
            raise InvalidFieldError(f"{name!r} came as a file; send it as text")
        if name in values:
            raise InvalidFieldError(f"{name!r} was given twice")
        values[name] = value
    try:
        # An empty field is what an HTML form sends for "not filled in".
        return kind.model_validate({name: value for name, value in values.items() if value.strip()})
    except ValidationError as error:
        raise InvalidFieldError(
            "; ".join(_fault(fault["loc"], fault["msg"], values) for fault in error.errors())
        ) from error


def check_together(form: SearchOptions) -> SearchOptions:
    """Refuse fields that contradict each other, whatever the model; also for the command line.

    Raises:
        InvalidFieldError: rerank against matcher; explain, min_probability or depth without a second stage; heatmaps
            without explain.
    """
    asked = f"matcher={form.matcher}" if form.rerank else "rerank=false"
    if {"matcher", "rerank"} <= form.model_fields_set:
        if not form.rerank and form.matcher not in (None, STAGE_ONE):
            raise InvalidFieldError(
                f"rerank=false keeps the first stage's order, matcher={form.matcher} makes another; leave one out"
            )
        if form.rerank and form.matcher == STAGE_ONE:
            raise InvalidFieldError(
                "rerank=true asks for a second stage, matcher=global is the first stage's order; leave one of them out"
            )
    if form.last_matcher == STAGE_ONE:
        for name, given in (
            ("explain", form.explain),
            ("min_probability", form.min_probability is not None),
            ("depth", form.depth is not None),
        ):
            if given:
                raise InvalidFieldError(
                    f"{name} is about a second stage, and {asked} does without; leave one of them out"
                )
    if "heatmaps" in form.model_fields_set and not form.explain:
        raise InvalidFieldError("heatmaps belong to an explanation; send explain=true with them")
    return form


def _fault(loc: tuple[int | str, ...], message: str, values: dict[str, str]) -> str:
    name = str(loc[0]) if loc else "form"
    return f"{name}={values.get(name, '')[:80]!r}: {message}"
