"""Rows are found in their table, with gaps in it or without, and what is not there is said to be nowhere."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from threadmatch.indexer.row_numbers import places_of

NUMBERS = st.integers(-5, 60)


@given(table=st.sets(NUMBERS), rows=st.lists(NUMBERS))
def test_places_of_is_a_lookup(table: set[int], rows: list[int]) -> None:
    ascending = sorted(table)
    places = places_of(np.array(ascending, np.int64), np.array(rows, np.int64))
    assert places.tolist() == [ascending.index(row) if row in table else -1 for row in rows]
    assert places.dtype == np.int64


def test_a_table_without_gaps_far_from_zero() -> None:
    places = places_of(np.arange(10**12, 10**12 + 1000), np.array([10**12 + 999, 10**12, 10**12 - 1, 10**12 + 1000, 0]))
    assert places.tolist() == [999, 0, -1, -1, -1]
