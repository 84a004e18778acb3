"""SQLite's compiler keeps the contract of conditions."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import get_args

import pytest

from tests.support.filter_contract import CONTRACT, Row, check
from threadmatch.indexer.reading.conditions import Condition
from threadmatch.indexer.reading.filter_sql import to_sql


def sqlite_matches(condition: Condition, rows: Sequence[Row]) -> list[int]:
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE items (seq INTEGER PRIMARY KEY, id TEXT, product_id TEXT, metadata TEXT)")
    for number, row in enumerate(rows):
        text = json.dumps(row.metadata, ensure_ascii=False)
        database.execute("INSERT INTO items VALUES (?, ?, ?, ?)", (number, row.id, row.product_id, text))
    clause = to_sql(condition)
    found = database.execute(f"SELECT seq FROM items i WHERE {clause.sql} ORDER BY seq", clause.values)
    return [seq for (seq,) in found]


@pytest.mark.parametrize(("condition", "ids"), CONTRACT, ids=[str(condition) for condition, _ in CONTRACT])
def test_sqlite_chooses_the_rows_of_the_contract(condition: Condition, ids: str) -> None:
    check(sqlite_matches, condition, ids)


def test_the_contract_has_every_kind_of_condition() -> None:
    def kinds(condition: object) -> set[type]:
        inner = [*getattr(condition, "parts", ()), *filter(None, [getattr(condition, "inner", None)])]
        return {type(condition)}.union(*map(kinds, inner))

    assert set[type]().union(*(kinds(condition) for condition, _ in CONTRACT)) == set(get_args(Condition))
