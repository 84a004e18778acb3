"""A few street queries with known answers, made from any photos of garments: for demonstrations and first looks.

`street_set` makes a whole labelled set from folders of a known layout; this takes whatever photos there are.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from threadmatch.model.data.setups import Setup
from threadmatch.model.errors import DataError, InvalidImageError
from threadmatch.model.images import decode_image
from threadmatch.model.synthetic.street.cutout import Cutout, Method, Pixels, cut_out
from threadmatch.model.synthetic.street.street_query import make_background, street_query

LONG_SIDE_PX = 512
"""Photos are read no finer; the queries made are smaller."""
STRANGERS = 3
"""Other owners' photos that lend a query its background and what stands in front of it."""
MOST_MISSES = 100
"""Photos without a garment to be found, after which the search for one ends."""
REMEMBERED = 48
"""Photos kept, since each lends itself to several queries; 0.8 MB a photo."""
QUALITY = 92
METHODS: tuple[Method, ...] = ("auto", "grabcut")
"""A studio that is not quite white looks like one to "auto", and then no key fits; GrabCut still finds the garment."""


@dataclass(frozen=True, slots=True)
class SourcePhoto:
    """A gallery photo that a query may be made from. No query takes its background from a photo of the same owner."""

    path: Path
    id: str
    product_id: str
    owner: str


@dataclass(frozen=True, slots=True)
class QueryRow:
    """One row of queries.csv: the picture, the garment it shows, its visible part, and what makes it hard."""

    image: str
    id: str
    product_id: str
    box: str
    setup: str


def make_street_queries(photos: Sequence[SourcePhoto], out: Path, *, count: int, seed: int = 0) -> list[QueryRow]:
    """Write queries.csv and queries/*.jpg.

    Args:
        photos: of the gallery. Those that cannot be read are passed over; those in which no garment is found are taken
            whole, and only where others do not suffice.
        out: folder to write; queries there are replaced.
        count: queries to make; the setups take turns.
        seed: of every choice. The same photos and seed give the same queries.

    Returns:
        What was made, at most `count`; one a product.
    """
    folder = out / "queries"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.jpg"):
        old.unlink()
    ordered = sorted(photos, key=lambda photo: _digest(f"{seed}/{photo.id}"))
    setups = list(Setup)
    rows: list[QueryRow] = []
    for photo, garment, strangers in _garments(ordered):
        number, setup = len(rows), setups[len(rows) % len(setups)]
        rng = np.random.default_rng([seed, number])
        place = strangers[0][0] if strangers else np.full((64, 64, 3), 160, np.uint8)
        others = [cutout for _, cutout in strangers if cutout is not None]
        query = street_query(garment, make_background(place, rng), setup=setup, rng=rng, others=others)
        name = f"queries/{number:03d}.jpg"
        Image.fromarray(query.image).save(out / name, "JPEG", quality=QUALITY)
        box = f"{query.box.x0:g},{query.box.y0:g},{query.box.x1:g},{query.box.y1:g}"
        rows.append(QueryRow(name, photo.id, photo.product_id, box, setup.value))
        if len(rows) == count:
            break
    _read.cache_clear()
    with (out / "queries.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(QueryRow.__dataclass_fields__))
        writer.writeheader()
        writer.writerows(map(asdict, rows))
    return rows


def _garments(
    photos: Sequence[SourcePhoto],
) -> Iterator[tuple[SourcePhoto, Cutout, list[tuple[Pixels, Cutout | None]]]]:
    """One photo a product, with the next few of other owners: those with a garment first, then photos as a whole."""
    seen: set[str] = set()
    misses: list[int] = []
    for number, photo in enumerate(photos):
        read = None if photo.product_id in seen else _read(photo.path)
        if read is None:
            continue
        if read[1] is not None:
            seen.add(photo.product_id)
            yield photo, read[1], _strangers(photos, number)
        elif len(misses) < MOST_MISSES:
            misses.append(number)
        else:
            break
    for number in misses:
        read = None if photos[number].product_id in seen else _read(photos[number].path)
        if read is not None:
            seen.add(photos[number].product_id)
            opaque = np.full(read[0].shape[:2], 255, np.uint8)
            yield photos[number], Cutout(np.dstack([read[0], opaque]), 1.0), _strangers(photos, number)


def _strangers(photos: Sequence[SourcePhoto], number: int) -> list[tuple[Pixels, Cutout | None]]:
    near = photos[number + 1 : number + 1 + 8 * STRANGERS] or photos[:number]
    read = (_read(other.path) for other in near if other.owner != photos[number].owner)
    return list(islice((stranger for stranger in read if stranger is not None), STRANGERS))


@lru_cache(maxsize=REMEMBERED)
def _read(path: Path) -> tuple[Pixels, Cutout | None] | None:
    """A photo and the garment found in it; None where the photo cannot be read."""
    try:
        pixels = decode_image(path.read_bytes(), long_side_hint_px=LONG_SIDE_PX).pixels
    except (OSError, InvalidImageError):
        return None
    scale = LONG_SIDE_PX / max(pixels.shape[:2])
    if scale < 1:
        pixels = np.asarray(cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    for method in METHODS:
        try:
            return pixels, cut_out(pixels, method=method)
        except DataError:
            continue
    return pixels, None


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
