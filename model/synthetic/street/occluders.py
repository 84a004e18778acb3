"""What stands before the garment of a street query: other garments, arms, telephones, bags, bars, plants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from threadmatch.model.synthetic.drawn.covers import COVERS
from threadmatch.model.synthetic.drawn.shading import rasterise
from threadmatch.model.synthetic.garments.dyes import Dice
from threadmatch.model.synthetic.street.cutout import Cutout, Pixels

_SKIN: Final = ((224, 172, 138), (198, 134, 96), (141, 85, 54), (255, 214, 186), (92, 58, 40))
_DRAWN: Final = tuple(COVERS.values())
_DRAWN_PX: Final = 128
_ATTEMPTS: Final = 40


def cover_up(
    garment: Pixels, share: tuple[float, float], rng: np.random.Generator, others: Sequence[Cutout]
) -> Pixels | None:
    """Put things in front of a garment until enough of it is hidden.

    Args:
        garment: (H, W) uint8 alpha of the garment in the picture.
        share: least and most of it to hide, 0..1; a least of 0 mostly hides nothing.
        rng: every choice comes from it.
        others: garments to hide it with.

    Returns:
        (H, W, 4) uint8 RGBA of what stands in front; None where nothing does.
    """
    low, high = share
    if low <= 0 and rng.random() < 0.6:
        return None
    x, y, w, h = cv2.boundingRect((garment > 127).astype(np.uint8))
    if w == 0 or h == 0:
        return None
    area = float(garment.sum(dtype=np.float64))
    cover = np.zeros((*garment.shape, 4), np.uint8)
    hidden, least = 0.0, max(low, 0.01)
    for attempt in range(_ATTEMPTS):
        centre = np.array([x + rng.uniform(0.05, 0.95) * w, y + rng.uniform(0.05, 0.95) * h])
        # Small things cannot hide much; later attempts try other sizes than the first.
        reach = rng.uniform(0.35, 0.75) if low > 0 else rng.uniform(0.08, 0.3)
        reach *= 1 - 0.5 * (attempt / _ATTEMPTS) * rng.random()
        layer = _thing(garment.shape[:2], centre, reach * max(w, h), rng, others)
        trial = np.maximum(cover[..., 3], layer[..., 3])
        hides = float((garment * (trial / 255.0)).sum()) / area
        if hides > high:
            continue
        cover = _stacked(cover, layer)
        hidden = hides
        if hidden >= least:
            break
    return cover if hidden > 0 else None


def over(picture: Pixels, layer: Pixels) -> Pixels:
    """Put a layer on a picture.

    Args:
        picture: (H, W, 3) uint8.
        layer: (H, W, 4) uint8, straight alpha.

    Returns:
        (H, W, 3) uint8.
    """
    x, y, w, h = cv2.boundingRect(layer[..., 3])
    part = slice(y, y + h), slice(x, x + w)
    share = cv2.cvtColor(layer[(*part, 3)], cv2.COLOR_GRAY2RGB).astype(np.uint16)
    mixed = picture.copy()
    mixed[part] = (layer[(*part, slice(3))] * share + picture[part] * (255 - share) + 127) // 255
    return mixed


def _stacked(below: Pixels, above: Pixels) -> Pixels:
    """Two layers as one; (H, W, 4) uint8."""
    x, y, w, h = cv2.boundingRect(above[..., 3])
    part = slice(y, y + h), slice(x, x + w)
    joined, top = below.copy(), above[part]
    mixed = over(np.ascontiguousarray(below[(*part, slice(3))]), top)
    joined[(*part, slice(3))] = np.where(below[(*part, slice(3, 4))] > 0, mixed, top[..., :3])
    joined[(*part, 3)] = np.maximum(below[(*part, 3)], top[..., 3])
    return joined


def _thing(
    size: tuple[int, ...], centre: NDArray[np.float64], reach: float, rng: np.random.Generator, others: Sequence[Cutout]
) -> Pixels:
    """One thing as a layer: (H, W, 4) uint8. `reach` is about its size in pixels."""
    kind = rng.random()
    if others and kind < 0.4:
        other = others[int(rng.integers(len(others)))].rgba
        return _pasted(other, size, centre, 1.2 * reach, float(rng.normal(0, 35)))
    if kind < 0.7:
        dice = Dice(int(rng.integers(2**31)))
        drawn = rasterise(dice.pick(_DRAWN)(dice), (-130.0, -130.0, 260.0, 260.0), size=(_DRAWN_PX, _DRAWN_PX))
        return _pasted(drawn, size, centre, 1.5 * reach, float(rng.normal(0, 25)))
    return _shape(size, centre, reach, rng, others)


def _pasted(rgba: Pixels, size: tuple[int, ...], centre: NDArray[np.float64], side_px: float, angle: float) -> Pixels:
    h, w = rgba.shape[:2]
    scale = side_px / max(h, w)
    if scale < 0.6:  # against aliasing
        rgba = np.asarray(cv2.resize(rgba, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
        (h, w), scale = rgba.shape[:2], 1.0
    matrix = cv2.getRotationMatrix2D((w / 2, h / 2), angle, scale)
    matrix[:, 2] += centre - (w / 2, h / 2)
    return np.asarray(cv2.warpAffine(rgba, matrix, (size[1], size[0]), flags=cv2.INTER_LINEAR), np.uint8)


def _shape(
    size: tuple[int, ...], centre: NDArray[np.float64], reach: float, rng: np.random.Generator, others: Sequence[Cutout]
) -> Pixels:
    """An arm, a bag, a telephone, a bar: a plain outline filled with skin, a colour or another garment's cloth."""
    height, width = size[:2]
    outline = np.zeros((height, width), np.uint8)
    angle, kind = float(rng.uniform(0, 180)), int(rng.integers(0, 3))
    if kind == 0:  # arm, strap, bar
        along = np.array([np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))]) * reach * rng.uniform(1, 2.5)
        ends = [np.rint(centre + sign * along).astype(int).tolist() for sign in (-1, 1)]
        cv2.line(outline, ends[0], ends[1], 255, max(4, int(reach * rng.uniform(0.12, 0.45))), cv2.LINE_AA)
    elif kind == 1:
        axes = (reach * float(rng.uniform(0.8, 1.2)), reach * float(rng.uniform(0.5, 1.1)))
        cv2.ellipse(outline, (centre.tolist(), axes, angle), 255, -1, cv2.LINE_AA)
    else:
        sides = (reach, reach * float(rng.uniform(0.4, 1.2)))
        cv2.fillPoly(outline, [cv2.boxPoints((centre.tolist(), sides, angle)).astype(np.int32)], 255, cv2.LINE_AA)
    if others and rng.random() < 0.45:
        cloth = others[int(rng.integers(len(others)))].rgba
        h, w = cloth.shape[:2]
        middle = np.ascontiguousarray(
            cloth[h // 3 : max(h // 3 + 2, 2 * h // 3), w // 3 : max(w // 3 + 2, 2 * w // 3), :3]
        )
        fill = cv2.resize(middle, (width, height), interpolation=cv2.INTER_LINEAR)
    else:
        skin = _SKIN[int(rng.integers(len(_SKIN)))]
        colour = np.array(skin if kind == 0 and rng.random() < 0.7 else rng.uniform(10, 245, 3))
        light = cv2.resize(
            rng.normal(1, 0.13, (3, 3)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
        )
        fill = np.clip(colour * light[..., None], 0, 255).astype(np.uint8)
    return np.dstack([fill, outline])
