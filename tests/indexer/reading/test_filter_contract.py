"""SQLite's compiler and Arrow's keep the contract of conditions, and agree on whatever else is asked."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.filter_contract import COLOR, CONTRACT, Matcher, Row, check
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
    Order,
    Ordered,
    OrderedColumns,
)
from threadmatch.indexer.reading.filter_arrow import matches
from threadmatch.indexer.reading.filter_sql import add_functions, to_sql
from threadmatch.indexer.store.column_chunks import chunk, read_chunk


def sqlite_matches(condition: Condition, rows: Sequence[Row]) -> list[int]:
    database = sqlite3.connect(":memory:")
    add_functions(database)
    database.execute("CREATE TABLE items (seq INTEGER PRIMARY KEY, id TEXT, product_id TEXT, metadata TEXT)")
    for number, row in enumerate(rows):
        text = json.dumps(row.metadata, ensure_ascii=False)
        database.execute("INSERT INTO items VALUES (?, ?, ?, ?)", (number, row.id, row.product_id, text))
    clause = to_sql(condition)
    found = database.execute(f"SELECT seq FROM items i WHERE {clause.sql} ORDER BY seq", clause.values)
    return [seq for (seq,) in found]


def arrow_matches(condition: Condition, rows: Sequence[Row]) -> list[int]:
    listed = [
        (number, row.id, row.product_id, json.dumps(row.metadata, ensure_ascii=False))
        for number, row in enumerate(rows)
    ]
    read = read_chunk(memoryview(chunk(listed)))
    found: list[int] = np.flatnonzero(matches(condition, read)).tolist()
    return found


@pytest.mark.parametrize(("condition", "ids"), CONTRACT, ids=[str(condition) for condition, _ in CONTRACT])
@pytest.mark.parametrize("matcher", [sqlite_matches, arrow_matches])
def test_a_compiler_chooses_the_rows_of_the_contract(matcher: Matcher, condition: Condition, ids: str) -> None:
    check(matcher, condition, ids)


TEXTS = st.text(st.sampled_from("ab A'\"%_ä\U0001f457"), max_size=4)
EDGES = [0, 1, -1, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63), 10, 36]
WHOLE = st.sampled_from(EDGES) | st.integers(-3, 3)
BROKEN = st.sampled_from([0.5, -1.5, 1e300, -1e300, float(2**53), 2.0**63, 1e-9, 9.5]) | st.integers(-8, 8).map(
    lambda n: n / 4
)
SCALARS = st.none() | st.booleans() | WHOLE | BROKEN | TEXTS
VALUES = SCALARS | st.lists(SCALARS | st.just({"a": 1}) | st.just([1]), max_size=3) | st.just({"x": 1})
ROWS_OF = st.lists(
    st.builds(
        Row,
        id=st.text("abcd", min_size=1, max_size=2),
        product_id=st.none() | st.text("abcd", min_size=1, max_size=2),
        metadata=st.dictionaries(st.sampled_from(["one", "two", "odd name", "a:b"]), VALUES, max_size=4),
    ),
    max_size=12,
)
COLUMNS = st.sampled_from([Named(name, "mixed") for name in ("one", "two", "odd name", "a:b", "nobody has it")])
FIELDS_ = st.sampled_from([Named("id", "string"), Named("product_id", "string")])
ORDERS: st.SearchStrategy[Order] = st.sampled_from(["<", "<=", ">", ">="])
CONSTANTS = st.booleans() | WHOLE | BROKEN | TEXTS
LEAVES: st.SearchStrategy[Condition] = st.one_of(
    st.builds(Always, st.booleans()),
    st.builds(Missing, COLUMNS | FIELDS_),
    st.builds(Equal, COLUMNS, CONSTANTS) | st.builds(Equal, FIELDS_, TEXTS),
    st.builds(OneOf, COLUMNS, st.lists(CONSTANTS, max_size=3).map(tuple)),
    st.builds(Ordered, COLUMNS, ORDERS, CONSTANTS) | st.builds(Ordered, FIELDS_, ORDERS, TEXTS),
    st.builds(Contains, COLUMNS, st.none() | CONSTANTS) | st.builds(Contains, FIELDS_, TEXTS),
    st.builds(EqualColumns, COLUMNS | FIELDS_, COLUMNS | FIELDS_),
    st.builds(OrderedColumns, COLUMNS | FIELDS_, ORDERS, COLUMNS | FIELDS_),
)
CONDITIONS: st.SearchStrategy[Condition] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(All, st.lists(inner, min_size=1, max_size=3).map(tuple)),
        st.builds(AnyOf, st.lists(inner, min_size=1, max_size=3).map(tuple)),
    ),
    max_leaves=4,
)


@settings(max_examples=400, deadline=None)
@given(condition=CONDITIONS, rows=ROWS_OF)
def test_arrow_chooses_what_sqlite_chooses(condition: Condition, rows: list[Row]) -> None:
    assert arrow_matches(condition, rows) == sqlite_matches(condition, rows)


def test_a_text_column_that_repeats_and_one_that_does_not_are_filtered_alike() -> None:
    for texts in (["red", "blue", None, "dark red"] * 8, [f"red {n}" for n in range(32)]):
        rows = [Row(f"{n}", None, {"color": text} if text else {}) for n, text in enumerate(texts)]
        for condition in (Contains(COLOR, "red"), Equal(COLOR, "red"), Ordered(COLOR, ">", "red 2"), Missing(COLOR)):
            assert arrow_matches(condition, rows) == sqlite_matches(condition, rows)


def test_the_contract_has_every_kind_of_condition() -> None:
    def kinds(condition: object) -> set[type]:
        inner = [*getattr(condition, "parts", ()), *filter(None, [getattr(condition, "inner", None)])]
        return {type(condition)}.union(*map(kinds, inner))

    assert set[type]().union(*(kinds(condition) for condition, _ in CONTRACT)) == set(get_args(Condition))
