"""The photos that say how well garments are told from other things: whole, and as people's cameras spoil them."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from threadmatch.model.images import decode_image
from threadmatch.model.synthetic.nonsense import KINDS, as_jpeg, nonsense

Pixels = NDArray[np.uint8]

SEED: Final = 0
FIT_MOST: Final = {"street": 150, "clothing": 240, "luma": 120, "venia": 60}
TEST_MOST: Final = {"street": 121, "clothing": 500, "luma": 250, "venia": 110}
"""Photos of a source."""
KIND: Final = {"street": "worn", "clothing": "laid flat", "luma": "shop", "venia": "shop"}
FIT_SEEDS: Final = range(100, 116)
TEST_SEEDS: Final = range(16)
HALF: Final = 0.65
DETAIL: Final = 0.4
"""Sides of a part, of the photo's."""
LEAST_PX: Final = 80
"""Side of what stands beside somebody."""
CUT_LEAST: Final = 0.02
"""Area of a garment that is cut out, of the photo's."""
CUT_MARGIN: Final = 0.12
NO_CUT: Final = frozenset((
    "null", "background", "skin", "hair", "shoes", "sunglasses", "glasses", "belt", "bracelet", "necklace", "watch",
    "ring", "earrings", "socks", "gloves", "stockings", "tights", "wallet", "accessories", "heels", "boots", "pumps",
    "flats", "sandals", "wedges", "loafers", "clogs", "sneakers", "hat", "scarf", "tie", "leggings",
))  # fmt: skip
"""Labels of `street/` that are not cut out: small, or no garment."""


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """A photo to tell.

    Fields:
        fit: something is chosen by it; else it is judged.
        group: what kind of photo.
        holds: a garment.
        name: of the photo it was made of.
        pixels: (H, W, 3) uint8 RGB.
    """

    fit: bool
    group: str
    holds: bool
    name: str
    pixels: Pixels


def shown(data: Path, others: Sequence[Path], unseen: Sequence[Path], *, fit: bool, judged: bool) -> Iterator[Shown]:
    """All photos of the parts asked for.

    Args:
        data: folder of street/, clothing/, luma/ and venia/.
        others: folders of photos without a garment; half of each, by its name, is fitted on.
        unseen: likewise, all judged.
        fit, judged: the parts.
    """
    for part, most, seeds in ((True, FIT_MOST, FIT_SEEDS), (False, TEST_MOST, TEST_SEEDS)):
        if not (fit if part else judged):
            continue
        for source, count in most.items():
            for number, row in enumerate(_rows(data / source, count, part)):
                yield from _of_photo(data / source, KIND[source], row, number, part)
        for kind in KINDS:
            for seed in seeds:
                pixels = decode_image(as_jpeg(nonsense(kind, seed))).pixels
                yield Shown(part, f"drawn {kind}", False, f"{kind}-{seed}", pixels)
        for folder in (*others, *(() if part else unseen)):
            for path in sorted(folder.iterdir()):
                chosen = folder in others and zlib.crc32(path.name.encode()) % 2 == 0
                if path.suffix in (".png", ".jpg") and chosen == part:
                    yield Shown(part, folder.name, False, path.name, np.asarray(Image.open(path).convert("RGB")))


