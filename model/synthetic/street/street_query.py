"""Semi-synthetic street queries: a garment cut out of a real photo, warped, relit, set before another background.

Letters  H x W the picture made, h x w the cutout, h' x w' the warped garment
Paper    setups as in FindFashion (Kuang et al., ICCV 2019, sec. 4): over 30 % cut off, covered, or not from the front
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from threadmatch.model.data.setups import HARD_FRACTION, Setup, StreetQuery
from threadmatch.model.images import Box
from threadmatch.model.synthetic.street.backgrounds import make_background
from threadmatch.model.synthetic.street.cutout import Cutout, Pixels
from threadmatch.model.synthetic.street.occluders import cover_up, over
from threadmatch.model.synthetic.street.relighting import cast_shadow, photograph, relight

__all__ = ["EASY_LOST", "LONG_SIDE_PX", "MOST_LOST", "make_background", "street_query"]

LONG_SIDE_PX: Final = (288, 400)
MOST_LOST: Final = 0.62
"""A hard query keeps at least the rest of its garment."""
EASY_LOST: Final = 0.10
_CLEAR: Final = 0.02
"""A hard query is beyond HARD_FRACTION by this much, so that rounding cannot undo it."""


@dataclass(frozen=True, slots=True)
class _Layer:
    """The warped garment on its own canvas.

    Fields:
        rgba: (h', w', 4) uint8, wearer included.
        garment: (h', w') uint8, alpha of the garment alone; what box and fractions are counted on.
    """

    rgba: Pixels
    garment: Pixels


def street_query(
    cutout: Cutout,
    background: Pixels,
    *,
    setup: Setup,
    rng: np.random.Generator,
    others: Sequence[Cutout] = (),
    may_flip: bool = False,
) -> StreetQuery:
    """Make one query.

    Args:
        cutout: the garment.
        background: (H', W', 3) uint8 RGB, any size, from another photographer.
        setup: what makes it hard.
        rng: every choice comes from it.
        others: garments that may stand in front of this one; without them shapes are drawn.
        may_flip: mirror every second one, as selfies do; texts and one-sided details come out wrong.

    Returns:
        A picture whose long side lies in LONG_SIDE_PX; crop and occlusion are counted on the mask.
    """
    long_side = int(rng.integers(*LONG_SIDE_PX))
    short_side = int(long_side * rng.uniform(0.6, 0.9))
    tall = cutout.rgba.shape[0] > 1.2 * cutout.rgba.shape[1]
    upright = rng.random() < (0.95 if tall else 0.75)
    height, width = (long_side, short_side) if upright else (short_side, long_side)
    layer = _warp(cutout, (height, width), setup, rng, flip=may_flip and rng.random() < 0.5)
    y, x = _place(layer.garment, (height, width), setup, rng)
    whole = max(1.0, float(layer.garment.sum(dtype=np.float64)))
    seen = _window(layer.rgba, y, x, (height, width))
    garment = _window(layer.garment, y, x, (height, width))
    inside = float(garment.sum(dtype=np.float64))
    picture = _fit(background, height, width, rng)
    picture = over(cast_shadow(picture, seen[..., 3], rng), seen)
    cover = cover_up(garment, _hidden_share(setup), rng, others)
    picture = over(cast_shadow(picture, cover[..., 3], rng), cover) if cover is not None else picture
    hidden = 0.0 if cover is None else float((garment * (cover[..., 3] / 255.0)).sum())
    visible = garment > 127 if cover is None else (garment > 127) & (cover[..., 3] < 128)
    return StreetQuery(
        image=photograph(picture, rng),
        box=_box(visible, width, height),
        setup=setup,
        cropped_fraction=min(1.0, max(0.0, 1 - inside / whole)),
        occluded_fraction=min(1.0, hidden / max(inside, 1.0)),
    )


def _hidden_share(setup: Setup) -> tuple[float, float]:
    return (HARD_FRACTION + _CLEAR, MOST_LOST) if setup is Setup.HARD_OCCLUSION else (0.0, EASY_LOST)


def _warp(cutout: Cutout, size: tuple[int, int], setup: Setup, rng: np.random.Generator, *, flip: bool) -> _Layer:
    """Turn, scale, tilt and bend the garment, on a canvas that holds all of it."""
    height, width = size
    rgba = relight(cutout.rgba, rng)
    rgba = np.ascontiguousarray(rgba[:, ::-1]) if flip else rgba
    h, w = rgba.shape[:2]
    corners = _corners((h, w), (height, width), setup, rng)
    half = np.ptp(corners, axis=0) / 2
    bend = rng.uniform(0.005, 0.05) * float(half.mean())
    low = np.floor(corners.min(axis=0) - 2 * bend)
    high = np.ceil(corners.max(axis=0) + 2 * bend)
    canvas_w, canvas_h = (int(v) for v in high - low)
    shrink = min(half[0] * 2 / w, half[1] * 2 / h)
    if shrink < 0.75:  # against aliasing
        factor = max(shrink * 1.2, 8 / min(h, w))
        rgba = np.asarray(cv2.resize(rgba, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)
        h, w = rgba.shape[:2]
    source = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32)
    back = cv2.getPerspectiveTransform((corners - low).astype(np.float32), source)  # canvas to cutout
    xs, ys = np.meshgrid(np.arange(canvas_w, dtype=np.float32), np.arange(canvas_h, dtype=np.float32))
    xs += _smooth_field((canvas_h, canvas_w), bend, rng)
    ys += _smooth_field((canvas_h, canvas_w), bend, rng)
    back = back.astype(np.float32)
    depth = 1 / (back[2, 0] * xs + back[2, 1] * ys + back[2, 2])
    map_x = (back[0, 0] * xs + back[0, 1] * ys + back[0, 2]) * depth
    map_y = (back[1, 0] * xs + back[1, 1] * ys + back[1, 2]) * depth
    warped = np.asarray(cv2.remap(rgba, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT), np.uint8)
    if setup is Setup.HARD_VIEW:
        _shade_side(warped, rng)
    first, last = cutout.garment_rows
    if (first, last) == (0.0, 1.0):
        return _Layer(warped, warped[..., 3])
    rows = (map_y >= first * h) & (map_y < last * h)
    return _Layer(warped, np.where(rows, warped[..., 3], 0).astype(np.uint8))


def _corners(
    cutout: tuple[int, int], picture: tuple[int, int], setup: Setup, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Where the cutout's four corners come to lie, around (0, 0): (4, 2) x and y in pixels of the picture."""
    (h, w), (height, width) = cutout, picture
    fill = rng.uniform(1.0, 1.7) if setup is Setup.HARD_CROPPING else rng.uniform(0.6, 0.97)
    scale = fill * min(height / h, width / w)
    turned = rng.uniform(0.45, 0.72) if setup is Setup.HARD_VIEW else rng.uniform(0.86, 1.0)
    half_w, half_h = w * scale * turned / 2, h * scale * rng.uniform(0.92, 1.06) / 2
    corners = np.array([[-half_w, -half_h], [half_w, -half_h], [half_w, half_h], [-half_w, half_h]])
    if setup is Setup.HARD_VIEW:  # the far side is smaller, as seen from the side
        side = [1, 2] if rng.random() < 0.5 else [0, 3]
        corners[side, 1] *= rng.uniform(0.55, 0.85)
    elif rng.random() < 0.5:  # seen from above or below: a telephone held high or low
        corners[[0, 1] if rng.random() < 0.5 else [2, 3], 0] *= rng.uniform(0.78, 1.0)
    corners += rng.normal(0, 0.02, (4, 2)) * (half_w + half_h)
    shear = rng.normal(0, 0.06)
    corners[:, 0] += shear * corners[:, 1]
    angle = np.deg2rad(rng.normal(0, 10) + (rng.choice([-90, 90]) if rng.random() < 0.04 else 0))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = corners @ turn.T
    if setup is not Setup.HARD_CROPPING:  # turned, it may have outgrown the picture
        corners *= min(1.0, *(0.99 * np.array([width, height]) / np.ptp(corners, axis=0)))
    return np.asarray(corners)


