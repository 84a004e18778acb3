"""Garments worn in the street, from photos with a mask: the garment cut out on white is the item, the photo with a
loose box is the query.

Letters  H x W a photo, h x w a garment's own part of it
Input    a folder with items.csv (image, mask, id, split) and labels.csv (value of a mask pixel, its label)
Output   gallery.csv, queries.csv and items/*.jpg, the form that `pairs.read_labelled` reads; photos stay where they are

Nothing here is shared with `street`: what is real there (the garment) is real here too, and so are its wearer, the
light and what covers it. Both sides come from one photo, so folds are the same unless `bent` bends the item.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from threadmatch.model.errors import DataError
from threadmatch.model.images import Box
from threadmatch.model.synthetic.handheld.bent_cloth import bent_sheet
from threadmatch.model.synthetic.street.cutout import Pixels

Part = Literal["train", "val"]

GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "top": (
        "blouse", "shirt", "t-shirt", "top", "sweater", "sweatshirt", "jumper", "hoodie", "cardigan", "vest",
        "bodysuit",
    ),
    "outerwear": ("coat", "jacket", "blazer", "cape", "suit"),
    "dress": ("dress", "romper"),
    "skirt": ("skirt",),
    "trousers": ("pants", "jeans", "leggings"),
    "shorts": ("shorts",),
    "footwear": ("boots", "shoes", "heels", "pumps", "sneakers", "sandals", "wedges", "flats", "loafers", "clogs"),
    "bag": ("bag", "purse"),
    "scarf": ("scarf",),
}  # fmt: skip
"""Kinds whose neighbouring labels mix in hand-made masks; a garment is all that a photo shows of one of them."""

SMALLEST: Final = 0.03
"""Share of the photo under which a garment is not asked for."""
LOOSE: Final = 0.28
"""A box reaches beyond the garment by up to this share of its side, on each side by chance."""
CUT: Final = (0.45, 0.68)
"""What a cropped query keeps of the garment's height or width."""
MARGIN: Final = 0.05
_QUALITY = 93


@dataclass(frozen=True, slots=True)
class WornGarment:
    """One kind of garment in one photo: (H, W) bool where it is, and its box x0, y0, x1, y1."""

    kind: str
    mask: NDArray[np.bool_]
    box: tuple[int, int, int, int]


def garments_of(mask: Pixels, labels: dict[int, str]) -> list[WornGarment]:
    """The garments of a photo that are large enough to be asked for.

    Args:
        mask: (H, W) uint8, a label a pixel.
        labels: value to label.
    """
    height, width = mask.shape
    found = []
    for kind, names in GROUPS.items():
        values = [value for value, name in labels.items() if name in names]
        own = _without_crumbs(np.isin(mask, values))
        if own.mean() >= SMALLEST:
            x, y, w, h = cv2.boundingRect(own.astype(np.uint8))
            if w * h < 0.95 * height * width:
                found.append(WornGarment(kind, own, (x, y, x + w, y + h)))
    return found


def on_white(photo: Pixels, garment: WornGarment, *, rng: np.random.Generator | None = None) -> Pixels:
    """The garment alone before white, as a shop would show it.

    Args:
        photo: (H, W, 3) uint8.
        rng: bends it and lights it otherwise; None leaves it as it is.

    Returns:
        (h, w, 3) uint8, a margin of MARGIN around.
    """
    x0, y0, x1, y1 = garment.box
    alpha = cv2.GaussianBlur(garment.mask.astype(np.float32) * 255, (0, 0), 1.0)
    alpha = np.clip((alpha - 110) * (255 / 90), 0, 255).astype(np.uint8)
    rgba = np.dstack([photo, alpha])[y0:y1, x0:x1]
    if rng is not None:
        rgba = bent_sheet(rgba, rng, strength=rng.uniform(0.01, 0.05), folds=int(rng.integers(0, 3)))
        gains = rng.uniform(0.85, 1.15) * (1 + rng.normal(0, 0.03, 3))
        rgba[..., :3] = np.clip(rgba[..., :3] * gains, 0, 255).astype(np.uint8)
    pad = max(2, round(MARGIN * max(rgba.shape[:2])))
    framed = cv2.copyMakeBorder(rgba, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=(0, 0, 0, 0))
    share = framed[..., 3:].astype(np.float32) / 255
    return np.asarray(framed[..., :3] * share + 255 * (1 - share), np.uint8)


