"""Galleries and queries with known answers, as two CSV files: what `evaluate` measures and `train` learns from.

gallery.csv   image, product_id, optional id (else the image's path), optional box, any further columns
queries.csv   image, product_id, optional box, optional setup, any further columns
negatives.csv image (a query's), product_id, id (of a gallery item that is not it); optional, for training

A set that is one file with both sides and all splits in it is a manifest: see `model.data.manifest.rows`.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from threadmatch.model.errors import DataError, InvalidImageError
from threadmatch.model.images import Box

NO_SETUP = ""
NEGATIVES_FILE = "negatives.csv"


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One image with the product it shows."""

    path: Path
    id: str
    product_id: str
    box: Box | None
    setup: str
    category: str


def read_labelled(table: Path, *, images: Path | None = None, may_be_empty: bool = False) -> list[LabelledImage]:
    """Read a gallery.csv or queries.csv.

    Args:
        table: the file, UTF-8.
        images: folder that image paths are below; None takes the table's folder.
        may_be_empty: whether a header alone will do.

    Raises:
        DataError: no such file, a missing column, or a row that cannot be used; the row number is the line in the file.
    """
    root = images or table.parent
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = {"image", "product_id"} - set(reader.fieldnames or ())
            if missing:
                raise DataError(f"{table} has no column {sorted(missing)}; found {reader.fieldnames}")
            rows = [_row(row, root, f"{table}, line {reader.line_num}") for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read: {error}") from error
    if not rows and not may_be_empty:
        raise DataError(f"{table} has no rows")
    return rows


def _row(row: dict[str, str | None], root: Path, where: str) -> LabelledImage:
    image, product_id = row.get("image") or "", row.get("product_id") or ""
    if not image or not product_id:
        raise DataError(f"{where}: image is {image!r} and product_id {product_id!r}; both are needed")
    box_text = row.get("box") or ""
    try:
        box = Box.parse(box_text) if box_text else None
    except InvalidImageError as error:
        raise DataError(f"{where}: {error}") from error
    return LabelledImage(
        path=root / image,
        id=row.get("id") or image,
        product_id=product_id,
        box=box,
        setup=row.get("setup") or NO_SETUP,
        category=row.get("category") or row.get("label") or "",
    )
