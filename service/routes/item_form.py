"""What a client sends to put an item: the id in the address, the photo and the fields in a multipart body."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from starlette.requests import Request

from threadmatch.indexer.catalogue.rows import RESERVED
from threadmatch.indexer.catalogue.values import RowError, check_id, is_readable, json_value
from threadmatch.indexer.edits.live_writes import KEEP, Change
from threadmatch.service.errors import InvalidFieldError
from threadmatch.service.galleries.item_writer import NewItem
from threadmatch.service.http.json_body import parse_json, read_json
from threadmatch.service.http.schemas.gallery import ItemChange, ItemFields
from threadmatch.service.http.search_form import UploadLimits, read_photo_and

CHANGE_TYPES = ("application/json", "application/merge-patch+json")
MAX_DEPTH = 16  # of lists and objects in one another; SQLite's own limit is far above


async def read_item(request: Request, item_id: str, limits: UploadLimits) -> NewItem:
    """Read the photo and the fields of an item to put.

    Args:
        item_id: checked already (`checked_id`).

    Raises:
        UnsupportedMediaTypeError, TooLargeError, UploadTimeoutError, InvalidFieldError: see each class.
    """
    photo, fields = await read_photo_and(request, limits, ItemFields)
    metadata = _metadata(fields.metadata)
    return NewItem(
        id=item_id, photo=photo, product_id=checked_product(fields.product_id), box=fields.box, metadata=metadata
    )


def checked_product(product_id: str | None) -> str | None:
    """A product id as a catalogue could hold it; None where there is none.

    Raises:
        InvalidFieldError: it holds what cannot be printed.
    """
    name = (product_id or "").strip() or None
    if name is not None and not is_readable(name):
        raise InvalidFieldError("product_id holds characters that cannot be printed")
    return name


async def read_change(request: Request, item_id: str, *, timeout_s: float) -> Change:
    """Read what of an item is to be changed.

    Args:
        item_id: checked already (`checked_id`).
        timeout_s: seconds until the body's last byte.

    Raises:
        UnsupportedMediaTypeError, TooLargeError, UploadTimeoutError, InvalidFieldError: see each class.
    """
    given = await read_json(request, ItemChange, timeout_s=timeout_s, media_types=CHANGE_TYPES)
    product = checked_product(given.product_id) if "product_id" in given.model_fields_set else KEEP
    return Change(item_id, checked_metadata(given.metadata), product)


def checked_id(request: Request, item_id: str) -> str:
    """The id of the address, as a catalogue could hold it.

    Raises:
        InvalidFieldError: it is empty, too long, or holds what cannot be printed.
    """
    raw_path: bytes = request.scope.get("raw_path") or b""
    try:
        unquote_to_bytes(raw_path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidFieldError("the id in the address is not UTF-8; encode it with percent signs") from error
    try:
        check_id(item_id)
    except RowError as error:
        raise InvalidFieldError(str(error)) from error
    return item_id


def _metadata(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        parsed = parse_json(text)
    except ValueError as error:
        raise InvalidFieldError(f"metadata is not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise InvalidFieldError('metadata is no JSON object; expected the form {"color": "red", "price": 12.5}')
    return checked_metadata(parsed)


def checked_metadata(parsed: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata as a catalogue could hold it.

    Raises:
        InvalidFieldError: it holds what has a place of its own, is nested too deep, or is not valid Unicode.
    """
    taken = [name for name in RESERVED if name in parsed]
    if taken:
        raise InvalidFieldError(f"metadata may not hold {', '.join(taken)}: they have places of their own")
    if _depth(parsed) > MAX_DEPTH:
        raise InvalidFieldError(f"metadata is nested more than {MAX_DEPTH} deep")
    try:
        json.dumps(parsed, ensure_ascii=False).encode()
        return {name: json_value(value, name) for name, value in parsed.items()}
    except UnicodeEncodeError as error:
        raise InvalidFieldError("metadata holds text that is not valid Unicode") from error
    except RowError as error:
        raise InvalidFieldError(str(error)) from error


def _depth(value: Any) -> int:
    """How deep lists and objects lie in one another; the parser's own limit bounds the recursion."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)