def _rows(folder: Path, most: int, fit: bool) -> list[dict[str, str]]:
    """By the table's own split; a shop's products are halved by their names."""
    with (folder / "items.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if _is_train(row) == fit]
    return [rows[at] for at in np.random.default_rng(SEED).permutation(len(rows))[:most].tolist()]


def _is_train(row: dict[str, str]) -> bool:
    return row["split"] == "train" if "split" in row else zlib.crc32(row["product_id"].encode()) % 2 == 0


def _of_photo(folder: Path, kind: str, row: dict[str, str], number: int, fit: bool) -> Iterator[Shown]:
    """A photo of a garment, spoilt in several ways; of the judged ones that are many, every other."""
    path = folder / (row.get("image") or row["images"])
    photo = decode_image(path.read_bytes()).pixels
    random = np.random.default_rng(zlib.crc32(path.name.encode()))
    street, every = folder.name == "street", fit or folder.name == "street" or number % 2 == 0

    def one(group: str, pixels: Pixels, *, holds: bool = True) -> Shown:
        return Shown(fit, group, holds, path.name, np.ascontiguousarray(pixels))

    yield one(kind, photo)
    if every:
        yield one(f"{kind}, dark", _dark(photo, random))
        yield one(f"{kind}, blurred", _blurred(photo) if number % 4 > 1 else _shaken(photo, random))
    if number % 2 == 0 if fit and folder.name == "clothing" else every:
        yield one(f"{kind}, half", _part(photo, HALF, random))
    if not street and (number % 3 == 0 if fit else every):
        yield one(f"{kind}, detail", _part(photo, DETAIL, random))
    if street:
        mask = np.asarray(Image.open(folder / row["mask"]))
        mask = np.asarray(cv2.resize(mask, photo.shape[1::-1], interpolation=cv2.INTER_NEAREST), np.uint8)
        yield from (one("cut out on white", cut) for cut in _cut_out(photo, mask, _labels(folder)))
        yield from (one("street beside people", part, holds=False) for part in _beside(photo, mask))


def _dark(photo: Pixels, random: np.random.Generator) -> Pixels:
    """As in a room at night, with grain."""
    light = 255 * ((photo / 255) ** 1.6) * 0.3 + random.normal(0, 2, photo.shape)
    return np.asarray(np.clip(light, 0, 255), np.uint8)


def _blurred(photo: Pixels) -> Pixels:
    """Out of focus."""
    return np.asarray(cv2.GaussianBlur(photo, (0, 0), 0.012 * max(photo.shape[:2])), np.uint8)


def _shaken(photo: Pixels, random: np.random.Generator) -> Pixels:
    """Moved while it was taken, by a twentieth of its long side."""
    side = int(0.05 * max(photo.shape[:2]))
    angle = random.uniform(0, np.pi)
    reach = np.array([np.cos(angle), np.sin(angle)]) * side / 2
    start, end = ((side / 2 + sign * reach).astype(int).tolist() for sign in (-1, 1))
    kernel = cv2.line(np.zeros((side, side), np.float32), start, end, 1.0)
    return np.asarray(cv2.filter2D(photo, -1, kernel / kernel.sum()), np.uint8)


def _part(photo: Pixels, share: float, random: np.random.Generator) -> Pixels:
    """Near the middle."""
    height, width = photo.shape[:2]
    y = int(random.uniform(0.4, 0.6) * height - share * height / 2)
    x = int(random.uniform(0.44, 0.56) * width - share * width / 2)
    return photo[y : y + int(share * height), x : x + int(share * width)]


def _labels(folder: Path) -> dict[int, str]:
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        return {int(row["value"]): row["label"] for row in csv.DictReader(file)}


def _cut_out(photo: Pixels, mask: Pixels, labels: dict[int, str]) -> Iterator[Pixels]:
    """Each garment, by its true mask."""
    for value in np.unique(mask).tolist():
        kept = mask == value
        if labels.get(value, "null") in NO_CUT or kept.mean() < CUT_LEAST:
            continue
        rows, columns = np.nonzero(kept)
        alone = np.where(kept[..., None], photo, 255)[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        margin = int(CUT_MARGIN * max(alone.shape[:2]))
        yield np.pad(alone.astype(np.uint8), ((margin,) * 2, (margin,) * 2, (0, 0)), constant_values=255)


def _beside(photo: Pixels, mask: Pixels) -> Iterator[Pixels]:
    """What is left and right of somebody, where it is large enough."""
    columns = np.nonzero((mask > 0).any(axis=0))[0]
    if len(columns):
        for part in (photo[:, : columns.min()], photo[:, columns.max() + 1 :]):
            if min(part.shape[:2]) >= LEAST_PX:
                yield part
