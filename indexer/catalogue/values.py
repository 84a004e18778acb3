"""Single values of a catalogue: which kind a column is, and how a cell becomes JSON."""

from __future__ import annotations

import datetime
import decimal
import difflib
import json
import math
import re
from pathlib import Path
from typing import Any

from threadmatch.indexer.errors import CatalogueError
from threadmatch.indexer.store.manifest import ColumnKind

_INTEGER = re.compile(r"-?(0|[1-9]\d{0,17})")
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d{1,3})?")
_BOOLEAN = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_IMAGE_LIKE = ("img", "photo", "picture", "path", "file", "filename", "url", "image_url", "image_path", "src", "link")
MAX_SAFE_INTEGER = 2**63 - 1


class RowError(Exception):
    """A row, or one of its cells, that cannot be used.

    Args:
        reason: short stable code.
        message: what was found and what was expected.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class CsvKinds:
    """What each column of a text-only file is, found by looking at every cell."""

    def __init__(self) -> None:
        self._possible: dict[str, set[ColumnKind]] = {}
        self._filled: set[str] = set()

    def add(self, values: dict[str, Any]) -> None:
        """Look at one row."""
        for key, cell in values.items():
            possible = self._possible.setdefault(key, {"integer", "number", "boolean"})
            if not cell:
                continue
            self._filled.add(key)
            if possible:
                possible &= _possible_kinds(cell)

    def kind(self, column: str) -> ColumnKind:
        """The narrowest kind that every cell of the column has."""
        if column not in self._filled:
            return "empty"
        kinds: tuple[ColumnKind, ...] = ("boolean", "integer", "number")
        return next((kind for kind in kinds if kind in self._possible[column]), "string")

    def convert(self, column: str, cell: str | None) -> str | int | float | bool | None:
        """A cell as a value of the column's kind; an empty one is None."""
        if not cell:
            return None
        match self.kind(column):
            case "integer":
                return int(cell)
            case "number":
                return int(cell) if _INTEGER.fullmatch(cell) else float(cell)
            case "boolean":
                return _BOOLEAN[cell]
        return cell


def _possible_kinds(cell: str) -> set[ColumnKind]:
    if cell in _BOOLEAN:
        return {"boolean"}
    if _INTEGER.fullmatch(cell):
        return {"integer", "number"}
    if _NUMBER.fullmatch(cell) and math.isfinite(float(cell)):
        return {"number"}
    return set()


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
            return float(value) if value.is_finite() else None
        case datetime.date() | datetime.time():
            return value.isoformat()
        case list() | tuple():
            return [json_value(element, column) for element in value]
        case dict():
            return {str(key): json_value(element, column) for key, element in value.items()}
    raise RowError(
        "bad_row", f"column {column!r} holds {type(value).__name__}, which no answer can carry; leave it out"
    )


def text_id(value: Any, column: str) -> str | None:
    """An id or product id as text; None where the cell is empty.

    Raises:
        RowError: a value that is no id.
    """
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise RowError(
            "bad_id", f"{column} is {json.dumps(value, default=str)[:60]}, expected a text or a whole number"
        )
    return str(value).strip() or None


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
