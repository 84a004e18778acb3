"""One photo taken again: the cloth moved, something before it, another light, another camera, perhaps off a screen.

What `street` does to a garment is mild, so that the garment stays easy to name; this is wide on purpose (domain
randomisation, Tobin et al., IROS 2017), for features that are to hold on photos of whatever kind. Every choice comes
from a generator, every strength from a range.

Letters  H x W the photo
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from threadmatch.model.images import Box
from threadmatch.model.synthetic.street.cutout import Pixels

LONG_SIDE_PX: Final = 352
"""Of what is made; the network sees 224."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strength:
    """How far a photo may differ from what it was; shares are of photos.

    Fields:
        bend: largest displacement of the cloth, as a share of the side.
        tilt: largest displacement of a corner, as a share of the side.
        covered: share in which something stands before the garment.
        cast: deviation of the logarithm of each channel's gain.
        gamma: deviation of the logarithm of the exponent.
        screen: share that was photographed off a screen.
        blur_px: largest reach of shake and of defocus.
        quality: JPEG's, from and to.
    """

    bend: float
    tilt: float
    covered: float
    cast: float
    gamma: float
    screen: float
    blur_px: float
    quality: tuple[int, int]


QUERY: Final = Strength(
    bend=0.045, tilt=0.09, covered=0.4, cast=0.13, gamma=0.28, screen=0.1, blur_px=9.0, quality=(25, 90)
)
ITEM: Final = Strength(
    bend=0.03, tilt=0.04, covered=0.0, cast=0.04, gamma=0.12, screen=0.0, blur_px=2.5, quality=(55, 95)
)
"""A shop's photo is clean; that its folds lie elsewhere teaches that folds do not name a garment."""

COVER: Final = (0.08, 0.5)
"""Share of the box that a cover takes."""


def retake(
    photo: Pixels, box: Box | None, *, strength: Strength, rng: np.random.Generator, others: Sequence[Pixels] = ()
) -> tuple[Pixels, Box | None]:
    """Take a photo again.

    Args:
        photo: (H, W, 3) uint8 RGB.
        box: of the garment; None for the whole photo.
        strength: how far it may differ.
        rng: every choice comes from it.
        others: photos whose parts may stand in front; without them covers are of one colour.

    Returns:
        A photo whose long side is LONG_SIDE_PX at most, and where the box came to lie.
    """
    shot, box = _small(photo, box)
    shot, box = _moved(shot, box, strength, rng)
    if rng.random() < strength.covered:
        shot = _covered(shot, box, rng, others)
    shot = _lit(shot, strength, rng)
    if rng.random() < strength.screen:
        shot = _off_screen(shot, rng)
    return _through_camera(shot, strength, rng), box


