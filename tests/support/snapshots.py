"""Made photos of garments: a shirt of known outline and cloth, on studio white or on a carpet."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

_OUTLINE = [(0.3, 0.1), (0.42, 0.14), (0.58, 0.14), (0.7, 0.1), (0.95, 0.3), (0.85, 0.42), (0.72, 0.34)]
_OUTLINE += [(0.72, 0.9), (0.28, 0.9), (0.28, 0.34), (0.15, 0.42), (0.05, 0.3)]


def shirt_mask(size: tuple[int, int] = (240, 200)) -> NDArray[np.bool_]:
    """(H, W): where the shirt lies."""
    height, width = size
    points = np.array([(x * 0.8 + 0.1, y * 0.8 + 0.1) for x, y in _OUTLINE]) * (width, height)
    return np.asarray(cv2.fillPoly(np.zeros(size, np.uint8), [points.astype(np.int32)], 1), bool)


def shirt_photo(seed: int = 0, *, ground: str = "white", size: tuple[int, int] = (240, 200)) -> Pixels:
    """(H, W, 3) uint8 RGB: a striped shirt of a colour of its own; `ground` is "white" or "carpet"."""
    rng = np.random.default_rng([seed, 5])
    height, width = size
    cloth = np.empty((height, width, 3), np.float32)
    cloth[:] = rng.uniform(20, 190, 3)
    cloth[(np.arange(height) // int(rng.integers(6, 20))) % 2 == 0] *= 0.75
    if ground == "white":
        place = np.full((height, width, 3), 255, np.float32)
    else:
        place = np.full((height, width, 3), cloth.mean(axis=(0, 1)) + 90, np.float32) % 230
        place += rng.normal(0, 7, (height, width, 1))
    photo = np.where(shirt_mask(size)[..., None], cloth + rng.normal(0, 2, cloth.shape), place)
    return np.clip(photo, 0, 255).astype(np.uint8)


def photo_folders(root: Path, *, photographers: int = 9, skus: int = 8) -> Path:
    """Two source folders in the layout of the shared photos: `clothing` by photographer, `shop` by SKU and view."""
    clothing = [
        {
            "image": f"images/c{owner}-{n}.jpg",
            "id": f"c{owner}-{n}",
            "photographer": str(owner),
            "label": "Shirt",
            "split": "train" if owner % 3 == 0 else "val",
        }
        for owner in range(photographers)
        for n in range(2)
    ]
    shop = [
        {
            "image": f"images/S{sku}-{color}_{view}.jpg",
            "id": f"S{sku}-{color}-{view}",
            "product_id": f"S{sku}-{color}",
            "sku": f"S{sku}",
            "color": color,
            "view": view,
            "name": f"Shirt {sku}",
            "price": "20",
            "category": "Men/Tops/Tees",
        }
        for sku in range(skus)
        for color in ("red", "blue")
        for view in ("main", "back")
    ]
    for name, rows, ground in (("clothing", clothing, "carpet"), ("shop", shop, "white")):
        (root / name / "images").mkdir(parents=True)
        for seed, row in enumerate(rows):
            Image.fromarray(shirt_photo(seed, ground=ground)).save(root / name / row["image"], quality=92)
        with (root / name / "items.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return root
