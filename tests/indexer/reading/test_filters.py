"""Filters against what Python itself says of the same rows."""

from __future__ import annotations

import json
import operator
import re
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from threadmatch.indexer.errors import FilterError
from threadmatch.indexer.reading.conditions import All, AnyOf, Equal, Named, Not, SameText
from threadmatch.indexer.reading.conditions import Condition as Parsed
from threadmatch.indexer.reading.filter_sql import Clause, to_sql
from threadmatch.indexer.reading.filters import parse_filter
from threadmatch.indexer.store.manifest import ColumnKind

COLUMNS: dict[str, ColumnKind] = {
    "color": "string",
    "price": "number",
    "kids": "boolean",
    "tags": "list",
    "odd": "mixed",
    "sleeve length": "string",
}
Row = dict[str, Any]
COLOR = Named("color", "string")


def compile_filter(expression: str, columns: dict[str, ColumnKind]) -> Clause:
    return to_sql(parse_filter(expression, columns))


def chosen(expression: str, rows: list[Row]) -> list[int]:
    clause = compile_filter(expression, COLUMNS)
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE items (seq INTEGER PRIMARY KEY, id TEXT, product_id TEXT, metadata TEXT)")
    for number, row in enumerate(rows):
        others = {key: value for key, value in row.items() if key != "product_id"}
        text = json.dumps(others, ensure_ascii=False)
        database.execute("INSERT INTO items VALUES (?, ?, ?, ?)", (number, str(number), row.get("product_id"), text))
    found = database.execute(f"SELECT seq FROM items i WHERE {clause.sql} ORDER BY seq", clause.values)
    return [seq for (seq,) in found]


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3),
    st.sampled_from([0.5, -1.5, 2.0]), st.sampled_from(["", "a", "b", "ä'\"", "2"])
)  # fmt: skip
rows_of = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "color": st.sampled_from([None, "", "a", "b", "ä'\""]),
            "price": st.one_of(st.none(), st.integers(-3, 3), st.sampled_from([0.5, 2.0])),
            "kids": st.one_of(st.none(), st.booleans()),
            "odd": scalars,
            "product_id": st.sampled_from([None, "a", "b"]),
        },
    ),
    max_size=6,
)
texts = st.sampled_from(["", "a", "b", "ä'\"", "2"])
numbers = st.one_of(st.booleans(), st.integers(-3, 3), st.sampled_from([0.5, -1.5, 2.0]))
OF_ITS_KIND: dict[str, st.SearchStrategy[Any]] = {
    "color": texts, "product_id": texts, "price": numbers, "kids": numbers, "odd": st.one_of(texts, numbers)
}  # fmt: skip
"""What each column may be compared with; another kind is refused."""
names = st.sampled_from(sorted(OF_ITS_KIND))
ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
Condition = tuple[str, Callable[[Row], bool]]


def ordered(sign: str, left: Any, right: Any) -> bool:
    both_text = isinstance(left, str) and isinstance(right, str)
    both_number = isinstance(left, int | float) and isinstance(right, int | float)
    return ORDERS[sign](left, right) if both_text or both_number else False


@st.composite
def leaves(draw: st.DrawFn) -> Condition:
    name = draw(names)
    value = draw(st.one_of(st.none(), OF_ITS_KIND[name]))
    kind = draw(st.sampled_from(["==", "!=", "order", "in", "not in", "mirror", "columns"]))
    if kind == "==":
        return f"{name} == {value!r}", lambda row: row.get(name) == value
    if kind == "!=":
        return f"{name} != {value!r}", lambda row: row.get(name) != value
    if kind == "columns":
        alike = [
            other for other, values in OF_ITS_KIND.items() if values is OF_ITS_KIND[name] or "odd" in (name, other)
        ]
        other = draw(st.sampled_from(alike))
        return f"{name} == {other}", lambda row: row.get(name) == row.get(other)
    if kind in ("in", "not in"):
        several = draw(st.lists(st.one_of(st.none(), OF_ITS_KIND[name]), max_size=3))
        return f"{name} {kind} {several!r}", lambda row: (row.get(name) in several) == (kind == "in")
    sign = draw(st.sampled_from(sorted(ORDERS)))
    bound = draw(OF_ITS_KIND[name])
    if kind == "mirror":
        return f"{bound!r} {sign} {name}", lambda row: ordered(sign, bound, row.get(name))
    return f"{name} {sign} {bound!r}", lambda row: ordered(sign, row.get(name), bound)


