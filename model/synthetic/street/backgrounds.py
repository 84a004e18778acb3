"""Backgrounds of street queries: corners of strangers' photos, drawn surfaces, drawn places. Never a garment."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from threadmatch.model.synthetic.drawn.places import FRAME, LYING_PLACES, STANDING_PLACES
from threadmatch.model.synthetic.drawn.shading import rasterise
from threadmatch.model.synthetic.garments.dyes import Dice
from threadmatch.model.synthetic.street.cutout import Pixels

SIZE_PX: Final = 320
_DRAWERS: Final = (*STANDING_PLACES.values(), *LYING_PLACES.values(), *LYING_PLACES.values())


def make_background(photo: Pixels, rng: np.random.Generator) -> Pixels:
    """A place without a garment.

    Args:
        photo: (H, W, 3) uint8 RGB, of another photographer than the garment's; its corners may be used.
        rng: every choice comes from it.

    Returns:
        (SIZE_PX, SIZE_PX, 3) uint8 RGB.
    """
    kind = rng.random()
    if kind < 0.5:
        surface = _corner(photo, rng)
    elif kind < 0.75:
        surface = _surface(rng)
    else:
        surface = _place(rng)
    for _ in range(int(rng.integers(0, 4)) if kind < 0.75 else 0):
        _clutter(surface, rng)
    if rng.random() < 0.4:
        surface = np.asarray(cv2.GaussianBlur(surface, (0, 0), rng.uniform(0.6, 4)), np.uint8)
    return surface


def _corner(photo: Pixels, rng: np.random.Generator) -> Pixels:
    """One corner of the photo, the calmest of two, drawn large; small garments leave corners free."""
    height, width = photo.shape[:2]
    h, w = max(8, int(height * rng.uniform(0.1, 0.26))), max(8, int(width * rng.uniform(0.1, 0.26)))
    corners = [photo[y : y + h, x : x + w] for y in (0, height - h) for x in (0, width - w)]
    first, second = rng.permutation(4)[:2]
    corner = min((corners[first], corners[second]), key=lambda part: float(part.std(axis=(0, 1)).sum()))
    repeats = int(rng.integers(1, 3))
    if repeats > 1:  # mirrored outwards, so that no seam shows
        corner = np.hstack([corner, corner[:, ::-1]])
        corner = np.vstack([corner, corner[::-1]])
    surface = cv2.resize(corner, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_CUBIC)
    return np.asarray(_grained(surface.astype(np.float32), rng.uniform(0, 6), rng), np.uint8)


def _surface(rng: np.random.Generator) -> Pixels:
    """A wall, a floor, a cloth: a colour with light across it, grain of several sizes, boards, tiles or checks."""
    base = _muted(rng)
    ramp = np.linspace(-1, 1, SIZE_PX, dtype=np.float32)
    surface = np.empty((SIZE_PX, SIZE_PX, 3), np.float32)
    surface[:] = base
    surface += (ramp[:, None] * rng.uniform(-35, 35) + ramp[None] * rng.uniform(-35, 35))[..., None]
    for cells in (6, 24, 90):
        coarse = rng.normal(0, rng.uniform(0, 9), (cells, cells)).astype(np.float32)
        surface += cv2.resize(coarse, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_CUBIC)[..., None]
    if rng.random() < 0.5:
        _pattern(surface, rng)
    turned = cv2.warpAffine(
        surface,
        cv2.getRotationMatrix2D((SIZE_PX / 2, SIZE_PX / 2), rng.uniform(-25, 25), rng.uniform(1.0, 1.6)),
        (SIZE_PX, SIZE_PX),
        borderMode=cv2.BORDER_REFLECT,
    )
    return _grained(np.asarray(turned, np.float32), rng.uniform(0, 5), rng)


def _pattern(surface: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Stripes one way or both, or joints between tiles; in place."""
    at = np.arange(SIZE_PX)
    period, depth = int(rng.integers(10, 90)), rng.uniform(-40, 40)
    if rng.random() < 0.5:
        across, down = ((at // period) % 2) * depth, ((at // int(rng.integers(10, 90))) % 2) * depth
    else:
        across, down = (at % period < 3) * -abs(depth), (at % int(rng.integers(20, 160)) < 3) * -abs(depth)
    if (ways := rng.random()) < 0.7:
        surface += across[None, :, None].astype(np.float32)
    if ways > 0.4:
        surface += down[:, None, None].astype(np.float32)


def _place(rng: np.random.Generator) -> Pixels:
    """A drawn room, street, shop, park or floor, in other light."""
    dice = Dice(int(rng.integers(2**31)))
    drawn = rasterise(dice.pick(_DRAWERS)(dice), (0.0, 0.0, *FRAME), size=(SIZE_PX, SIZE_PX))
    lit = drawn[..., :3].astype(np.float32) * rng.uniform(0.6, 1.15, 3).mean(keepdims=True)
    return _grained(lit.astype(np.float32), rng.uniform(0, 6), rng)


def _grained(surface: NDArray[np.float32], strength: float, rng: np.random.Generator) -> Pixels:
    grain = rng.standard_normal((SIZE_PX, SIZE_PX), dtype=np.float32) * np.float32(strength)
    return np.asarray(np.clip(surface + grain[..., None], 0, 255), np.uint8)


def _muted(rng: np.random.Generator) -> NDArray[np.float64]:
    """(3,) float: rooms and streets are mostly near grey, now and then of a strong colour."""
    grey = rng.uniform(35, 230)
    return np.asarray(np.clip(grey + rng.normal(0, 12 if rng.random() < 0.75 else 55, 3), 0, 255))


def _clutter(surface: Pixels, rng: np.random.Generator) -> None:
    """A thing on the surface, with its shadow; in place."""
    colour = tuple(int(v) for v in _muted(rng))
    centre = tuple(float(v) for v in rng.uniform(-20, SIZE_PX + 20, 2))
    size = tuple(float(v) for v in rng.uniform(14, 150, 2))
    angle, kind = float(rng.uniform(0, 180)), int(rng.integers(0, 3))
    for shift, shade in ((4.0, None), (0.0, colour)):
        ink = shade or tuple(int(v * 0.6) for v in surface.reshape(-1, 3)[:: SIZE_PX + 7].mean(axis=0))
        at = (centre[0] + shift, centre[1] + shift)
        if kind == 0:
            cv2.fillPoly(surface, [cv2.boxPoints((at, size, angle)).astype(np.int32)], ink, cv2.LINE_AA)
        elif kind == 1:
            cv2.ellipse(surface, (at, size, angle), ink, -1, cv2.LINE_AA)
        else:
            reach = np.array([np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))]) * size[0]
            ends = [np.rint(np.array(at) + sign * reach).astype(int).tolist() for sign in (-1, 1)]
            cv2.line(surface, ends[0], ends[1], ink, max(2, int(size[1] / 10)), cv2.LINE_AA)
