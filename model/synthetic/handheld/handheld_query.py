"""A second maker of street queries, whose code shares nothing with `street`: what one maker's habits teach, the other
one's queries show to be habit.

Letters  H x W the picture made, h x w the cutout
Paper    setups as in FindFashion (Kuang et al., ICCV 2019, sec. 4)

Where `street` tilts a plane and bends it by noise, here cloth hangs on a body (a cylinder seen from the side), pulled
by a thin-plate spline and creased; light comes from its folds; hands, hair, straps, railings and cut garments stand
before it; and the picture is saved twice, at times photographed off a screen.
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
from threadmatch.model.synthetic.handheld.bent_cloth import bent_sheet
from threadmatch.model.synthetic.handheld.handheld_camera import shot
from threadmatch.model.synthetic.handheld.handheld_covers import covered
from threadmatch.model.synthetic.handheld.handheld_places import scene
from threadmatch.model.synthetic.street.cutout import Cutout, Pixels

LONG_SIDE_PX: Final = (300, 460)
MOST_LOST: Final = 0.6
_TRIES: Final = 30


@dataclass(frozen=True, slots=True)
class _Pose:
    """How a body turns and where the camera stands: yaw and roll in radians, how round, size, how far it tapers."""

    yaw: float
    roll: float
    round: float
    fill: float
    taper: float


def handheld_query(
    cutout: Cutout, *, setup: Setup, rng: np.random.Generator, photos: Sequence[Pixels], others: Sequence[Cutout]
) -> StreetQuery:
    """Make one query.

    Args:
        cutout: the garment.
        setup: what makes it hard.
        rng: every choice comes from it.
        photos: (H', W', 3) uint8 of other people, whose corners may become the place.
        others: cut-outs of other garments, which may hide this one.

    Returns:
        A picture whose long side lies in LONG_SIDE_PX; cropped and occluded shares are counted on the mask.
    """
    long_side = int(rng.integers(*LONG_SIDE_PX))
    short_side = round(long_side * rng.uniform(0.56, 0.8))
    height, width = (long_side, short_side) if rng.random() < 0.8 else (short_side, long_side)
    layer, garment, cropped = _placed(cutout, (height, width), setup, rng)
    picture = scene(height, width, rng, photos)
    picture = _under(picture, layer, rng)
    occluded, visible = 0.0, garment > 127
    if setup is Setup.HARD_OCCLUSION or rng.random() < 0.25:
        least, most = (HARD_FRACTION + 0.02, MOST_LOST) if setup is Setup.HARD_OCCLUSION else (0.02, 0.12)
        picture, hidden = covered(picture, garment, (least, most), rng, others)
        weight = garment.astype(np.float32)
        occluded = float((weight * hidden).sum() / max(1.0, float(weight.sum())))
        visible &= hidden < 0.5
    return StreetQuery(shot(picture, rng), _box_of(visible, rng), setup, cropped, min(1.0, occluded))


def _placed(
    cutout: Cutout, size: tuple[int, int], setup: Setup, rng: np.random.Generator
) -> tuple[Pixels, Pixels, float]:
    """The posed cutout on the picture's canvas: (H, W, 4), (H, W) alpha of the garment alone, the share cut off."""
    rgba = _reduced(cutout.rgba, max(size))
    hard = setup is Setup.HARD_VIEW
    rgba = bent_sheet(
        rgba, rng, strength=rng.uniform(0.015, 0.05 if hard else 0.035), folds=int(rng.integers(1, 6 if hard else 4))
    )
    rows = np.zeros(rgba.shape[:2], np.uint8)
    first, last = (round(share * rgba.shape[0]) for share in cutout.garment_rows)
    rows[first:last] = rgba[first:last, :, 3]
    pose = _pose(setup, rng)
    lost = (HARD_FRACTION + 0.02, MOST_LOST) if setup is Setup.HARD_CROPPING else (0.0, 0.08)
    best: tuple[float, Pixels, Pixels, float] | None = None
    for _ in range(_TRIES):
        shift = rng.uniform(-0.5, 0.5, 2) if setup is Setup.HARD_CROPPING else rng.normal(0, 0.03, 2)
        map_x, map_y, shade, scale = _look((rgba.shape[0], rgba.shape[1]), size, pose, shift)
        inside = cv2.remap(rows, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        cut = 1 - float(inside.sum(dtype=np.float64)) / max(1.0, float(rows.sum(dtype=np.float64)) * scale)
        miss = max(lost[0] - cut, cut - lost[1], 0.0)
        if best is None or miss < best[0]:
            seen = np.array(cv2.remap(rgba, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT), np.uint8)
            seen[..., :3] = np.clip(seen[..., :3] * shade[..., None], 0, 255)
            best = (miss, seen, np.asarray(inside, np.uint8), cut)
        if miss == 0:
            break
    assert best is not None
    return best[1], best[2], min(1.0, max(0.0, best[3]))


def _pose(setup: Setup, rng: np.random.Generator) -> _Pose:
    yaw = rng.uniform(0.6, 0.95) if setup is Setup.HARD_VIEW else rng.uniform(0.0, 0.3)
    fill = rng.uniform(1.0, 1.5) if setup is Setup.HARD_CROPPING else rng.uniform(0.6, 0.92)
    return _Pose(
        yaw=float(yaw * rng.choice([-1, 1])),
        roll=float(rng.normal(0, 0.12)),
        round=float(rng.uniform(0.3, 1.1)),
        fill=float(fill),
        taper=float(rng.normal(0, 0.1)),
    )


def _look(
    cloth: tuple[int, int], size: tuple[int, int], pose: _Pose, shift: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], float]:
    """Where each pixel of the picture looks at the cloth, which hangs on a turned cylinder.

    A point at angle a from the middle of the cloth is seen at sin(a + yaw); what turns away gets less light.

    Returns:
        (H, W) x and y in pixels of the cloth, (H, W) light, and pixels of the picture a pixel of the cloth covers.
    """
    (h, w), (height, width) = cloth, size
    half = pose.round  # the cloth spans -half .. half radians
    left, right = np.sin(np.clip(np.array([-half, half]) + pose.yaw, -np.pi / 2, np.pi / 2))
    aspect = w / h * (right - left) / (2 * half)  # of what is seen
    tall = pose.fill * min(height, width / max(aspect, 1e-3))
    wide = tall * aspect
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    xs, ys = xs - np.float32((0.5 + shift[0]) * width), ys - np.float32((0.5 + shift[1]) * height)
    cos, sin = np.float32(np.cos(pose.roll)), np.float32(np.sin(pose.roll))
    u, v = (cos * xs + sin * ys) / np.float32(wide), (-sin * xs + cos * ys) / np.float32(tall)
    u = u / (1 + np.float32(pose.taper) * 2 * v)
    seen = np.float32((left + right) / 2) + u * np.float32(right - left)
    angle = np.arcsin(np.clip(seen, -0.999, 0.999)) - np.float32(pose.yaw)
    map_x = (angle / np.float32(2 * half) + 0.5) * (w - 1)
    map_x = np.where((np.abs(seen) < 0.999) & (np.abs(u) <= 0.5), map_x, -10)
    map_y = (v + 0.5) * (h - 1)
    shade = 0.55 + 0.5 * np.cos(np.arcsin(np.clip(seen * 0.9, -1, 1)))
    return map_x.astype(np.float32), map_y.astype(np.float32), shade.astype(np.float32), float(wide * tall / (w * h))


