"""Photos with what is known of their pixels, decoded once: the store that a parser is trained from.

STORE/pixels.bin     photos one after another, uint8 RGB
STORE/allowed.bin    uint16 sets of kinds (see `kinds`), one a pixel
STORE/index.json     written last: version, and of each photo its source, place and size
"""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from threadmatch.model.data.setups import Setup
from threadmatch.model.detection.parsing.kinds import ANYTHING, BACKGROUND, GARMENTS, LAID_LABELS, STREET_LABELS, bits
from threadmatch.model.errors import DataError, InvalidImageError
from threadmatch.model.images import decode_image
from threadmatch.model.synthetic.drawn.drawn_query import draw_street_scene
from threadmatch.model.synthetic.garments.garment import garment
from threadmatch.model.synthetic.street.backgrounds import make_background
from threadmatch.model.synthetic.street.cutout import (
    KEY_PX,
    PLAUSIBLE,
    WORK_PX,
    cleaned,
    grabcut_mask,
    white_border,
    white_key,
)
from threadmatch.model.synthetic.street.street_set import SourcePhoto, read_sources

logger = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]
Sets = NDArray[np.uint16]

VERSION: Final = 1
PHOTO_PX: Final = 480
"""Long side at which photos are kept; a training scene shows half of it at least."""
MOST_OF_A_LABEL: Final = 260
"""Photos of clothing-dataset taken of one label, so that shirts do not outnumber everything."""
EDGE: Final = 0.012
"""Width of the seam between a cut-out and its background about which nothing is said, share of the long side."""
DRAWN_KINDS: Final = {
    "t-shirt": ("top",), "long_sleeve": ("top",), "shirt": ("top",), "sweater": ("top",), "tank_top": ("top",),
    "polo": ("top",), "cardigan": ("outerwear", "top"),
    "hoodie": ("top", "outerwear"), "jacket": ("outerwear",), "coat": ("outerwear",),
    "dress": ("dress_or_jumpsuit",), "skirt": ("skirt",), "trousers": ("trousers",), "shorts": ("shorts",),
}  # fmt: skip
"""Categories of drawn garments to kinds."""
SHOP_KINDS: Final = (
    ("Jackets", ("outerwear",)), ("Hoodies", ("top", "outerwear")), ("Shorts", ("shorts", "trousers")),
    ("Pants", ("trousers", "shorts")), ("Skirts", ("skirt",)), ("Dresses", ("dress_or_jumpsuit",)), ("Tops", ("top",)),
)  # fmt: skip
"""Parts of a shop's category to kinds, the first that is found."""


@dataclass(frozen=True, slots=True)
class KnownPhoto:
    """A photo and what its pixels may be.

    Fields:
        source: where it is from; scenes are made by it.
        pixels: (H, W, 3) uint8 RGB.
        allowed: (H, W) uint16, a set of kinds a pixel.
    """

    source: str
    pixels: Pixels
    allowed: Sets


@dataclass(frozen=True, slots=True)
class _Entry:
    source: str
    offset: int
    height: int
    width: int


class PhotoStore:
    """A finished store, mapped into memory.

    Raises:
        DataError: there is none in the folder, or one of another version.
    """

    def __init__(self, folder: Path) -> None:
        try:
            index = json.loads((folder / "index.json").read_text())
        except (OSError, ValueError) as error:
            raise DataError(f"no store of photos in {folder} ({error}); prepare it first") from error
        if index["version"] != VERSION:
            raise DataError(f"{folder} is a store of version {index['version']}, expected {VERSION}; remove it")
        self._entries = [_Entry(**entry) for entry in index["photos"]]
        self._pixels = np.memmap(folder / "pixels.bin", np.uint8, "r")
        self._allowed = np.memmap(folder / "allowed.bin", np.uint16, "r")
        self.by_source: dict[str, list[int]] = {}
        for number, entry in enumerate(self._entries):
            self.by_source.setdefault(entry.source, []).append(number)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, number: int) -> KnownPhoto:
        entry = self._entries[number]
        area = entry.height * entry.width
        pixels = self._pixels[3 * entry.offset : 3 * (entry.offset + area)].reshape(entry.height, entry.width, 3)
        allowed = self._allowed[entry.offset : entry.offset + area].reshape(entry.height, entry.width)
        return KnownPhoto(entry.source, np.asarray(pixels), np.asarray(allowed))