def _small(photo: Pixels, box: Box | None) -> tuple[Pixels, Box | None]:
    scale = LONG_SIDE_PX / max(photo.shape[:2])
    if scale >= 1:
        return photo, box
    small = np.asarray(cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    return small, box and Box(box.x0 * scale, box.y0 * scale, box.x1 * scale, box.y1 * scale)


def _moved(photo: Pixels, box: Box | None, strength: Strength, rng: np.random.Generator) -> tuple[Pixels, Box | None]:
    """Tilted and bent. Where the cloth is pushed together it is darker: a fold has a shaded side."""
    height, width = photo.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    shifted = corners + rng.uniform(-strength.tilt, strength.tilt, (4, 2)).astype(np.float32) * (width, height)
    back = cv2.getPerspectiveTransform(shifted.astype(np.float32), corners).astype(np.float32)
    xs, ys = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    depth = back[2, 0] * xs + back[2, 1] * ys + back[2, 2]
    map_x = (back[0, 0] * xs + back[0, 1] * ys + back[0, 2]) / depth
    map_y = (back[1, 0] * xs + back[1, 1] * ys + back[1, 2]) / depth
    reach = rng.uniform(0, strength.bend) * max(height, width)
    bend_x, bend_y = (_field((height, width), reach, rng) for _ in range(2))
    moved = cv2.remap(photo, map_x + bend_x, map_y + bend_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    pushed = np.gradient(bend_x, axis=1) + np.gradient(bend_y, axis=0)
    shade = np.clip(1 - rng.uniform(0, 1.2) * pushed, 0.55, 1.4).astype(np.float32)
    out = np.asarray(cv2.multiply(moved, cv2.merge([shade] * 3), dtype=cv2.CV_8U), np.uint8)
    if box is None:
        return out, None
    inside = np.zeros((height, width), np.uint8)
    inside[round(box.y0) : round(box.y1), round(box.x0) : round(box.x1)] = 255
    inside = np.asarray(cv2.remap(inside, map_x + bend_x, map_y + bend_y, cv2.INTER_NEAREST), np.uint8)
    x, y, w, h = cv2.boundingRect(inside)
    return (out, Box(x, y, x + w, y + h)) if w > 8 and h > 8 else (photo, box)


def _field(size: tuple[int, int], reach: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """(H, W) float32: what a thin sheet does between a few points that are pushed, some of it in narrow folds."""
    height, width = size
    cells = int(rng.integers(3, 9))
    coarse = np.clip(rng.normal(0, reach / 2, (cells, cells)), -reach, reach).astype(np.float32)
    field = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)
    if rng.random() < 0.5:
        angle, waves = rng.uniform(0, np.pi), rng.uniform(4, 14)
        ys, xs = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j].astype(np.float32)
        along = np.cos(angle) * xs + np.sin(angle) * ys
        field += np.float32(reach / waves) * np.sin(2 * np.pi * waves * along + field / max(reach, 1e-3))
    return field


def _covered(photo: Pixels, box: Box | None, rng: np.random.Generator, others: Sequence[Pixels]) -> Pixels:
    """A soft-edged patch before the garment: an arm's strip, a bag's blob, a half of the photo."""
    height, width = photo.shape[:2]
    x0, y0, x1, y1 = (box.x0, box.y0, box.x1, box.y1) if box is not None else (0.0, 0.0, float(width), float(height))
    share, stretch = rng.uniform(*COVER), np.exp(rng.uniform(-1.2, 1.2))
    half_w = 0.5 * (x1 - x0) * np.sqrt(share * stretch)
    half_h = 0.5 * (y1 - y0) * np.sqrt(share / stretch)
    centre = (rng.uniform(x0, x1), rng.uniform(y0, y1))
    mask = np.zeros((height, width), np.uint8)
    count = int(rng.integers(4, 12))
    angles = np.sort(rng.uniform(0, 2 * np.pi, count)) + rng.uniform(0, np.pi)
    radius = rng.uniform(0.7, 1.5, count)
    turn = rng.uniform(0, np.pi)
    points = np.stack([half_w * radius * np.cos(angles), half_h * radius * np.sin(angles)], axis=1)
    points = points @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) + centre
    cv2.fillPoly(mask, [np.rint(points).astype(np.int32)], 255)
    soft = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.6, 2.5)).astype(np.float32)[..., None] / 255
    if others and rng.random() < 0.75:
        other = others[int(rng.integers(len(others)))]
        front = np.asarray(cv2.resize(other, (width, height), interpolation=cv2.INTER_AREA), np.float32)
    else:
        front = np.broadcast_to(rng.uniform(0, 255, 3).astype(np.float32), photo.shape)
    return np.asarray(np.clip(photo * (1 - soft) + front * soft, 0, 255), np.uint8)