def _reduced(rgba: Pixels, side: int) -> Pixels:
    factor = 1.2 * side / max(rgba.shape[:2])
    if factor >= 1:
        return rgba
    size = max(8, round(rgba.shape[1] * factor)), max(8, round(rgba.shape[0] * factor))
    return np.asarray(cv2.resize(rgba, size, interpolation=cv2.INTER_AREA), np.uint8)


def _under(picture: Pixels, layer: Pixels, rng: np.random.Generator) -> Pixels:
    """The layer on the picture, with what it keeps the light from behind it."""
    alpha = layer[..., 3].astype(np.float32) / 255
    dark = cv2.GaussianBlur(alpha, (0, 0), float(rng.uniform(4, 14)))
    dark = np.roll(dark, rng.integers(-8, 9, 2), axis=(0, 1))
    ground = picture * (1 - np.float32(rng.uniform(0, 0.4)) * dark)[..., None]
    return np.asarray(ground * (1 - alpha[..., None]) + layer[..., :3] * alpha[..., None], np.uint8)


def _box_of(visible: NDArray[np.bool_], rng: np.random.Generator) -> Box:
    """Around what is seen, not quite exact: people draw boxes by hand."""
    height, width = visible.shape
    if not visible.any():
        return Box(0, 0, width, height)
    x, y, w, h = cv2.boundingRect(visible.astype(np.uint8))
    reach = rng.uniform(-0.03, 0.1, 4) * (w, h, w, h)
    return Box(x - reach[0], y - reach[1], x + w + reach[2], y + h + reach[3]).clipped(width, height)
