"""Galleries and queries with known answers, as two tables: what `evaluate` measures and `train` learns from.

gallery.csv   image, product_id, optional id (else the image's path), optional box, any further columns
queries.csv   image, product_id, optional box, optional setup, any further columns
negatives.csv image (a query's), product_id, id (of a gallery item that is not it); optional, for training

Each is any table that `threadmatch ingest` reads. A set that is one file with both sides and all splits in it is a
manifest: see `model.data.manifest.rows`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from threadmatch.model.data.tables.labelled import Cells, open_table
from threadmatch.model.data.tables.photo_files import find_photo, is_address
from threadmatch.model.errors import DataError, InvalidImageError
from threadmatch.model.images import Box

logger = logging.getLogger(__name__)

NO_SETUP = ""
NEGATIVES_FILE = "negatives.csv"
COLUMNS: Final = ("image", "product_id", "id", "box", "setup", "category", "label")
LISTED: Final = 20
"""Rows that an error names; it says how many more there are."""


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One image with the product it shows. `where` is its row in a table, in words, where it came from one."""

    path: Path
    id: str
    product_id: str
    box: Box | None
    setup: str
    category: str
    where: str = field(default="", compare=False)


def read_labelled(
    table: Path, *, images: Path | None = None, may_be_empty: bool = False, skip_bad: bool = False
) -> list[LabelledImage]:
    """Read a gallery.csv or queries.csv.

    Args:
        table: any table that `threadmatch ingest` reads.
        images: folder that image paths are below; None takes the table's folder.
        may_be_empty: whether a header alone will do.
        skip_bad: leave out rows that cannot be used, with a warning, in place of refusing the table.

    Raises:
        DataError: no such file, a missing column, or rows that cannot be used, all of them listed.
    """
    root = images or (table if table.is_dir() else table.parent)
    opened = open_table(table, COLUMNS)
    if missing := sorted({"image", "product_id"} - set(opened.columns)):
        raise DataError(f"{table} has no column {missing}; found {list(opened.columns)}")
    rows: list[LabelledImage] = []
    faults: list[str] = []
    for number, cells in opened:
        place = f"{opened.place} {number}"
        row = cells if isinstance(cells, str) else _row(cells, root, f"{table}, {place}")
        if isinstance(row, str):
            faults.append(f"{place}: {row}")
        else:
            rows.append(row)
    for note in opened.notes:
        logger.warning("%s: %s", table, note)
    if faults:
        refuse_or_skip(f"{len(faults)} rows of {table} cannot be used", faults, skip=skip_bad)
    if not rows and not may_be_empty:
        raise DataError(f"{table} has no rows" + (" that can be used" if faults else ""))
    return rows


def _row(cells: Cells, root: Path, where: str) -> LabelledImage | str:
    """The row, or what is wrong with it."""
    image, product_id = cells.get("image", ""), cells.get("product_id", "")
    if not image or not product_id:
        return f"image is {image!r} and product_id {product_id!r}; both are needed"
    box_text = cells.get("box", "")
    try:
        box = Box.parse(box_text) if box_text else None
    except InvalidImageError as error:
        return str(error)
    return LabelledImage(
        path=find_photo(root, image),
        id=cells.get("id") or image,
        product_id=product_id,
        box=box,
        setup=cells.get("setup") or NO_SETUP,
        category=cells.get("category") or cells.get("label") or "",
        where=where,
    )


def with_photos(images: Sequence[LabelledImage], *, skip_missing: bool = False) -> list[LabelledImage]:
    """The images whose files are there.

    Args:
        images: of a table.
        skip_missing: leave the others out, with a warning, in place of refusing them.

    Raises:
        DataError: files are missing; each is named with its row.
    """
    there = [image.path.is_file() for image in images]
    if all(there):
        return list(images)
    missing = [image for image, found in zip(images, there, strict=True) if not found]
    refuse_or_skip(f"{len(missing)} photos are missing", map(_missing, missing), skip=skip_missing)
    return [image for image, found in zip(images, there, strict=True) if found]


def _missing(image: LabelledImage) -> str:
    where = f"{image.where}: " if image.where else ""
    if is_address(image.id) or ":/" in str(image.path):
        return f"{where}{image.path} is an address; only files are read here, so fetch it and name the file"
    return f"{where}there is no file {image.path}"


def refuse_or_skip(what: str, faults: Iterable[str], *, skip: bool) -> None:
    """Raise a DataError that lists faults, or warn of them and go on."""
    listed = list(faults)
    more = [f"and {len(listed) - LISTED:,} more"] if len(listed) > LISTED else []
    lines = "".join(f"\n  {fault}" for fault in [*listed[:LISTED], *more])
    if not skip:
        advice = (
            "Mend them, or leave them out: `evaluate --skip-bad-rows`, or `skip_bad_rows = true` in a recipe's [data]"
        )
        raise DataError(f"{what}:{lines}\n{advice}")
    logger.warning("%s and are left out:%s", what, lines)


def unanswerable(gallery: Sequence[LabelledImage], queries: Sequence[LabelledImage]) -> str:
    """A warning where queries ask for products that no gallery image shows; "" where all can be answered."""
    products = {image.product_id for image in gallery}
    lost = [query for query in queries if query.product_id not in products]
    if not lost:
        return ""
    some = ", ".join(repr(query.product_id) for query in lost[:3])
    if len(lost) == len(queries):
        have = ", ".join(map(repr, sorted(products)[:3]))
        return f"no query can be answered: none of their products, such as {some}, is in the gallery, which has {have}"
    return f"{len(lost)} of {len(queries)} queries cannot be answered: the gallery has no {some}"