def _smooth_field(size: tuple[int, int], strength: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """(H, W) float32, cubic between a few random values: cloth moves smoothly."""
    height, width = size
    cells = int(rng.integers(3, 7))
    coarse = np.clip(rng.normal(0, strength, (cells, cells)), -2 * strength, 2 * strength).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def _shade_side(rgba: Pixels, rng: np.random.Generator) -> None:
    """The side turned away gets less light."""
    ramp = np.linspace(1.05, rng.uniform(0.5, 0.85), rgba.shape[1], dtype=np.float32)
    ramp = ramp if rng.random() < 0.5 else ramp[::-1]
    rgba[..., :3] = np.clip(rgba[..., :3] * ramp[None, :, None], 0, 255).astype(np.uint8)


def _place(garment: Pixels, size: tuple[int, int], setup: Setup, rng: np.random.Generator) -> tuple[int, int]:
    """Upper left corner (y, x) of the canvas in the picture: moved until as much is cut off as the setup says."""
    height, width = size
    h, w = garment.shape
    table = cv2.integral(garment, sdepth=cv2.CV_64F)
    whole = max(1.0, float(table[-1, -1]))

    def lost(y: int, x: int) -> float:
        top, left = np.clip([-y, -x], 0, [h, w])
        bottom, right = np.clip([height - y, width - x], [top, left], [h, w])
        return float(1 - (table[bottom, right] - table[top, right] - table[bottom, left] + table[top, left]) / whole)

    hard = setup is Setup.HARD_CROPPING
    low, high = (HARD_FRACTION + _CLEAR, MOST_LOST) if hard else (-1.0, EASY_LOST)
    centre_y, centre_x = (height - h) / 2, (width - w) / 2
    free_y, free_x = abs(centre_y) + 0.04 * height, abs(centre_x) + 0.04 * width
    best, best_miss = (round(centre_y), round(centre_x)), np.inf
    for attempt in range(60):
        # A cropped garment mostly leaves at one side; what is left of it stays large in the picture.
        shift_y, shift_x = rng.uniform(-1, 1, 2) * (free_y, free_x)
        if hard:
            reach = rng.uniform(0.1, 0.75) * rng.choice([-1, 1])
            along = rng.random()
            shift_y = reach * height if along < 0.65 else shift_y
            shift_x = reach * width if along > 0.5 else shift_x
        elif attempt > 20:
            shift_y, shift_x = shift_y * 0.5, shift_x * 0.5
        y, x = round(centre_y + shift_y), round(centre_x + shift_x)
        share = lost(y, x)
        miss = max(low - share, share - high, 0.0)
        if miss < best_miss:
            best, best_miss = (y, x), miss
        if miss == 0:
            break
    return best


def _window(canvas: Pixels, y: int, x: int, size: tuple[int, int]) -> Pixels:
    """The picture's part of a canvas that lies at (y, x) in it; zero beside the canvas."""
    height, width = size
    shown = np.zeros((height, width, *canvas.shape[2:]), np.uint8)
    top, left = max(0, y), max(0, x)
    bottom, right = min(height, y + canvas.shape[0]), min(width, x + canvas.shape[1])
    if bottom > top and right > left:
        shown[top:bottom, left:right] = canvas[top - y : bottom - y, left - x : right - x]
    return shown


def _fit(background: Pixels, height: int, width: int, rng: np.random.Generator) -> Pixels:
    """A random part of the background in the picture's size."""
    h, w = background.shape[:2]
    zoom = max(height / h, width / w) * rng.uniform(1.0, 1.4)
    scaled = cv2.resize(background, (max(width, round(w * zoom)), max(height, round(h * zoom))))
    y, x = rng.integers(0, scaled.shape[0] - height + 1), rng.integers(0, scaled.shape[1] - width + 1)
    part = scaled[y : y + height, x : x + width]
    return np.ascontiguousarray(part[:, ::-1] if rng.random() < 0.5 else part)


def _box(visible: NDArray[np.bool_], width: int, height: int) -> Box:
    if not visible.any():
        return Box(0, 0, width, height)
    x, y, w, h = cv2.boundingRect(visible.astype(np.uint8))
    return Box(x, y, x + w, y + h)
