"""A condition as Milvus's boolean expression, over what `document` makes of an item's metadata.

A document has one branch a kind of question, so that no value is ever compared with one of another kind:

    v  texts and numbers, truth values as 1 and 0      k  1 for each column that has a value, of whatever kind
    f  texts as `SameText` compares them               l  elements of lists, n  1 where null is one of them

Milvus 2.3 cannot ask whether a text has another in it, nor compare two columns. There an expression chooses too many
(`Expression.exact` is false), never too few, and whoever searches checks what comes back with the condition itself.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Final, assert_never

from threadmatch.indexer.reading.conditions import (
    All,
    Always,
    AnyOf,
    Condition,
    Contains,
    Equal,
    EqualColumns,
    Missing,
    Named,
    Not,
    OneOf,
    Ordered,
    OrderedColumns,
    SameText,
    Scalar,
    folded,
)

ITEM: Final = "item"
DOCUMENT: Final = "document"
"""Fields of a collection: the item's id, and its document. (A client calls a row's own number "id".)"""
MAX_DOCUMENT_BYTES: Final = 65_535
"""What Milvus takes."""
TRUE: Final = "row >= 0"
FALSE: Final = "row < 0"
_WHOLE: Final = range(-(2**63), 2**63)
_GREATEST: Final = 1.7976931348623157e308
"""Stands for infinity in a document."""


@dataclass(frozen=True, slots=True)
class Expression:
    """Milvus's text, and whether it chooses just the items that the condition is true of, or some more."""

    text: str
    exact: bool


def document(product_id: str | None, metadata: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What filters ask of an item, by kind of question."""
    made: dict[str, dict[str, Any]] = {"v": {}, "f": {}, "k": {}, "l": {}, "n": {}}
    for name, value in metadata.items():
        _add(made, name, value)
    if product_id is not None:
        made["p"] = {"id": product_id, "folded": folded(product_id)}
    return {branch: values for branch, values in made.items() if values}


def _add(made: dict[str, dict[str, Any]], name: str, value: Any) -> None:
    if value is None:
        return
    made["k"][name] = 1
    if isinstance(value, list):
        plain = [_sayable(element) for element in value if isinstance(element, str | int | float)]
        if plain:
            made["l"][name] = plain
        if None in value:
            made["n"][name] = 1
    elif isinstance(value, str | int | float):
        made["v"][name] = _sayable(value)
        if isinstance(value, str):
            made["f"][name] = folded(value)


def to_milvus(condition: Condition) -> Expression:
    """Compile a condition for Milvus."""
    match condition:
        case Always(value):
            return Expression(TRUE if value else FALSE, exact=True)
        case All(parts):
            return _joined("&&", [to_milvus(part) for part in parts], of_none=TRUE)
        case AnyOf(parts):
            return _joined("||", [to_milvus(part) for part in parts], of_none=FALSE)
        case Not(inner):
            made = to_milvus(inner)
            return Expression(f"(not ({made.text}))", exact=True) if made.exact else Expression(TRUE, exact=False)
        case Missing(column):
            return Expression(f"(not ({_exists(column)}))", exact=True)
        case Equal(column, value):
            return Expression(_one_of(column, (value,)), exact=True)
        case OneOf(column, values):
            return Expression(_one_of(column, values), exact=True)
        case Ordered(column, order, value):
            return Expression(_ordered(column, order, value), exact=True)
        case SameText(column, text):
            wanted = _written(folded(text))
            if column.name == "id" and column.is_field:
                return Expression(TRUE, exact=False)  # no folded form of it is kept
            branch = f'{DOCUMENT}["p"]["folded"]' if column.is_field else _at("f", column)
            return Expression(f"({branch} == {wanted})", exact=True)
        case Contains(column, value):
            return _contains(column, value)
        case EqualColumns() | OrderedColumns():
            return Expression(TRUE, exact=False)
    assert_never(condition)


def _joined(sign: str, parts: list[Expression], *, of_none: str) -> Expression:
    if not parts:
        return Expression(of_none, exact=True)
    return Expression(f"({f' {sign} '.join(part.text for part in parts)})", exact=all(part.exact for part in parts))


def _one_of(column: Named, values: tuple[Scalar, ...]) -> str:
    texts = [_written(value) for value in values if isinstance(value, str)]
    numbers = [] if column.is_field else [_number(value) for value in values if not isinstance(value, str)]
    finite = [number for number in numbers if math.isfinite(number)]
    parts = [f"{_value(column)} == {one}" for one in (*texts, *map(_literal, finite))]
    return f"({' || '.join(parts)})" if parts else FALSE


def _ordered(column: Named, order: str, value: Scalar) -> str:
    if isinstance(value, str):
        return f"({_value(column)} {order} {_written(value)})"
    if column.is_field:
        return FALSE
    number = _number(value)
    if math.isfinite(number):
        return f"({_value(column)} {order} {_literal(number)})"
    # Beyond all numbers: true of every number or of none. A column's numbers are those that are less than the greatest.
    lets_all = (number > 0) == (order in ("<", "<="))
    return f"({_value(column)} <= {_GREATEST!r})" if lets_all else FALSE


def _contains(column: Named, value: Scalar | None) -> Expression:
    if column.is_field:
        text = isinstance(value, str)
        return Expression(_exists(column) if text else FALSE, exact=not text)
    if value is None:
        return Expression(f"({_at('n', column)} == 1)", exact=True)
    if not isinstance(value, str):
        number = _number(value)
        inside = f"json_contains({_at('l', column)}, {_literal(number)})" if math.isfinite(number) else FALSE
        return Expression(f"({inside})", exact=True)
    inside = f"json_contains({_at('l', column)}, {_written(value)})"
    if column.kind == "list":
        return Expression(f"({inside})", exact=False)  # a text in a column of lists may have it in it
    return Expression(f'({inside} || {_at("f", column)} >= "")', exact=False)


def _exists(column: Named) -> str:
    """That it has a value. Milvus has a word for that, `exists`, and takes no two of them joined by `||`."""
    if not column.is_field:
        return f"{_at('k', column)} == 1"
    return TRUE if column.name == "id" else f'{DOCUMENT}["p"]["id"] >= ""'


def _value(column: Named) -> str:
    if not column.is_field:
        return _at("v", column)
    return ITEM if column.name == "id" else f'{DOCUMENT}["p"]["id"]'


def _at(branch: str, column: Named) -> str:
    return f'{DOCUMENT}["{branch}"][{_written(column.name)}]'


def _number(value: float) -> int | float:
    """What SQLite makes of it too: truth values are 1 and 0, a whole number beyond 64 bits a float."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int) and value not in _WHOLE:
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    return value


def _literal(number: float) -> str:
    """A finite number as Milvus reads it: it reads the sign apart, and the lowest whole number has no opposite."""
    return f"({_WHOLE.start + 1} - 1)" if number == _WHOLE.start and isinstance(number, int) else repr(number)


def _sayable(value: Scalar) -> str | int | float:
    """As a document has it: JSON knows no infinity."""
    if isinstance(value, str):
        return value
    number = _number(value)
    return number if math.isfinite(number) else math.copysign(_GREATEST, number)


def _written(text: str) -> str:
    """A text as Milvus's expressions take it: JSON's escapes."""
    return json.dumps(text, ensure_ascii=False)