def write_store(photos: Iterable[KnownPhoto], folder: Path) -> int:
    """Write a store, and say how many photos it holds. A store without its index is unfinished and is written anew."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.json").unlink(missing_ok=True)
    entries, offset = [], 0
    with (folder / "pixels.bin").open("wb") as pixels, (folder / "allowed.bin").open("wb") as allowed:
        for photo in photos:
            height, width = photo.allowed.shape
            pixels.write(np.ascontiguousarray(photo.pixels, np.uint8).tobytes())
            allowed.write(np.ascontiguousarray(photo.allowed, np.uint16).tobytes())
            entries.append(asdict(_Entry(photo.source, offset, height, width)))
            offset += height * width
            if len(entries) % 200 == 0:
                logger.info("photos prepared", extra={"photos": len(entries)})
    (folder / "index.json").write_text(json.dumps({"version": VERSION, "photos": entries}))
    return len(entries)


def known_photos(root: Path, *, seed: int, drawn: int = 300, places: int = 400) -> Iterator[KnownPhoto]:
    """Every photo that a parser may train on.

    Args:
        root: folder of street/, clothing/, luma/ and venia/; their training parts are read.
        seed: of drawn garments and places.
        drawn: how many drawn people.
        places: how many backgrounds without a garment.

    Raises:
        DataError: a folder is missing.
    """
    yield from street_photos(root / "street", split="train")
    laid = [photo for photo in read_sources(root, ["clothing"]) if photo.split == "train"]
    yield from _places([photo.path for photo in laid], places, seed)
    for index in range(drawn):
        yield drawn_photo(seed, index)
    taken: dict[str, int] = {}
    for photo in sorted(laid, key=lambda one: one.id):
        label = dict(photo.row)["category"]
        if label in LAID_LABELS and taken.get(label, 0) < MOST_OF_A_LABEL:
            taken[label] = taken.get(label, 0) + 1
            yield from _laid_photo(photo.path, LAID_LABELS[label])
    for photo in read_sources(root, ["luma", "venia"]):
        if photo.split == "train" and photo.view in ("main", "back"):
            yield from _shop_photo(photo)


def street_photos(folder: Path, *, split: str) -> Iterator[KnownPhoto]:
    """Photos of street/ with their masks.

    Raises:
        DataError: the folder is not as its README says.
    """
    try:
        with (folder / "labels.csv").open(newline="") as file:
            labels = {int(row["value"]): row["label"] for row in csv.DictReader(file)}
        table = np.zeros(256, np.uint16)
        for value, label in labels.items():
            table[value] = bits(STREET_LABELS[label])
        with (folder / "items.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == split]
        for row in rows:
            pixels = np.asarray(Image.open(folder / row["image"]).convert("RGB"))
            mask = np.asarray(Image.open(folder / row["mask"]))
            yield _shrunk("street", pixels, table[mask])
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{folder} cannot be read as street photos: {error}") from error


def drawn_photo(seed: int, index: int) -> KnownPhoto:
    """A drawn garment in the street: its own kind where it is seen, anything else elsewhere."""
    item = garment(seed, index)
    setups = (Setup.EASY, Setup.EASY, Setup.HARD_CROPPING, Setup.HARD_VIEW)
    scene = draw_street_scene(item, setup=setups[index % len(setups)], seed=seed)
    kinds = bits(DRAWN_KINDS.get(item.category, GARMENTS))
    allowed = np.where(scene.visible, kinds, ANYTHING & ~kinds).astype(np.uint16)
    return _shrunk("drawn", scene.query.image, _seam(allowed, scene.visible))


def _places(photos: list[Path], count: int, seed: int) -> Iterator[KnownPhoto]:
    rng = np.random.default_rng([seed, 1])
    for _ in range(count if photos else 0):
        pixels = _read(photos[int(rng.integers(len(photos)))])
        if pixels is not None:
            place = make_background(pixels, rng)
            yield KnownPhoto("place", place, np.full(place.shape[:2], BACKGROUND, np.uint16))


def _laid_photo(path: Path, kinds: tuple[str, ...]) -> Iterator[KnownPhoto]:
    """A garment on its own ground, where GrabCut finds a plausible one."""
    pixels = _read(path)
    inside = None if pixels is None else _cut(pixels)
    if pixels is not None and inside is not None:
        allowed = np.where(inside, bits(kinds), BACKGROUND).astype(np.uint16)
        yield _shrunk("laid", pixels, _seam(allowed, inside))


def _shop_photo(photo: SourcePhoto) -> Iterator[KnownPhoto]:
    """A model on white: the ground is known, the wearer may be the garment, skin, or what goes with such a garment."""
    pixels = _read(photo.path)
    inside = None if pixels is None else _cut(pixels)
    if pixels is None or inside is None:
        return
    category = dict(photo.row)["category"]
    kinds = next((kinds for part, kinds in SHOP_KINDS if part in category), GARMENTS)
    beside: tuple[str, ...] = ("skin_and_hair", "footwear")
    if "Bottoms" in category:
        beside += ("top",)
    elif "dress_or_jumpsuit" not in kinds:
        beside += ("trousers", "shorts", "skirt")
    allowed = np.where(inside, bits({*kinds, *beside}), BACKGROUND).astype(np.uint16)
    yield _shrunk("shop", pixels, _seam(allowed, inside))


def _read(path: Path) -> Pixels | None:
    try:
        return decode_image(path.read_bytes(), long_side_hint_px=PHOTO_PX).pixels
    except (OSError, InvalidImageError):
        return None


def _cut(pixels: Pixels) -> NDArray[np.bool_] | None:
    """(H, W) where the garment is, in place."""
    height, width = pixels.shape[:2]
    white = white_border(pixels)
    scale = min(1.0, (KEY_PX if white else WORK_PX) / max(height, width))
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else pixels
    small = np.ascontiguousarray(small, np.uint8)
    mask = cleaned(white_key(small) if white else grabcut_mask(small))
    if not PLAUSIBLE[0] <= float((mask > 0).mean()) <= PLAUSIBLE[1]:
        return None
    return np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR)) > 127


def _seam(allowed: Sets, inside: NDArray[np.bool_]) -> Sets:
    """Along the edge of what was cut out a pixel may be either side's."""
    radius = max(1, round(EDGE * max(inside.shape)))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    edge = cv2.morphologyEx(inside.astype(np.uint8), cv2.MORPH_GRADIENT, kernel) > 0
    return np.where(edge, ANYTHING, allowed).astype(np.uint16)


def _shrunk(source: str, pixels: Pixels, allowed: Sets) -> KnownPhoto:
    height, width = allowed.shape
    scale = PHOTO_PX / max(height, width)
    if scale >= 1:
        return KnownPhoto(source, np.asarray(pixels), allowed)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    return KnownPhoto(source, small, np.asarray(cv2.resize(allowed, size, interpolation=cv2.INTER_NEAREST), np.uint16))
