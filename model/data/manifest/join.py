"""One manifest from a set in two tables, gallery and queries: for what `threadmatch data streetify` and `draw` make.

How much of a query's garment is cut off and covered was counted on its mask; the manifest says it in per cent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Final

from threadmatch.model.data.manifest.rows import COLUMNS, Domain, Split
from threadmatch.model.data.tables.labelled import Cells, Table, open_table
from threadmatch.model.data.tables.writing import write_table
from threadmatch.model.errors import DataError

MANIFEST: Final = "manifest.csv"
PERCENT: Final = {
    "cropped": "cropped_percent",
    "cropped_fraction": "cropped_percent",
    "occluded": "occluded_percent",
    "occluded_fraction": "occluded_percent",
}
"""Columns of shares, 0 to 1, and what they are called in per cent."""
TENTHS: Final = (Split.VAL, Split.TEST, *[Split.TRAIN] * 8)
"""How a set without splits is shared out, by hash."""


def write_joined_manifest(gallery: Path, queries: Path, out: Path, *, split: Split | None = None) -> int:
    """Write a manifest beside the two tables it is made from.

    Args:
        gallery: image, product_id, optional id, family and others.
        queries: image, product_id, optional box, setup and others.
        out: to write, in the folder of both.
        split: of every row; None shares products out, 8 in 10 to train and 1 each to val and test, by hash. Products of
            one `family`, which differ in a detail, stay together.

    Returns:
        Rows written.

    Raises:
        DataError: a table that cannot be read.
    """
    shop, street = open_table(gallery), open_table(queries)
    families: dict[str, str] = {}
    if split is None and "family" in shop.columns:
        families = {cells["product_id"]: cells["family"] for cells in _cells(shop, gallery) if cells["family"]}

    def rows(table: Table, path: Path, domain: Domain) -> Iterator[Cells]:
        for cells in _cells(table, path):
            product = cells["product_id"]
            of = split or _shared_out(families.get(product, product))
            percents = {PERCENT[name]: f"{100 * float(text):.2f}" for name, text in cells.items() if name in PERCENT}
            yield {**cells, **percents, "domain": domain.value, "split": of.value}

    named = dict.fromkeys(PERCENT.get(name, name) for name in chain(shop.columns, street.columns))
    columns = (*COLUMNS, *(name for name in named if name not in COLUMNS))
    both = chain(rows(shop, gallery, Domain.SHOP), rows(street, queries, Domain.CUSTOMER))
    return write_table(out, columns, both)


def _cells(table: Table, path: Path) -> Iterator[Cells]:
    for number, cells in table:
        if isinstance(cells, str):
            raise DataError(f"{path}, {table.place} {number}: {cells}")
        yield cells


def _shared_out(name: str) -> Split:
    return TENTHS[int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % len(TENTHS)]
