"""A shop's own table of items as manifest rows with a column an attribute, its words brought to those one wants.

    items.csv    image, id; optional product_id, sku, split, and any columns, `|` between several values of one
    words.csv    column, value, attribute, word: what a value means. One value may mean several things; a value that
                 is not listed, or a word that is empty, is left out. Without it columns are taken as they are.
                     category,Women/Tops/Jackets,category,jacket
                     style,Sleeveless,sleeves,none

Where the table has a column `mask` and labels.csv (value,label) lies beside it, a photo shows several garments, named
in the column `garments`: each becomes a row of its own, with the box of its pixels in the mask.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from threadmatch.model.data.attribute_labels import BETWEEN, parse_values
from threadmatch.model.data.layouts.tree import Notes
from threadmatch.model.data.manifest.rows import Domain, ManifestRow, Split
from threadmatch.model.data.tables.labelled import Cells, open_table
from threadmatch.model.errors import DataError
from threadmatch.model.images import Box

LABELS: Final = "labels.csv"
GARMENTS: Final = "garments"
OWN: Final = ("image", "id", "product_id", "sku", "split", "mask", "box", "width", "height")
LEAST_SHARE: Final = 0.01
"""Of a photo's pixels that a garment shows; what is smaller tells too little."""
_WORD_COLUMNS: Final = ("column", "value", "attribute", "word")
_TENTHS: Final = (Split.VAL, Split.TEST, Split.TEST, *[Split.TRAIN] * 7)

Words = Mapping[tuple[str, str], Sequence[tuple[str, str]]]
"""Of a column and its value the attributes and words that it means."""


@dataclass(frozen=True, slots=True)
class ItemSettings:
    """What a table of items leaves open.

    Fields:
        words: table of words; None takes columns as they are.
        product: column that tells garments apart: photos with the same never stand in two splits.
        most: rows of each split at most, chosen by hash; 0: all.
    """

    words: Path | None = None
    product: str = "product_id"
    most: int = 0


def read_words(path: Path) -> Words:
    """The table of words.

    Raises:
        DataError: no such table, or a column is missing.
    """
    table = open_table(path, _WORD_COLUMNS)
    if missing := [name for name in _WORD_COLUMNS if name not in table.columns]:
        raise DataError(f"{path} has no column {', '.join(missing)}; found {', '.join(table.columns)}")
    words: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for _, cells in table:
        if isinstance(cells, str):
            raise DataError(f"{path}: {cells}")
        if cells["word"]:
            words.setdefault((cells["column"], cells["value"]), []).append((cells["attribute"], cells["word"]))
    return words


def item_attributes(table: Path, settings: ItemSettings) -> tuple[str, ...]:
    """The attributes that a table's manifest will have."""
    if settings.words is not None:
        return tuple(sorted({attribute for own in read_words(settings.words).values() for attribute, _ in own}))
    return tuple(name for name in open_table(table, OWN).columns if name not in OWN)


def read_items(table: Path, settings: ItemSettings, notes: Notes) -> Iterator[ManifestRow]:
    """Every item that says something, in the table's split or, without one, shared out by hash: 7, 1 and 2 in 10.

    Raises:
        DataError: the table cannot be read, or lacks `image` or the column of products.
    """
    found = open_table(table, OWN)
    product = settings.product if settings.product in found.columns else "id"
    if missing := [name for name in ("image", product) if name not in found.columns]:
        raise DataError(f"{table} has no column {', '.join(missing)}; found {', '.join(found.columns)}")
    words = None if settings.words is None else read_words(settings.words)
    labels = _labels(table.parent / LABELS) if "mask" in found.columns else None
    rows: list[ManifestRow] = []
    for number, cells in found:
        if isinstance(cells, str):
            notes.add("row that cannot be read", f"{found.place} {number}: {cells}")
            continue
        split = _split(cells, cells[product])
        if labels is None:
            rows += _row(cells, table.parent, cells[product], split, _values(cells, words))
        else:
            rows += _garments(cells, table.parent, split, (words or {}, labels), notes)
    yield from rows if not settings.most else _some(rows, settings.most)


def _values(cells: Cells, words: Words | None) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for column, cell in cells.items():
        for value in parse_values(cell) if column not in OWN else ():
            for attribute, word in [(column, value)] if words is None else words.get((column, value), ()):
                values.setdefault(attribute, []).append(word)
    return values


def _row(
    cells: Cells, root: Path, product: str, split: Split, values: Mapping[str, Sequence[str]], box: Box | None = None
) -> list[ManifestRow]:
    """The row of an item; none where nothing is known of it."""
    joined = {name: BETWEEN.join(dict.fromkeys(own)) for name, own in values.items() if own}
    if not joined:
        return []
    category = joined.pop("category", "")
    name = cells.get("id") or cells["image"]
    image = str(root / cells["image"])
    others = tuple(sorted(joined.items()))
    return [ManifestRow(image, product, Domain.SHOP, split, id=name, box=box, category=category, others=others)]


def _garments(
    cells: Cells, root: Path, split: Split, means: tuple[Words, Mapping[str, int]], notes: Notes
) -> Iterator[ManifestRow]:
    """A row for each garment of a photo that the words know, with the box of its pixels."""
    words, labels = means
    mask = cv2.imread(str(root / cells["mask"]), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        notes.add("mask missing", cells["mask"])
        return
    for label in parse_values(cells.get(GARMENTS, "")):
        meant = words.get((GARMENTS, label), ())
        box = _box_of(np.asarray(mask == labels.get(label, -1), np.bool_)) if meant else None
        if box is None:
            continue
        values: dict[str, list[str]] = {}
        for attribute, word in meant:
            values.setdefault(attribute, []).append(word)
        own = {**cells, "id": f"{cells.get('id') or cells['image']}-{label}"}
        yield from _row(own, root, cells.get("id") or cells["image"], split, values, box)


def _box_of(shown: NDArray[np.bool_]) -> Box | None:
    if shown.mean() < LEAST_SHARE:
        return None
    y, x = np.nonzero(shown)
    return Box(float(x.min()), float(y.min()), float(x.max() + 1), float(y.max() + 1))


def _labels(path: Path) -> dict[str, int]:
    table = open_table(path, ("value", "label"))
    return {cells["label"]: int(cells["value"]) for _, cells in table if not isinstance(cells, str)}


def _split(cells: Cells, product: str) -> Split:
    """The table's own; else by the product's hash."""
    if cells.get("split") in set(Split):
        return Split(cells["split"])
    return _TENTHS[_hash(product) % len(_TENTHS)]


def _some(rows: Sequence[ManifestRow], most: int) -> Iterator[ManifestRow]:
    """So many rows of each split, the same whatever their order; garments in the order of the table."""
    for split in Split:
        own = sorted((row for row in rows if row.split is split), key=lambda row: _hash(row.id))
        kept = {row.id for row in own[:most]}
        yield from (row for row in rows if row.split is split and row.id in kept)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
