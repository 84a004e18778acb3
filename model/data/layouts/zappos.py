"""UT-Zap50K with the triplets of Conditional Similarity Networks, as manifest rows and a table of triplets.

    filenames.json                              despite its name a text: an image a line, below ut-zap50k-images/
    ut-zap50k-images/Shoes/Oxfords/BRAND/1.jpg  category, sub-category and brand are the folders
    tripletlists/class_tripletlist_train.txt    three numbers of lines of filenames.json: anchor, FAR, close;
                                                closure, gender, heel and _val, _test likewise

Papers  Yu and Grauman, CVPR 2014 (UT-Zap50K); Veit et al., CVPR 2017 (the triplets), which AG-MAN measures itself on
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from threadmatch.model.data.layouts.tree import Notes, need
from threadmatch.model.data.manifest.rows import Domain, ManifestRow, Split
from threadmatch.model.data.triplet_table import NamedTriplet
from threadmatch.model.errors import DataError

ZAPPOS: Final = "Zappos50k"
FILENAMES: Final = "filenames.json"
IMAGES: Final = "ut-zap50k-images"
ATTRIBUTES: Final = ("class", "closure", "gender", "heel")
OTHERS: Final = ("sub_category", "brand")


def read_zappos(root: Path, notes: Notes) -> Iterator[ManifestRow]:
    """Every photo that a triplet names, in the split of the first list that does: test before val before train.

    Raises:
        DataError: the tree is not in this layout; what is missing is named.
    """
    names = _names(root)
    shared: dict[int, Split] = {}
    for split in (Split.TEST, Split.VAL, Split.TRAIN):
        for attribute in ATTRIBUTES:
            for photos in _triplets(root, attribute, split, len(names)):
                for photo in photos:
                    if shared.setdefault(photo, split) is not split:
                        notes.add("photo in two splits", f"{names[photo]} is left in {shared[photo]}")
    for photo, split in sorted(shared.items()):
        path = root / IMAGES / names[photo]
        if not path.is_file():
            notes.add("photo missing", names[photo])
            continue
        category, sub_category, brand = (*Path(names[photo]).parts[:-1], "", "", "")[:3]
        others = (("sub_category", sub_category), ("brand", brand))
        yield ManifestRow(
            str(path), names[photo], Domain.SHOP, split, id=names[photo], category=category, others=others
        )


def read_zappos_triplets(root: Path, notes: Notes) -> Iterator[NamedTriplet]:
    """Every triplet whose three photos are there, in its list's split.

    Raises:
        DataError: see `read_zappos`.
    """
    names = _names(root)
    there = [(root / IMAGES / name).is_file() for name in names]
    for split in Split:
        for attribute in ATTRIBUTES:
            for anchor, far, near in _triplets(root, attribute, split, len(names)):
                if there[anchor] and there[near] and there[far]:
                    yield NamedTriplet(split, attribute, names[anchor], names[near], names[far])
                else:
                    notes.add("triplet without its photos", f"{anchor} {far} {near} of {attribute}, {split}")


def _names(root: Path) -> list[str]:
    try:
        lines = need(root, FILENAMES, ZAPPOS).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{root / FILENAMES} cannot be read: {error}") from error
    return [line.strip() for line in lines if line.strip()]


def _triplets(root: Path, attribute: str, split: Split, photos: int) -> Iterator[tuple[int, int, int]]:
    """Anchor, far, close, as the file has them."""
    path = need(root, f"tripletlists/{attribute}_tripletlist_{split}.txt", ZAPPOS)
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            cells = line.split()
            if not cells:
                continue
            if len(cells) != 3 or not all(cell.isdecimal() and int(cell) < photos for cell in cells):
                raise DataError(f"{path}, line {number}: {line.strip()[:80]!r}; expected three numbers below {photos}")
            yield int(cells[0]), int(cells[1]), int(cells[2])
