"""Triplets that people judged, as a table beside a manifest: of this attribute `near` is more like `anchor` than `far`.

split,attribute,anchor,near,far        anchor, near and far are ids of the manifest's rows
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from threadmatch.model.data.manifest.rows import Split
from threadmatch.model.data.tables.labelled import open_table
from threadmatch.model.data.tables.writing import write_table
from threadmatch.model.errors import DataError

COLUMNS: Final = ("split", "attribute", "anchor", "near", "far")


@dataclass(frozen=True, slots=True)
class NamedTriplet:
    """One judgement."""

    split: Split
    attribute: str
    anchor: str
    near: str
    far: str


def write_triplets(path: Path, triplets: Iterable[NamedTriplet]) -> int:
    """Write them one at a time; the ending says whether as CSV or Parquet.

    Returns:
        Triplets written.
    """
    return write_table(path, COLUMNS, (dict(zip(COLUMNS, astuple(one), strict=True)) for one in triplets))


def read_triplets(path: Path, split: Split, photos: Mapping[str, int]) -> dict[str, NDArray[np.int64]]:
    """The triplets of one split, those whose photos are known.

    Args:
        path: of the table.
        split: which.
        photos: position of each photo by id.

    Returns:
        By attribute (T, 3) positions of anchor, near and far.

    Raises:
        DataError: no such table, a column is missing, or no triplet is left.
    """
    table = open_table(path, COLUMNS)
    if missing := [name for name in COLUMNS if name not in table.columns]:
        raise DataError(f"{path} has no column {', '.join(missing)}; found {', '.join(table.columns)}")
    found: dict[str, list[tuple[int, int, int]]] = {}
    for number, cells in table:
        if isinstance(cells, str):
            raise DataError(f"{path}, {table.place} {number}: {cells}")
        if cells["split"] != split or any(cells[name] not in photos for name in COLUMNS[2:]):
            continue
        found.setdefault(cells["attribute"], []).append(
            (photos[cells["anchor"]], photos[cells["near"]], photos[cells["far"]])
        )
    if not found:
        raise DataError(f"{path} has no triplet of split {split} whose photos are in the manifest")
    return {name: np.asarray(own, np.int64) for name, own in found.items()}
