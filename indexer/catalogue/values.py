"""Single values of a catalogue: how a cell becomes JSON, an id or an image."""

from __future__ import annotations

import datetime
import decimal
import difflib
import json
import math
import unicodedata
from pathlib import Path
from typing import Any

from threadmatch.indexer.errors import CatalogueError
from threadmatch.indexer.store.manifest import ColumnKind
from threadmatch.model.data.tables.cells import FOR_NOTHING, MAX_SAFE_INTEGER

_IMAGE_LIKE = ("img", "photo", "picture", "path", "file", "filename", "url", "image_url", "image_path", "src", "link")
_MARKS = ("\ufeff", "\ufff9", "\ufffa", "\ufffb")
MAX_ID_CHARACTERS = 512
MAX_EXACT_FLOAT = 2**53


class RowError(Exception):
    """A row, or one of its cells, that cannot be used.

    Args:
        reason: short stable code.
        message: what was found and what was expected.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def kind_of(value: Any) -> ColumnKind:
    """The kind of one JSON value."""
    match value:
        case None:
            return "empty"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "list"
    return "object"


def json_value(value: Any, column: str) -> Any:
    """A value of a typed file as JSON.

    Raises:
        RowError: a value that JSON cannot hold.
    """
    match value:
        case None | bool() | str():
            return value
        case int():
            return value if abs(value) <= MAX_SAFE_INTEGER else str(value)
        case float():
            return value if math.isfinite(value) else None
        case decimal.Decimal():
            return _decimal(value)
        case datetime.date() | datetime.time():
            return value.isoformat()
        case list() | tuple():
            return [json_value(element, column) for element in value]
        case dict():
            return {str(key): json_value(element, column) for key, element in value.items()}
    raise RowError(
        "bad_row", f"column {column!r} holds {type(value).__name__}, which no answer can carry; leave it out"
    )


def _decimal(value: decimal.Decimal) -> float | int | str | None:
    """The number that prints back the same, else the text."""
    if not value.is_finite():
        return None
    if value == value.to_integral_value():
        return int(value) if abs(value) <= MAX_SAFE_INTEGER else str(value)
    number = float(value)
    return number if decimal.Decimal(repr(number)) == value else str(value)


def text_id(value: Any, column: str) -> str | None:
    """An id or product id as text; None where the cell is empty or says nan, null or the like.

    Raises:
        RowError: a value that is no id.
    """
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < MAX_EXACT_FLOAT:
        value = int(value)
    if isinstance(value, decimal.Decimal) and value.is_finite() and value == value.to_integral_value():
        value = int(value)
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise RowError(
            "bad_id", f"{column} is {json.dumps(value, default=str)[:60]}, expected a text or a whole number"
        )
    text = str(value).strip()
    return None if not text or text in FOR_NOTHING else text


def check_id(text: str) -> None:
    """Refuse what cannot be an item's id: it stands in addresses, in logs and on pages.

    Raises:
        RowError: reason "bad_id".
    """
    if not 0 < len(text) <= MAX_ID_CHARACTERS or not is_readable(text) or text != text.strip():
        raise RowError(
            "bad_id",
            f"an id has 1 to {MAX_ID_CHARACTERS} printable characters, no space at its ends; found {text[:80]!r}",
        )
    if text in (".", ".."):
        raise RowError("bad_id", f"the id {text!r} is no part of an address; give the item another")


def is_readable(text: str) -> bool:
    """Whether a text can be shown on one line: joiners and direction marks, which scripts and emoji need, included."""
    return all(
        letter.isprintable() or (unicodedata.category(letter) == "Cf" and letter not in _MARKS) for letter in text
    )


def metadata_json(metadata: dict[str, Any]) -> str:
    """The one text form of metadata; keys unescaped, so that SQLite's JSON paths find them."""
    return json.dumps(metadata, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def check_columns(path: Path, columns: list[str]) -> None:
    """Raise CatalogueError unless there is a column `image`; name what was found and what may be meant."""
    if "image" in columns:
        return
    lowered = {column.strip().lower(): column for column in columns}
    near = [lowered[name] for name in ("image", *_IMAGE_LIKE) if name in lowered]
    near += [lowered[name] for name in difflib.get_close_matches("image", lowered, n=3) if lowered[name] not in near]
    hint = f"; rename {' or '.join(repr(name) for name in near[:3])} to 'image'" if near else ""
    found = ", ".join(repr(column) for column in columns[:30]) or "none"
    raise CatalogueError(f"catalogue {path} has no column 'image'; its columns are {found}{hint}")
