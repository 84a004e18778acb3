"""Milvus's expressions keep the contract of conditions, and choose what Arrow chooses of whatever else is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.indexer.reading.test_filter_contract import CONDITIONS, ROWS_OF, arrow_matches
from tests.support.clusters import address, connected
from tests.support.filter_contract import CONTRACT, ROWS, Row
from threadmatch.indexer.cluster.filter_milvus import Expression, document, to_milvus
from threadmatch.indexer.reading.conditions import All, Always, AnyOf, Condition, Contains, Equal, Named, Not

Ask = Callable[[Expression], list[int]]
"""The places, among the rows that were filled in, of those that an expression chooses; ascending."""


@pytest.fixture(scope="module")
def filled(cluster_settings: Path) -> Iterator[Callable[[Sequence[Row]], Ask]]:
    """Fills a collection with rows, and asks of those alone."""
    from threadmatch.indexer.cluster.vectors import NewRow

    place = address(cluster_settings)
    with connected(place) as cluster:
        engine, collection = cluster.engine, cluster.names.collection("000001")
        engine.create(collection, 4)
        start = 0

        def fill(rows: Sequence[Row]) -> Ask:
            nonlocal start
            start += 1_000
            first = start
            vector = np.full(4, 0.5, np.float32)
            new = [
                NewRow(first + number, row.id, document(row.product_id, row.metadata), vector)
                for number, row in enumerate(rows)
            ]
            after = engine.insert(collection, new)

            def ask(asked: Expression) -> list[int]:
                where = f"row < {first + len(rows)} && ({asked.text})"
                found = engine.rows(collection, where, last=first - 1, count=2 * len(rows), after=after)
                return [row - first for row, _ in found]

            return ask

        yield fill


@pytest.mark.cluster
def test_a_condition_chooses_the_rows_of_the_contract_or_says_that_it_chooses_more(filled: Any) -> None:
    ask = filled(ROWS)
    for condition, ids in CONTRACT:
        asked = to_milvus(condition)
        found = [ROWS[place].id for place in ask(asked)]
        if asked.exact:
            assert found == list(ids), f"{condition} as {asked.text} chose {found}, expected {list(ids)}"
        else:
            assert set(ids) <= set(found), f"{condition} as {asked.text} left out {set(ids) - set(found)}"


@pytest.mark.cluster
def test_milvus_chooses_what_arrow_chooses(filled: Any) -> None:
    """Rows and conditions of the strategies that hold SQLite and Arrow together, drawn with a fixed seed."""
    drawn = _drawn(ROWS_OF, 12)
    rows = [row for some in drawn for row in some]
    ask = filled(rows)
    exact = 0
    for condition in _drawn(CONDITIONS, 250):
        asked, expected = to_milvus(condition), arrow_matches(condition, rows)
        found = ask(asked)
        exact += asked.exact
        if asked.exact:
            assert found == expected, f"{condition} as {asked.text}"
        else:
            assert set(expected) <= set(found), f"{condition} as {asked.text}"
    assert exact > 100


def _drawn(strategy: Any, count: int) -> list[Any]:
    from hypothesis import HealthCheck, Phase, given, seed, settings

    found: list[Any] = []

    @seed(14)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(value=strategy)
    def draw(value: Any) -> None:
        found.append(value)

    draw()
    return found


COLOR = Named("color", "string")


@pytest.mark.parametrize(
    ("condition", "exact"),
    [
        (Equal(COLOR, "red"), True),
        (Contains(COLOR, "re"), False),
        (Not(Contains(COLOR, "re")), False),
        (All((Equal(COLOR, "red"), Contains(COLOR, "re"))), False),
        (AnyOf((Equal(COLOR, "red"), Always(value=False))), True),
    ],
)
def test_what_milvus_cannot_ask_is_said_to_be_inexact(condition: Condition, exact: bool) -> None:
    assert to_milvus(condition).exact is exact


def test_the_opposite_of_what_cannot_be_asked_leaves_nothing_out() -> None:
    assert to_milvus(Not(Contains(COLOR, "re"))).text == to_milvus(Always(value=True)).text


def test_quotes_of_a_text_stay_inside_of_it() -> None:
    text = to_milvus(Equal(COLOR, '" || row >= 0 || "')).text
    assert text.count('"') - text.count('\\"') == 6  # of the branch, the column and the text alone


def test_a_document_keeps_kinds_apart_and_knows_no_infinity() -> None:
    made = document("p", {"a": True, "b": "Red", "c": [1, None, [2]], "d": 10**400, "e": None})
    assert made["v"] == {"a": 1, "b": "Red", "d": 1.7976931348623157e308}
    assert made["k"] == {"a": 1, "b": 1, "c": 1, "d": 1}
    assert (made["f"], made["l"], made["n"]) == ({"b": "red"}, {"c": [1]}, {"c": 1})
    assert made["p"] == {"id": "p", "folded": "p"}
