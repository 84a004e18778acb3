"""Places behind a handheld query: blurred corners of photos, out-of-focus lights, rough walls, floors in depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from threadmatch.model.synthetic.street.cutout import Pixels

_MUTED: Final = 30.0


def scene(height: int, width: int, rng: np.random.Generator, photos: Sequence[Pixels]) -> Pixels:
    """(height, width, 3) uint8 without a garment to be found in it."""
    kind = rng.random()
    if photos and kind < 0.45:
        ground = _strip(photos[int(rng.integers(len(photos)))], height, width, rng)
    elif kind < 0.65:
        ground = _lights(height, width, rng)
    elif kind < 0.85:
        ground = _floor(height, width, rng)
    else:
        ground = _rough(height, width, rng)
    return np.clip(ground, 0, 255).astype(np.uint8)


def _rough(height: int, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Plaster, concrete, fleece: noise of halving size on one colour."""
    colour = np.clip(rng.uniform(40, 225) + rng.normal(0, _MUTED, 3), 10, 245).astype(np.float32)
    ground = np.zeros((height, width), np.float32)
    for octave in range(2, 7):
        cells = rng.normal(0, 1, (2**octave, 2**octave)).astype(np.float32)
        ground += cv2.resize(cells, (width, height), interpolation=cv2.INTER_LINEAR) * np.float32(0.6**octave)
    return colour + (ground * np.float32(rng.uniform(20, 130)))[..., None]


def _floor(height: int, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Boards or tiles that run away from the camera, a wall above."""
    horizon = rng.uniform(-0.6, 0.45)
    ys = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    xs = np.linspace(-0.5, 0.5, width, dtype=np.float32)[None]
    depth = 1 / np.maximum(ys - np.float32(horizon), 0.03)
    along, across = depth * np.float32(rng.uniform(2, 6)), xs * depth * np.float32(rng.uniform(3, 9))
    tile = (np.floor(along) * 7 + np.floor(across) * 13) % 5 / 5
    gap = ((along % 1) < 0.06) | ((across % 1) < 0.05)
    first = np.clip(rng.uniform(50, 210) + rng.normal(0, _MUTED, 3), 0, 255).astype(np.float32)
    floor = first * (0.85 + np.float32(rng.uniform(0, 0.3)) * tile)[..., None] * np.where(gap, 0.7, 1.0)[..., None]
    wall = _rough(height, width, rng)
    return np.where((ys > horizon)[..., None], floor, wall).astype(np.float32)


def _lights(height: int, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """A street out of focus: bands of colour and discs of light."""
    bands = rng.uniform(20, 200, (int(rng.integers(3, 8)), int(rng.integers(2, 6)), 3)).astype(np.float32)
    grey = bands.mean(axis=2, keepdims=True)
    ground = cv2.resize(grey + (bands - grey) * np.float32(rng.uniform(0.2, 0.9)), (width, height))
    discs = np.zeros_like(ground)
    for _ in range(int(rng.integers(4, 25))):
        at = int(rng.integers(0, width)), int(rng.integers(0, height))
        colour = tuple(float(v) for v in rng.uniform(20, 130, 3))
        cv2.circle(discs, at, int(rng.integers(3, max(4, width // 9))), colour, -1, cv2.LINE_AA)
    return np.asarray(ground + cv2.GaussianBlur(discs, (0, 0), float(rng.uniform(0.8, 4))), np.float32)


def _strip(photo: Pixels, height: int, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """An edge of another photo drawn out over the picture; edges rarely show the garment."""
    h, w = photo.shape[:2]
    deep = rng.uniform(0.1, 0.22)
    if rng.random() < 0.5:
        rows = max(6, round(h * deep))
        part = photo[:rows] if rng.random() < 0.5 else photo[-rows:]
    else:
        columns = max(6, round(w * deep))
        part = photo[:, :columns] if rng.random() < 0.5 else photo[:, -columns:]
    small = cv2.resize(part, (width // 2, height // 2), interpolation=cv2.INTER_LINEAR)
    mirrored = np.hstack([small, small[:, ::-1]])
    drawn = cv2.resize(np.vstack([mirrored, mirrored[::-1]]), (width, height), interpolation=cv2.INTER_LINEAR)
    return cv2.GaussianBlur(drawn, (0, 0), float(rng.uniform(0.5, 3))).astype(np.float32)
