"""What every compiler of conditions has to agree on: conditions, rows, and which of the rows match.

A compiler is handed `Condition` and rows as a gallery holds them (id, product_id and metadata), and gives back the
positions of the rows that match. `tests/indexer/reading/test_filter_contract.py` runs SQLite's against it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

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
)


@dataclass(frozen=True)
class Row:
    """An item, as far as filters see it."""

    id: str
    product_id: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


Matcher = Callable[[Condition, Sequence[Row]], list[int]]
"""Positions of the rows that a condition is true of, ascending."""

ROWS = (
    Row("a", "p1", {"color": "red", "price": 10, "kids": True, "tags": ["cotton", 3, None], "odd": "36"}),
    Row("b", "p1", {"color": "dark red", "price": 9.5, "kids": False, "tags": [], "odd": 36}),
    Row("c", None, {"color": None, "price": None, "kids": None, "tags": None, "odd": [36]}),
    Row("d", "p2", {}),
    Row("E", "d", {"color": "ä'\"%_", "price": -1, "tags": [["cotton"], {"x": 1}], "odd": {"x": 1}}),
    Row("f", "f", {"color": "", "price": 2**53 + 1, "odd": True, "größe": "S", "a b": 1, "x.y": 2, "$": 3}),
)

COLOR, PRICE, KIDS = Named("color", "string"), Named("price", "number"), Named("kids", "boolean")
TAGS, ODD, VOID = Named("tags", "list"), Named("odd", "mixed"), Named("void", "empty")
ID, PRODUCT = Named("id", "string"), Named("product_id", "string")

CONTRACT: tuple[tuple[Condition, str], ...] = (
    (Always(True), "abcdEf"),
    (Always(False), ""),
    # Equality: as in Python, numbers by value, nothing equals a missing one.
    (Equal(COLOR, "red"), "a"),
    (Equal(COLOR, ""), "f"),
    (Equal(COLOR, "ä'\"%_"), "E"),
    (Equal(PRICE, 10), "a"),
    (Equal(PRICE, 10.0), "a"),
    (Equal(PRICE, 2**53 + 1), "f"),
    (Equal(KIDS, True), "a"),
    (Equal(KIDS, False), "b"),
    (Equal(ODD, 36), "b"),
    (Equal(ODD, "36"), "a"),
    (Equal(ODD, 1), "f"),
    (Equal(ID, "E"), "E"),
    (Equal(ID, "e"), ""),
    (Equal(PRODUCT, "p1"), "ab"),
    (Equal(VOID, True), ""),
    (Not(Equal(COLOR, "red")), "bcdEf"),
    (Not(Equal(ODD, 36)), "acdEf"),
    # Missing: no value, or null.
    (Missing(COLOR), "cd"),
    (Missing(TAGS), "cdf"),
    (Missing(PRODUCT), "c"),
    (Missing(ODD), "d"),
    (Not(Missing(PRICE)), "abEf"),
    (Missing(VOID), "abcdEf"),
    # Order: texts by code point, numbers by value, never across.
    (Ordered(PRICE, "<", 10), "bE"),
    (Ordered(PRICE, "<=", 10), "abE"),
    (Ordered(PRICE, ">", 9.5), "af"),
    (Ordered(PRICE, ">=", -1), "abEf"),
    (Ordered(COLOR, "<", "e"), "bf"),
    (Ordered(COLOR, ">", "red"), "E"),
    (Ordered(ODD, "<", 40), "bf"),
    (Ordered(ODD, "<", "4"), "a"),
    (Ordered(ID, "<", "a"), "E"),
    (Not(Ordered(PRICE, "<", 10)), "acdf"),
    # One of several.
    (OneOf(COLOR, ("red", "", "blue")), "af"),
    (OneOf(PRICE, (10, 9.5)), "ab"),
    (OneOf(ODD, (36, "36")), "ab"),
    (OneOf(COLOR, ()), ""),
    (Not(OneOf(COLOR, ("red",))), "bcdEf"),
    (AnyOf((OneOf(COLOR, ("red",)), Missing(COLOR))), "acd"),
    # The same text, whatever its case: `ß` is `ss`, an accent is one whichever way it is written.
    (SameText(COLOR, "RED"), "a"),
    (SameText(COLOR, "Dark Red"), "b"),
    (SameText(COLOR, "Ä'\"%_"), "E"),
    (SameText(COLOR, "A\u0308'\"%_"), "E"),
    (SameText(COLOR, "re"), ""),
    (SameText(ODD, "36"), "a"),
    (SameText(ODD, "TRUE"), ""),
    (SameText(ID, "e"), "E"),
    (SameText(PRODUCT, "P1"), "ab"),
    (SameText(VOID, ""), ""),
    (SameText(Named("größe", "string"), "s"), "f"),
    (Not(SameText(COLOR, "RED")), "bcdEf"),
    # Contains: a part of a text, an element of a list; not an element of an element.
    (Contains(COLOR, "red"), "ab"),
    (Contains(COLOR, "%_"), "E"),
    (Contains(COLOR, "Red"), ""),
    (Contains(TAGS, "cotton"), "a"),
    (Contains(TAGS, 3), "a"),
    (Contains(TAGS, "3"), ""),
    (Contains(TAGS, None), "a"),
    (Contains(TAGS, "cott"), ""),
    (Contains(ODD, "3"), "a"),
    (Contains(ODD, 36), "c"),
    (Contains(PRODUCT, "p"), "abd"),
    (Not(Contains(COLOR, "red")), "cdEf"),
    # Two columns.
    (EqualColumns(ID, PRODUCT), "f"),
    (EqualColumns(COLOR, VOID), "cd"),
    (EqualColumns(KIDS, ODD), "d"),
    (OrderedColumns(ID, "<", PRODUCT), "abdE"),
    (OrderedColumns(PRICE, "<", ODD), "b"),
    (Not(OrderedColumns(PRICE, "<", ODD)), "acdEf"),
    # Joined.
    (All((Equal(PRODUCT, "p1"), Ordered(PRICE, "<", 10))), "b"),
    (AnyOf((Equal(COLOR, "red"), Missing(PRODUCT))), "ac"),
    (Not(All((Equal(PRODUCT, "p1"), Equal(KIDS, True)))), "bcdEf"),
    (Not(Not(Equal(COLOR, "red"))), "a"),
    # Names that are no plain words.
    (Equal(Named("größe", "string"), "S"), "f"),
    (Equal(Named("a b", "integer"), 1), "f"),
    (Equal(Named("x.y", "integer"), 2), "f"),
    (Equal(Named("$", "integer"), 3), "f"),
)
"""Condition, and the first letters of the rows it is true of, in their order."""


def check(matcher: Matcher, condition: Condition, ids: str) -> None:
    """Fail unless a compiler chooses just these rows."""
    found = [ROWS[number].id for number in matcher(condition, ROWS)]
    assert found == list(ids), f"{condition} chose {found}, expected {list(ids)}"