def loose_box(garment: WornGarment, rng: np.random.Generator, *, cropped: bool) -> Box:
    """A box as a customer draws it: wider than the garment here and there, or with `cropped` on a part of it only."""
    height, width = garment.mask.shape
    x0, y0, x1, y1 = (float(v) for v in garment.box)
    w, h = x1 - x0, y1 - y0
    if cropped:
        keep = rng.uniform(*CUT)
        if rng.random() < 0.6:
            y0, y1 = (y0, y0 + keep * h) if rng.random() < 0.6 else (y1 - keep * h, y1)
        else:
            x0, x1 = (x0, x0 + keep * w) if rng.random() < 0.5 else (x1 - keep * w, x1)
        reach = rng.uniform(-0.02, 0.05, 4)
    else:
        reach = rng.uniform(-0.02, LOOSE, 4)
    return Box(x0 - reach[0] * w, y0 - reach[1] * h, x1 + reach[2] * w, y1 + reach[3] * h).clipped(width, height)


def build_worn_set(
    folder: Path, out: Path, *, split: Part, per_item: int = 2, seed: int = 0, share: tuple[float, float] = (0.0, 1.0)
) -> dict[str, int]:
    """Write gallery.csv, queries.csv and the cut-outs.

    Args:
        folder: such as data/street.
        out: folder to write.
        split: photos of this split alone.
        per_item: queries a garment; every fourth one is cropped, every second item is bent.
        seed: of every choice.
        share: which photos, by a hash of their id in 0..1: parts that share none have shares that do not overlap.

    Returns:
        Counts: gallery, queries.

    Raises:
        DataError: the folder's tables cannot be read.
    """
    (out / "items").mkdir(parents=True, exist_ok=True)
    gallery: list[dict[str, str]] = []
    queries: list[dict[str, str]] = []
    for row, labels in _rows(folder, split, share):
        photo = np.asarray(Image.open(folder / row["image"]).convert("RGB"))
        mask = np.asarray(Image.open(folder / row["mask"]))
        for garment in garments_of(mask, labels):
            name = f"{row['id']}-{garment.kind}"
            rng = np.random.default_rng([seed, _hash(name) % 2**32])
            item = on_white(photo, garment, rng=rng if rng.random() < 0.5 else None)
            Image.fromarray(item).save(out / "items" / f"{name}.jpg", "JPEG", quality=_QUALITY)
            own = {"product_id": name, "category": garment.kind}
            gallery.append({"image": f"items/{name}.jpg", "id": name, **own})
            for _ in range(per_item):
                cropped = bool(rng.random() < 0.25)
                box = loose_box(garment, rng, cropped=cropped)
                setup = "worn_cropped" if cropped else "worn"
                queries.append(
                    {"image": str((folder / row["image"]).absolute()), "box": str(box), "setup": setup, **own}
                )
    _write(out / "gallery.csv", gallery)
    _write(out / "queries.csv", queries)
    return {"gallery": len(gallery), "queries": len(queries)}


def _rows(folder: Path, split: Part, share: tuple[float, float]) -> Iterator[tuple[dict[str, str], dict[int, str]]]:
    try:
        with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
            labels = {int(row["value"]): row["label"] for row in csv.DictReader(file)}
        with (folder / "items.csv").open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == split]
        for row in rows:
            if share[0] <= (_hash(row["id"]) % 10_000) / 10_000 < share[1]:
                yield row, labels
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{folder} is no folder of photos with masks: {error!r}") from error


def _without_crumbs(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The parts that hold at least a tenth of the largest."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count <= 1:
        return mask
    areas = stats[1:, cv2.CC_STAT_AREA]
    kept = np.concatenate([[False], areas >= 0.1 * areas.max()])
    return np.asarray(kept[parts])


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    columns = list(rows[0]) if rows else ["image", "product_id"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