def both(parts: tuple[Condition, Condition], word: str) -> Condition:
    (left, first), (right, second) = parts
    if word == "and":
        return f"({left}) and ({right})", lambda row: first(row) and second(row)
    return f"({left}) or ({right})", lambda row: first(row) or second(row)


def negated(condition: Condition) -> Condition:
    text, test = condition
    return f"not ({text})", lambda row: not test(row)


conditions = st.recursive(
    leaves(),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda parts: both(parts, "and")),
        st.tuples(inner, inner).map(lambda parts: both(parts, "or")),
        inner.map(negated),
    ),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None)
@given(condition=conditions, rows=rows_of)
def test_a_filter_chooses_the_rows_that_python_would(condition: Condition, rows: list[Row]) -> None:
    text, test = condition
    assert chosen(text, rows) == [number for number, row in enumerate(rows) if test(row)]


def test_chains_lists_texts_and_odd_names() -> None:
    rows: list[Row] = [
        {"price": 5, "tags": ["cotton", 3], "sleeve length": "long", "kids": True},
        {"price": 15, "tags": [], "sleeve length": "short", "kids": False},
        {"price": 25, "color": "dark red", "tags": None},
        {},
    ]
    assert chosen("5 < price <= 25", rows) == [1, 2]
    assert chosen('"cotton" in tags', rows) == [0]
    assert chosen("3 in tags", rows) == [0]
    assert chosen('"red" in color', rows) == [2]
    assert chosen('item["sleeve length"] == "long"', rows) == [0]
    assert chosen("kids", rows) == [0]
    assert chosen("not kids", rows) == [1, 2, 3]
    assert chosen("kids == true or price == null", rows) == [0, 3]
    assert chosen('id in ["1", "3"]', rows) == [1, 3]
    assert chosen("tags == None", rows) == [2, 3]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("colour == 'a'", "did you mean color"),
        ("price <", "not a filter"),
        ("price = 5", "`==`"),
        ("color >> 'a'", "`>>` is not known"),
        ("color ~= price", "compares a column with a text"),
        ("color ~= 5", "compares a column with a text"),
        ("'a' ~= 'b'", "compares a column with a text"),
        ("price ~= 'a'", "'price' holds numbers"),
        ("tags ~= 'a'", "VALUE in COLUMN"),
        ("color ~ 'a'", "no|not"),
        ('color ILIKE "r%"', "~="),
        ("price < 5 AND kids", "small letters"),
        ("price < 5 && kids", "`and`"),
        ('color LIKE "r%"', '"part" in column'),
        ("price BETWEEN 1 AND 5", "small letters"),
        ("color == red", 'put it in quotes: "red"'),
        ("price < 5 or", "at character 13"),
        ("", "not a filter"),
        ("f(price)", "a call"),
        ("__import__('os').system('x')", "a call"),
        ("price + 1 > 2", "arithmetic"),
        ("color.x == 1", "a dot"),
        ("(lambda: 1)() == 1", "no|not"),
        ("1 == 1", "two constants"),
        ("price", "stand alone"),
        ("price is None", "use == or !="),
        ("price < None", "less or more than None"),
        ("tags == 'x'", "VALUE in COLUMN"),
        ("'x' in price", "neither"),
        ("price in color", "`in` needs"),
        ("price == 99999999999999999999999", "too large"),
        ("color == '\\ud800'", "Unicode"),
        ("color == b'x'", "not allowed"),
        ("color == 'a'; drop table items", "not a filter"),
        ("not " * 499 + "kids", "nested"),
        ("(" * 300 + "kids" + ")" * 300, "not a filter"),
        ("x" * 3000, "at most"),
        ("color == '\x00'", "not a filter"),
    ],
)
def test_what_is_no_filter_is_refused_by_name(expression: str, message: str) -> None:
    with pytest.raises(FilterError, match=message):
        compile_filter(expression, COLUMNS)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("color < 30", "'color' holds text, and 30 is a number.*numbers alone"),
        ("30 > color", "'color' holds text"),
        ("color == 36", 'write color == "36"'),
        ("color != 36", 'write color == "36"'),
        ("color in ['a', 36]", 'write "36" in the list'),
        ("36 in color", 'write "36" in color'),
        ("color == true", "a truth value"),
        ("id == 5", 'write id == "5"'),
        ("price < '5'", "'price' holds numbers.*write 5 without quotes"),
        ("price == 'cheap'", "'price' holds numbers"),
        ("kids == 'true'", "write true without quotes"),
        ("not (price in ['1', 2])", "write 1 without quotes"),
        ("item['sleeve length'] == 3", r'write item\["sleeve length"\] == "3"'),
        ("price < color", "'price' holds numbers and 'color' holds text"),
        ("color == kids", "never alike"),
    ],
)
def test_a_constant_that_the_column_cannot_hold_is_refused_with_what_to_write(expression: str, message: str) -> None:
    with pytest.raises(FilterError, match=message):
        compile_filter(expression, COLUMNS)


