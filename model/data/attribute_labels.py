"""Photos labelled with attributes: manifests with a column an attribute, `|` between values, and nothing where unknown.

    image,product_id,domain,split,neckline,sleeves,pattern
    images/1.jpg,dress-1,shop,train,v,short,floral|dots
    images/2.jpg,dress-1,customer,train,,,              the garment's own values, which its shop photo has
    images/3.jpg,skirt-7,shop,train,,,plain             a skirt has no neckline: nobody compares it by one

Letters  n photos, V values of an attribute
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from threadmatch.model.data.manifest.rows import Domain, Manifest, ManifestRow, Split, labelled
from threadmatch.model.data.pairs import LabelledImage, refuse_or_skip
from threadmatch.model.errors import DataError

BETWEEN: Final = "|"
"""Between the values of a photo that has several of an attribute."""


@dataclass(frozen=True, slots=True)
class AttributeSet:
    """Photos and what is known of each.

    Fields:
        images: n.
        values: by attribute n tuples of values; () where it is not known.
        asks: whether a photo is a customer's, which asks, or the shop's, which answers.
    """

    images: list[LabelledImage]
    values: Mapping[str, list[tuple[str, ...]]]
    asks: list[bool]

    def known(self, attribute: str) -> NDArray[np.int64]:
        """Positions of the photos that have a value."""
        return np.flatnonzero([bool(own) for own in self.values[attribute]])

    def marks(self, attribute: str, values: Sequence[str]) -> NDArray[np.bool_]:
        """(n, V) which photo has which of these values; what is not among them counts as unknown."""
        place = {value: n for n, value in enumerate(values)}
        marks = np.zeros((len(self.images), len(values)), np.bool_)
        for n, own in enumerate(self.values[attribute]):
            marks[n, [place[value] for value in own if value in place]] = True
        return marks

    def vocabulary(self, attribute: str, *, least: int = 1) -> tuple[str, ...]:
        """Values that at least so many photos have, by name."""
        counts = Counter(value for own in self.values[attribute] for value in own)
        return tuple(sorted(value for value, count in counts.items() if count >= least))


def parse_values(cell: str) -> tuple[str, ...]:
    """The values of a cell, each once: "floral|dots" -> ("floral", "dots"), "" -> ()."""
    parts = (part.strip() for part in cell.split(BETWEEN))
    return tuple(dict.fromkeys(part for part in parts if part))


def read_attributes(
    manifests: Sequence[Path],
    split: Split,
    attributes: Sequence[str] = (),
    *,
    images: Path | None = None,
    skip_bad: bool = False,
) -> AttributeSet:
    """Read the rows of one split that have a value of some attribute.

    A customer's photo without a value has that of its product's shop photos: it is the same garment.

    Args:
        manifests: files; an attribute that one does not have is unknown for all its rows. Products are told apart by
            manifest where there are several.
        split: which rows.
        attributes: columns; () takes every column with a value that is not of a manifest's own, and `category`.
        images: root of the image paths; None takes each manifest's folder.
        skip_bad: leave out rows that cannot be used, with a warning, in place of refusing the manifest.

    Raises:
        DataError: a manifest cannot be read; a column that no manifest has; no labelled rows of that split.
    """
    rows: list[tuple[ManifestRow, Path, str]] = []
    for path in manifests:
        manifest, faults = Manifest(path), list[str]()
        root = images or path.parent
        own = f"{path}: " if len(manifests) > 1 else ""  # two sets may call different garments alike
        of_split = [
            (replace(row, product_id=f"{own}{row.product_id}"), root, f"{path}, {manifest.place} {number}")
            for number, row in manifest.rows(faults)
            if row.split is split
        ]
        if faults:
            refuse_or_skip(f"{len(faults)} rows of {path} cannot be used", faults, skip=skip_bad)
        rows += of_split
    cells = [{**dict(row.others), "category": row.category} for row, _, _ in rows]
    there = {name for own in cells for name in own}
    if missing := [name for name in attributes if name not in there]:
        raise DataError(f"no manifest has the column {', '.join(missing)}; found {', '.join(sorted(there)) or 'none'}")
    chosen = attributes or sorted(name for name in there if any(own.get(name) for own in cells))
    values = {name: [parse_values(own.get(name, "")) for own in cells] for name in chosen}
    _take_from_products([row for row, _, _ in rows], values)
    kept = [n for n in range(len(rows)) if any(values[name][n] for name in chosen)]
    if not kept:
        names = ", ".join(str(path) for path in manifests)
        raise DataError(f"no row of {names} in split {split} has a value of {', '.join(chosen)}")
    every = AttributeSet(
        [labelled(*row) for row in rows], values, [row.domain is Domain.CUSTOMER for row, _, _ in rows]
    )
    return some(every, kept)


def _take_from_products(rows: Sequence[ManifestRow], values: Mapping[str, list[tuple[str, ...]]]) -> None:
    """Give a customer's photo the values of its product, where it has none of its own."""
    for own in values.values():
        of_product = {
            row.product_id: found for row, found in zip(rows, own, strict=True) if found and row.domain is Domain.SHOP
        }
        for n, row in enumerate(rows):
            if not own[n] and row.domain is Domain.CUSTOMER:
                own[n] = of_product.get(row.product_id, ())


def joined(sets: Sequence[AttributeSet]) -> AttributeSet:
    """Several sets as one; what one does not know of an attribute is unknown."""
    names = list(dict.fromkeys(name for one in sets for name in one.values))
    return AttributeSet(
        [image for one in sets for image in one.images],
        {name: [v for one in sets for v in one.values.get(name, [()] * len(one.images))] for name in names},
        [asks for one in sets for asks in one.asks],
    )


def some(of: AttributeSet, at: Sequence[int]) -> AttributeSet:
    """The photos at these positions alone."""
    values = {name: [own[n] for n in at] for name, own in of.values.items()}
    return AttributeSet([of.images[n] for n in at], values, [of.asks[n] for n in at])
