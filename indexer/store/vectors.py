"""The vectors that the index is over, read from the truth.

Letters  n rows, E embedding size
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import numpy as np

from threadmatch.indexer.errors import DamagedItemError
from threadmatch.indexer.index import Vectors
from threadmatch.indexer.store import records
from threadmatch.model.features import FeatureSpec


def item_vectors(connection: sqlite3.Connection, spec: FeatureSpec, rows: Sequence[tuple[int, str, int]]) -> Vectors:
    """(n, E) the vectors of rows, in their order.

    Args:
        connection: to the gallery's database.
        spec: the indexed feature.
        rows: number, item's id and content of each.

    Raises:
        DamagedItemError: one is missing, or fails its checksum.
    """
    found = records.read(connection, spec, (content for _, _, content in rows))
    for _, item_id, content in rows:
        if content not in found:
            raise DamagedItemError(item_id, spec.name)
    return np.asarray(spec.unpack([found[content] for _, _, content in rows]), np.float32)
