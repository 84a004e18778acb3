"""A street photo of several garments: people's own, cut out and put together as they would be worn.

Letters  H x W the photo, h x w a cutout
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np

from threadmatch.model.errors import DataError
from threadmatch.model.synthetic.street.backgrounds import make_background
from threadmatch.model.synthetic.street.cutout import Cutout, Pixels
from threadmatch.model.synthetic.street.occluders import over
from threadmatch.model.synthetic.street.relighting import cast_shadow, photograph, relight
from threadmatch.model.synthetic.street.street_set import SourcePhoto, cut_of

WIDTH, HEIGHT = 480, 760
TOPS: Final = ("T-Shirt", "Longsleeve", "Shirt", "Blazer", "Outwear")
"""Categories of what is worn above."""
_HEAD_PX, _TOP_PX, _LEGS_PX = 110, 250, 360
"""Width of a hat and of a top, and height of trousers."""
_HAT_Y, _TOP_Y, _OVERLAP_PX = 20, 140, 40
"""Where hat and top begin, and how far the top hangs over the trousers."""


def outfit(photos: Sequence[SourcePhoto], *, seed: int) -> tuple[Pixels, list[SourcePhoto]]:
    """Put a hat, a top and trousers together.

    Args:
        photos: of garments, a category in `row`.
        seed: every choice comes from it.

    Returns:
        (HEIGHT, WIDTH, 3) uint8 RGB, and the photos of its garments: top, trousers, hat.

    Raises:
        DataError: there are no such garments among the photos that could be cut out.
    """
    rng = np.random.default_rng(seed)
    chosen = [_one(photos, categories, rng) for categories in (TOPS, ("Pants",), ("Hat",))]
    top, trousers, hat = (relight(cutout.rgba, rng) for _, cutout in chosen)
    stranger = cut_of(photos[int(rng.integers(len(photos)))].path)[0]
    background = make_background(np.zeros((64, 64, 3), np.uint8) if stranger is None else stranger, rng)
    picture = np.asarray(cv2.resize(background, (HEIGHT, HEIGHT))[:, :WIDTH], np.uint8)
    top = _scaled(top, _TOP_PX / top.shape[1])
    waist = _TOP_Y + top.shape[0] - _OVERLAP_PX
    worn = ((_scaled(trousers, _LEGS_PX / trousers.shape[0]), waist), (top, _TOP_Y))
    for garment, y in (*worn, (_scaled(hat, _HEAD_PX / hat.shape[1]), _HAT_Y)):
        layer = _layer(garment, y)
        picture = over(cast_shadow(picture, layer[..., 3], rng), layer)
    return photograph(picture, rng), [photo for photo, _ in chosen]


def _one(
    photos: Sequence[SourcePhoto], categories: Sequence[str], rng: np.random.Generator
) -> tuple[SourcePhoto, Cutout]:
    """A garment of these categories that can be cut out."""
    fitting = [photo for photo in photos if dict(photo.row).get("category") in categories]
    for at in rng.permutation(len(fitting)):
        cutout = cut_of(fitting[at].path)[1]
        if cutout is not None:
            return fitting[at], cutout
    raise DataError(f"no garment of {', '.join(categories)} among {len(photos)} photos could be cut out")


def _scaled(rgba: Pixels, scale: float) -> Pixels:
    """(h, w, 4) at another size."""
    height, width = (max(1, round(side * scale)) for side in rgba.shape[:2])
    return np.asarray(cv2.resize(rgba, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _layer(garment: Pixels, y: int) -> Pixels:
    """(HEIGHT, WIDTH, 4): a garment in the middle, from row y on; what sticks out is cut off."""
    layer = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    part = garment[: HEIGHT - y, :WIDTH]
    x = (WIDTH - part.shape[1]) // 2
    layer[y : y + part.shape[0], x : x + part.shape[1]] = part
    return layer
