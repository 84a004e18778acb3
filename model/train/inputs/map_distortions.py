"""Distortions of maps that are made anew in every step: what a cached map cannot have from its pixels.

Letters  n images, c channels, h x w the map
"""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor
from torch.nn import functional as F

COVER = (0.10, 0.45)
"""Share of a map that a cover hides."""
ZOOM = (0.55, 1.0)
"""Share of each side that a zoom keeps."""


def distorted(maps: Tensor, rng: np.random.Generator, *, zoomed: float, covered: float) -> Tensor:
    """Zoom into some maps and cover some.

    Args:
        maps: (n, c, h, w) of a front.
        zoomed, covered: share of the maps.

    Returns:
        As many new maps.
    """
    return cover(zoom(maps, zoomed, rng), covered, rng)


def cover(maps: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """Some maps with a rectangle from the next map of the step: new covers every time."""
    count, _, height, width = maps.shape
    out = maps.clone()
    for n in np.flatnonzero(rng.random(count) < share):
        part = rng.uniform(*COVER)
        stretch = math.exp(rng.uniform(-0.7, 0.7))
        rows = min(height, max(1, round(height * math.sqrt(part * stretch))))
        columns = min(width, max(1, round(width * math.sqrt(part / stretch))))
        y, x = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
        out[n, :, y : y + rows, x : x + columns] = maps[(n + 1) % count, :, y : y + rows, x : x + columns]
    return out


def zoom(maps: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """Some maps cut at random sides and stretched to the whole again: a garment that leaves the photo, a tight box."""
    count, _, height, width = maps.shape
    out = maps.clone()
    for n in np.flatnonzero(rng.random(count) < share):
        rows, columns = (max(1, round(side * rng.uniform(*ZOOM))) for side in (height, width))
        y, x = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
        part = maps[n : n + 1, :, y : y + rows, x : x + columns]
        out[n] = F.interpolate(part, size=(height, width), mode="bilinear", align_corners=False)[0]
    return out