def _lit(photo: Pixels, strength: Strength, rng: np.random.Generator) -> Pixels:
    """Gains of the channels in linear light, exposure, contrast, saturation, and light that falls from one side."""
    height, width = photo.shape[:2]
    level = np.linspace(0, 1, 256, dtype=np.float32) ** 2.2
    gains = np.exp(rng.normal(0, strength.cast, 3)) * np.exp(rng.normal(0, 2 * strength.cast))
    exponent = np.exp(rng.normal(0, strength.gamma)) / 2.2
    lifted = rng.uniform(0, strength.cast)
    table = np.clip(level[:, None] * gains.astype(np.float32), 0, 1) ** np.float32(exponent) * (1 - lifted) + lifted
    lit = np.asarray(cv2.LUT(photo, (255 * table).astype(np.uint8)[:, None]), np.uint8)
    grey = cv2.cvtColor(cv2.cvtColor(lit, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    colour = np.exp(rng.normal(0, 2 * strength.cast))
    lit = np.asarray(cv2.addWeighted(lit, colour, grey, 1 - colour, 0), np.uint8)
    if rng.random() < 0.5:
        coarse = np.exp(rng.normal(0, 2 * strength.cast, (3, 3))).astype(np.float32)
        fall = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)
        lit = np.asarray(cv2.multiply(lit, cv2.merge([np.clip(fall, 0.3, 1.8)] * 3), dtype=cv2.CV_8U), np.uint8)
    return lit


def _off_screen(photo: Pixels, rng: np.random.Generator) -> Pixels:
    """Photographed off a screen: its stripes meet the camera's, blacks are lifted, a lamp is seen in the glass."""
    height, width = photo.shape[:2]
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    angle, period = rng.uniform(-0.3, 0.3), rng.uniform(2.1, 7.0)
    along = np.cos(angle) * xs + np.sin(angle) * ys
    phase = np.array([0.0, 2.1, 4.2], np.float32)
    stripes = 1 + np.float32(rng.uniform(0.02, 0.1)) * np.sin(2 * np.pi * along[..., None] / period + phase)
    glass = rng.uniform(0, 30)
    lamp = np.hypot(xs - rng.uniform(0, width), ys - rng.uniform(0, height)) / (rng.uniform(0.1, 0.4) * width)
    shine = rng.uniform(0, 90) * np.exp(-(lamp**2))
    return np.asarray(np.clip(photo * stripes * (1 - glass / 255) + glass + shine[..., None], 0, 255), np.uint8)


def _through_camera(photo: Pixels, strength: Strength, rng: np.random.Generator) -> Pixels:
    """Shake or defocus, few pixels, noise, and JPEG twice with another size between, as messengers do."""
    kind = rng.random()
    reach = rng.uniform(0.3, 1) * strength.blur_px
    if kind < 0.25:
        photo = np.asarray(cv2.filter2D(photo, -1, _shake(reach, rng)), np.uint8)
    elif kind < 0.45:
        photo = np.asarray(cv2.GaussianBlur(photo, (0, 0), max(0.3, reach / 4)), np.uint8)
    height, width = photo.shape[:2]
    for turn in range(2):
        if rng.random() < 0.6:
            noise = rng.normal(0, rng.uniform(0, 0.9 * strength.blur_px), photo.shape)
            photo = np.asarray(np.clip(photo + noise, 0, 255), np.uint8)
        size = (width, height)
        if turn == 0 and rng.random() < 0.5:
            scale = rng.uniform(0.35 if strength.blur_px > 5 else 0.6, 1.0)
            size = (max(32, round(width * scale)), max(32, round(height * scale)))
        photo = np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.uint8)
        _, encoded = cv2.imencode(
            ".jpg", photo[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(*strength.quality))]
        )
        decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
        assert decoded is not None, "OpenCV reads what it wrote"
        photo = np.ascontiguousarray(decoded[..., ::-1], np.uint8)
    return photo


def _shake(length: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """A kernel of a hand that moved along a line."""
    side = max(3, round(length) | 1)
    kernel = np.zeros((side, side), np.float32)
    angle = rng.uniform(0, np.pi)
    middle = side // 2
    dx, dy = middle * np.cos(angle), middle * np.sin(angle)
    start, end = (round(middle - dx), round(middle - dy)), (round(middle + dx), round(middle + dy))
    cv2.line(kernel, start, end, 1.0)
    return np.asarray(kernel / kernel.sum(), np.float32)
