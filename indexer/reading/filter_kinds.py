"""Whether a filter compares a column with what it can hold; where not, what to write instead."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from threadmatch.indexer.catalogue.values import kind_of
from threadmatch.indexer.reading.conditions import Named, Scalar
from threadmatch.indexer.store.manifest import ColumnKind

NUMBERS: Final[tuple[ColumnKind, ...]] = ("integer", "number", "boolean")
_HOLDS: Final[dict[ColumnKind, str]] = {
    "string": "text",
    "integer": "numbers",
    "number": "numbers",
    "boolean": "true and false",
}


def check_constant(column: Named, value: Scalar, sign: str) -> str:
    """What is wrong with comparing a column with a constant, "" where nothing is.

    Args:
        column: of any kind but list and object.
        value: the constant.
        sign: "==", "<" and its kin, "in", or "contains".
    """
    held = _HOLDS.get(column.kind)
    if held is None or isinstance(value, str) == (held == "text"):
        return ""
    name = column.name if column.name.isidentifier() else f'item["{column.name}"]'
    shown = _written(value)
    what = "a text" if isinstance(value, str) else "a truth value" if isinstance(value, bool) else "a number"
    fault = f"column {column.name!r} holds {held}, and {shown} is {what}: they are never alike"
    if held == "text":
        text = json.dumps(shown)
        advice = {
            "==": f"write {name} == {text}",
            "in": f"write {text} in the list",
            "contains": f"write {text} in {name}",
        }
        order = "amounts are compared where the catalogue gives them as numbers alone, in a column of their own"
        return f"{fault}; {advice.get(sign, order)}"
    plain = _as_number(str(value)) if held == "numbers" else {"true": "true", "false": "false"}.get(str(value).lower())
    return f"{fault}; write {plain} without quotes" if plain else fault


def check_two_columns(first: Named, second: Named) -> str:
    """What is wrong with comparing two columns, "" where nothing is."""
    one, other = _HOLDS.get(first.kind), _HOLDS.get(second.kind)
    if one is None or other is None or (one == "text") == (other == "text"):
        return ""
    return f"column {first.name!r} holds {one} and {second.name!r} holds {other}: they are never alike"


def odd_values(metadata: Mapping[str, Any], columns: Mapping[str, ColumnKind]) -> list[str]:
    """What filters on a gallery's columns will pass over in a new item, in words.

    Args:
        metadata: of the item.
        columns: of the gallery, and what they hold.
    """
    found = []
    for name, value in metadata.items():
        held, kind = columns.get(name, "empty"), kind_of(value)
        if kind == "empty" or held in ("empty", "mixed") or _class(kind) == _class(held):
            continue
        shown = json.dumps(value, ensure_ascii=False)[:60]
        what = {"text": "a text", "list": "a list", "object": "an object"}.get(_class(kind), f"a {_class(kind)}")
        advice = f"; send {shown[1:-1]} without quotes" if held in NUMBERS and _as_number(str(value)) else ""
        found.append(
            f"{name} is {what} here ({shown}) and of kind {held} in the gallery: filters that compare it as such pass "
            f"over this item{advice}"
        )
    return found


def _class(kind: ColumnKind) -> str:
    return {"string": "text", "integer": "number", "number": "number", "boolean": "truth value"}.get(kind, kind)


def _written(value: Scalar) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else json.dumps(value, ensure_ascii=False)


def _as_number(text: str) -> str | None:
    try:
        return text.strip() if math.isfinite(float(text)) else None
    except ValueError:
        return None
