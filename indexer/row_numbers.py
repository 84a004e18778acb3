"""Where row numbers stand in a table of them.

Letters  N rows of a table, n asked for
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def places_of(table: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where rows stand in a table.

    Rows are numbered as they come, so a table without gaps holds each as far from its start as its number says. There
    is looked first: a search by halves reads some twenty far places of a large table, and waits for memory at most.

    Args:
        table: (N,) ascending.
        rows: (n,) in any order.

    Returns:
        (n,) places, -1 for a row that is not there.
    """
    if not len(table):
        return np.full(len(rows), -1)
    places: NDArray[np.int64] = np.clip(rows - table[0], 0, len(table) - 1)
    elsewhere = table[places] != rows
    if elsewhere.any():
        left = rows[elsewhere]
        found = np.searchsorted(table, left)
        found[found == len(table)] = 0
        places[elsewhere] = np.where(table[found] == left, found, -1)
    return places
