"""Heat as a picture to lay over a photo: clear where it is cold, amber to red where it is hot.

Letters  h x w the model's feature map
"""

from __future__ import annotations

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from threadmatch.model.images import Box

LEVELS: Final = 64  # of heat; few enough that the picture stays small, and more than an eye tells apart
_OPAQUE: Final = 190  # alpha of the hottest place, 0..255: the photo stays visible below
_RAMP: Final = ((0.0, (255, 225, 60)), (0.5, (255, 140, 0)), (1.0, (200, 0, 40)))


def overlay(
    heat: NDArray[np.float32],
    size: tuple[int, int],
    *,
    inside: Box | None = None,
    kept: NDArray[np.float32] | None = None,
) -> bytes:
    """Paint heat as a PNG with transparency.

    The coldest place of the map is clear and the hottest opaque, whatever their values: colours compare places of one
    photo, not photos with each other. A map without any difference is clear.

    Args:
        heat: (h, w), 0 or more.
        size: width and height of the picture, pixels.
        inside: the part of the picture that the map covers, as shares of its sides; None covers all of it. Outside it
            the picture is clear.
        kept: (H, W) 0..1 over the whole picture, 0 where it stays clear whatever the heat; None keeps all.
    """
    width, height = size
    left, top, right, bottom = 0, 0, width, height
    if inside is not None:
        left, top = min(round(inside.x0 * width), width - 1), min(round(inside.y0 * height), height - 1)
        right, bottom = max(left + 1, round(inside.x1 * width)), max(top + 1, round(inside.y1 * height))
    span = float(heat.max() - heat.min())
    level = np.zeros(heat.shape, np.float32) if span <= 0 else (heat - heat.min()) / span
    large = Image.fromarray(level.astype(np.float32)).resize((right - left, bottom - top), Image.Resampling.BICUBIC)
    indices = np.rint(np.clip(np.asarray(large), 0, 1) * (LEVELS - 1)).astype(np.uint8)
    picture = Image.new("P", size, 0)
    picture.paste(Image.fromarray(indices), (left, top))
    if kept is not None:
        shares = np.asarray(Image.fromarray(kept).resize(size, Image.Resampling.BILINEAR))
        picture = Image.fromarray(np.rint(np.asarray(picture) * np.clip(shares, 0, 1)).astype(np.uint8), "P")
    steps = np.linspace(0, 1, LEVELS)
    colours = [np.interp(steps, [at for at, _ in _RAMP], [rgb[channel] for _, rgb in _RAMP]) for channel in range(3)]
    picture.putpalette(np.rint(np.stack(colours, axis=1)).astype(np.uint8).tobytes())
    with io.BytesIO() as file:
        picture.save(file, "PNG", transparency=bytes(np.rint(steps * _OPAQUE).astype(np.uint8)), optimize=True)
        return file.getvalue()
