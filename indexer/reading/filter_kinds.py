"""Whether a filter compares a column with what it can hold; where not, what to write instead."""

from __future__ import annotations

import json
import math
from typing import Final

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


def _written(value: Scalar) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else json.dumps(value, ensure_ascii=False)


def _as_number(text: str) -> str | None:
    try:
        return text.strip() if math.isfinite(float(text)) else None
    except ValueError:
        return None