@pytest.mark.parametrize(
    "expression", ["odd < 3", "odd == 'x'", "odd in [1, 'x']", "price == true", "kids == 1", "void < 1"]
)
def test_a_column_of_several_kinds_takes_each_and_truth_is_a_number(expression: str) -> None:
    assert parse_filter(expression, {**COLUMNS, "void": "empty"})


def test_a_column_with_a_dot_in_its_name_is_written_as_it_is() -> None:
    columns: dict[str, ColumnKind] = {**COLUMNS, "predicted.neckline": "string", "size.eu": "integer"}
    for dotted, name in (('predicted.neckline == "v"', "predicted.neckline"), ("size.eu < 36", "size.eu")):
        assert parse_filter(dotted, columns) == parse_filter(dotted.replace(name, f'item["{name}"]'), columns)
    with pytest.raises(FilterError, match=r"no column 'predicted.neckline'"):
        parse_filter('predicted.neckline == "v"', COLUMNS)
    with pytest.raises(FilterError, match=r"did you mean predicted.neckline"):
        parse_filter('predicted.neckine == "v"', columns)


@pytest.mark.parametrize(
    ("expression", "condition"),
    [
        ("color ~= 'A'", SameText(COLOR, "A")),
        ("color~='A'", SameText(COLOR, "A")),
        ("'A' ~= color", SameText(COLOR, "A")),
        ("not color ~= 'A'", Not(SameText(COLOR, "A"))),
        ("color ~= 'A' and kids", All((SameText(COLOR, "A"), Equal(Named("kids", "boolean"), value=True)))),
        ("color == '~=' or color ~= '>>'", AnyOf((Equal(COLOR, "~="), SameText(COLOR, ">>")))),
        ('color == "it\\"s ~="', Equal(COLOR, 'it"s ~=')),
    ],
)
def test_a_text_can_be_asked_for_whatever_its_case(expression: str, condition: Parsed) -> None:
    assert parse_filter(expression, COLUMNS) == condition


@pytest.mark.parametrize(
    ("expression", "written"),
    [
        ("class == 'dress'", "class"),
        ("price < 5 and class == 'dress'", "class"),
        ("sale-price < 5", "sale-price"),
        ("sleeve length == 'x'", "sleeve length"),
        ("2nd == 1", "2nd"),
    ],
)
def test_a_name_that_is_no_plain_word_is_hinted_at(expression: str, written: str) -> None:
    columns: dict[str, ColumnKind] = dict.fromkeys(("class", "sale-price", "2nd", "sleeve length"), "mixed")
    with pytest.raises(FilterError, match=re.escape(f'item["{written}"]')):
        parse_filter(expression, columns)
    fixed = expression.replace(written, f'item["{written}"]')
    if "price < 5 and" not in expression:
        assert parse_filter(fixed, columns)


def test_a_column_is_found_whatever_the_form_of_its_accents() -> None:
    columns: dict[str, ColumnKind] = {"Gro\u0308\u00dfe": "string", "Farbe": "string"}
    for name in ("Gr\u00f6\u00dfe", "Gro\u0308\u00dfe"):
        assert parse_filter(f'{name} == "S"', columns) == Equal(Named("Gro\u0308\u00dfe", "string"), "S")
        assert parse_filter(f'item["{name}"] == "S"', columns)
    with pytest.raises(FilterError, match="did you mean Farbe"):
        parse_filter('farbe == "rot"', columns)


def test_the_deepest_and_the_longest_filter_are_within_what_sqlite_takes() -> None:
    assert chosen("not (" * 20 + "kids" + ")" * 20, [{"kids": True}, {}]) == [0]
    assert chosen(" or ".join(["price==1"] * 160), [{"price": 1}, {}]) == [0]
    assert chosen(f"price in {list(range(400))}", [{"price": 1}, {}]) == [0]


def test_the_position_counts_characters() -> None:
    with pytest.raises(FilterError) as caught:
        compile_filter('color == "äöü" and nope == 1', COLUMNS)
    assert caught.value.position == 19


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40))
def test_no_text_provokes_anything_but_a_filter_error(text: str) -> None:
    try:
        clause = compile_filter(text, COLUMNS)
    except FilterError:
        return
    assert clause.sql
