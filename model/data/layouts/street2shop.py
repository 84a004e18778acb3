"""Street2Shop (Kiapour et al., ICCV 2015) as manifest rows.

    meta/json/train_pairs_CATEGORY.json  [{"photo": 2847, "product": 47270, "bbox": {"left", "top", "width", "height"}}]
    meta/json/test_pairs_CATEGORY.json   the same
    meta/json/retrieval_CATEGORY.json    [{"photo": 163478, "product": 1}]: every shop photo of the category
    photos/photos.txt                    000000001,http://...: where each photo was; not read
    images/000000001.jpeg                the photos, fetched by the user; any ending, in any folder below

The benchmark asks, category by category, with the test pairs' street photos, cut to their boxes, and answers with every
shop photo of the category: `--gallery-split all --category tops`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from threadmatch.model.data.layouts.tree import Notes, held_out
from threadmatch.model.data.manifest.rows import Domain, ManifestRow, Split
from threadmatch.model.errors import DataError, InvalidImageError
from threadmatch.model.images import Box

STREET2SHOP: Final = "Street2Shop"
META: Final = ("meta/json", "meta/meta/json", "json")
"""Where the archive's tables come to lie, by how it was unpacked."""
PHOTOS: Final = ("images", "photos", "Img", ".")
_ENDINGS: Final = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tiff")


@dataclass(frozen=True, slots=True)
class _Pair:
    photo: int
    product: int
    box: Box | None


def read_street2shop(root: Path, notes: Notes, *, val_share: float) -> Iterator[ManifestRow]:
    """Every category's street photos (once for each garment marked in them) and shop photos.

    A product of the test pairs is `test`, one of the train pairs `train` or, for `val_share` of them by hash, `val`;
    shop photos of products that no pair names are distractors and stand in `test`. Photos that were not fetched (many
    addresses are dead) are left out and counted.

    Raises:
        DataError: the tree is not in this layout; what is missing is named.
    """
    meta = next((root / name for name in META if any((root / name).glob("retrieval_*.json"))), None)
    if meta is None:
        raise DataError(f"{root} is not laid out as {STREET2SHOP}: {META[0]}/retrieval_CATEGORY.json is missing")
    photos = _photos(root)
    for table in sorted(meta.glob("retrieval_*.json")):
        category = table.stem.removeprefix("retrieval_")
        yield from _category(meta, category, photos, notes, val_share)


def _category(
    meta: Path, category: str, photos: dict[int, str], notes: Notes, val_share: float
) -> Iterator[ManifestRow]:
    asked = {part: _pairs(meta / f"{part}_pairs_{category}.json", notes) for part in ("train", "test")}
    splits: dict[int, Split] = {pair.product: held_out(_product(category, pair), val_share) for pair in asked["train"]}
    for pair in asked["test"]:
        if splits.get(pair.product, Split.TEST) is not Split.TEST:
            notes.add("product in train and test", f"{_product(category, pair)}: its train pairs are left out")
        splits[pair.product] = Split.TEST
    for part, pairs in asked.items():
        for pair in pairs:
            split = splits[pair.product]
            if part == "train" and split is Split.TEST:
                continue
            if (image := photos.get(pair.photo)) is None:
                notes.add("street photo not fetched", f"{pair.photo:09d} of {part}_pairs_{category}.json")
                continue
            yield ManifestRow(image, _product(category, pair), Domain.CUSTOMER, split, box=pair.box, category=category)
    for photo in _pairs(meta / f"retrieval_{category}.json", notes, boxed=False):
        if (image := photos.get(photo.photo)) is None:
            notes.add("shop photo not fetched", f"{photo.photo:09d} of retrieval_{category}.json")
            continue
        product = _product(category, photo)
        split = splits.get(photo.product, Split.TEST)
        yield ManifestRow(image, product, Domain.SHOP, split, id=f"{product}-{photo.photo}", category=category)


def _product(category: str, pair: _Pair) -> str:
    return f"{category}-{pair.product}"


def _pairs(path: Path, notes: Notes, *, boxed: bool = True) -> list[_Pair]:
    """The entries of a table, each once."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        pairs = {
            _Pair(int(entry["photo"]), int(entry["product"]), _box(entry, notes) if boxed else None): None
            for entry in entries
        }
    except FileNotFoundError as error:
        raise DataError(f"{path.parent} is not laid out as {STREET2SHOP}: {path.name} is missing") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        form = '[{"photo": 1, "product": 2, "bbox": {"left", "top", "width", "height"}}, ...]'
        raise DataError(f"{path} is not of the form {form}: {error!r}") from error
    return list(pairs)


def _box(entry: dict[str, Any], notes: Notes) -> Box | None:
    if not (box := entry.get("bbox")):
        notes.add("no box", f"street photo {entry['photo']}; the whole image is taken")
        return None
    left, top = float(box["left"]), float(box["top"])
    try:
        return Box(left, top, left + float(box["width"]), top + float(box["height"]))
    except InvalidImageError:
        notes.add("box left out", f"street photo {entry['photo']}: {box} is empty; the whole image is taken")
        return None


def _photos(root: Path) -> dict[int, str]:
    """Photo number to file, for every image whose name is a number."""
    for name in PHOTOS:
        found = {
            int(file.stem): str(file)
            for file in (root / name).rglob("*")
            if file.stem.isdecimal() and file.suffix.lower() in _ENDINGS
        }
        if found:
            return found
    raise DataError(
        f"{root} is not laid out as {STREET2SHOP}: {root / PHOTOS[0]}/000000001.jpeg and the like are missing; "
        "fetch the addresses of photos/photos.txt to images/ first, each under its number"
    )
