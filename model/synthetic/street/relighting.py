"""Light and camera of street queries: what lamps, folds, shadows and telephones do to a picture."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from threadmatch.model.synthetic.street.cutout import Pixels


def relight(rgba: Pixels, rng: np.random.Generator) -> Pixels:
    """Light on the garment alone: gain, gamma, colour temperature, fold-like shading, a gradient.

    Args:
        rgba: (h, w, 4) uint8.
        rng: every choice comes from it.

    Returns:
        The same shape; alpha is untouched. Hue moves little, since the garment must stay recognisable.
    """
    levels = np.linspace(0, 1, 256, dtype=np.float32) ** rng.uniform(0.75, 1.35) * rng.uniform(0.72, 1.2)
    warmth, tint = rng.normal(0, 0.05), rng.normal(0, 0.015)
    gains = np.array([1 + warmth, 1 + tint, 1 - warmth], np.float32)
    table = np.clip(levels[:, None] * gains * 255, 0, 255).astype(np.uint8)
    table = np.concatenate([table, np.arange(256, dtype=np.uint8)[:, None]], axis=1)  # (256, 4); alpha stays
    lit = np.asarray(cv2.LUT(rgba, table[:, None]), np.uint8)
    height, width = rgba.shape[:2]
    cells = int(rng.integers(3, 9))
    shade = rng.normal(0, rng.uniform(0, 0.12), (cells, cells)).astype(np.float32)
    ramp = np.linspace(-1, 1, cells, dtype=np.float32) * np.float32(rng.normal(0, 0.1))
    shade += ramp[:, None] if rng.random() < 0.6 else ramp[None]
    folds = np.asarray(cv2.resize(shade, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)
    lit[..., :3] = _scaled(lit[..., :3], np.clip(1 + folds, 0.45, 1.5))
    return lit


def cast_shadow(picture: Pixels, alpha: Pixels, rng: np.random.Generator) -> Pixels:
    """Darken the picture around a layer that is about to be put on it.

    Args:
        picture: (H, W, 3) uint8.
        alpha: (H, W) uint8 of the layer.
        rng: every choice comes from it.
    """
    height, width = alpha.shape
    small = cv2.resize(alpha, (max(1, width // 4), max(1, height // 4)), interpolation=cv2.INTER_AREA)
    dy, dx = rng.uniform(-2.5, 2.5, 2)
    moved = cv2.warpAffine(small, np.array([[1, 0, dx], [0, 1, dy]], np.float32), (small.shape[1], small.shape[0]))
    soft = cv2.GaussianBlur(moved, (0, 0), rng.uniform(0.8, 4)).astype(np.float32)
    dark = 1 - rng.uniform(0.1, 0.55) / 255 * cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR)
    return _scaled(picture, dark)


def photograph(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """What the telephone adds: exposure, white balance, contrast, a shadow, blur, noise, few pixels, JPEG.

    Args:
        picture: (H, W, 3) uint8 RGB.
        rng: every choice comes from it.
    """
    gains = (rng.uniform(0.78, 1.2) * (1 + rng.normal(0, 0.035, 3))).astype(np.float32)
    levels = np.arange(256, dtype=np.float32)[:, None] * gains
    levels = (levels - 127) * np.float32(rng.uniform(0.82, 1.18)) + np.float32(127 + rng.normal(0, 7))
    if rng.random() < 0.3:  # less or more colour
        picture = _saturated(picture, rng.uniform(0.6, 1.3))
    shot = np.asarray(cv2.LUT(picture, np.clip(levels, 0, 255).astype(np.uint8)[:, None]), np.uint8)
    if rng.random() < 0.5:
        shot = _scaled(shot, _light(shot.shape[:2], rng))
    shot = _blurred(shot, rng)
    if rng.random() < 0.6:
        shot = _noisy(shot, rng.uniform(1, 9), rng)
    _, encoded = cv2.imencode(".jpg", shot[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 96))])
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert decoded is not None, "OpenCV reads what it wrote"
    return np.ascontiguousarray(decoded[..., ::-1], np.uint8)


def _scaled(rgb: Pixels, factor: NDArray[np.float32]) -> Pixels:
    """(H, W, 3) uint8 times (H, W), saturating."""
    return np.asarray(cv2.multiply(rgb, cv2.merge([factor] * 3), dtype=cv2.CV_8U), np.uint8)


def _saturated(rgb: Pixels, amount: float) -> Pixels:
    grey = cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return np.asarray(cv2.addWeighted(rgb, amount, grey, 1 - amount, 0), np.uint8)


def _light(size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """(H, W) float32 around 1: a lamp to one side, or the edge of a shadow across the picture."""
    height, width = size
    angle = rng.uniform(0, 2 * np.pi)
    ys, xs = np.mgrid[-1:1:24j, -1:1:24j].astype(np.float32)
    along = np.cos(angle) * xs + np.sin(angle) * ys
    if rng.random() < 0.5:
        light = 1 + rng.uniform(0, 0.35) * along
    else:
        light = 1 - rng.uniform(0.1, 0.45) / (1 + np.exp(-rng.uniform(3, 20) * (along - rng.uniform(-0.6, 0.6))))
    return np.asarray(cv2.resize(light.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _blurred(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    """Out of focus, shaken, of few pixels, or sharp."""
    kind = rng.random()
    if kind < 0.35:
        return np.asarray(cv2.GaussianBlur(rgb, (0, 0), rng.uniform(0.3, 1.4)), np.uint8)
    if kind < 0.5:
        length = int(rng.integers(3, 8))
        kernel = np.zeros((length, length), np.float32)
        reach = (length - 1) / 2 * np.array([np.cos(a := rng.uniform(0, np.pi)), np.sin(a)])
        start, end = np.rint((length - 1) / 2 - reach).astype(int), np.rint((length - 1) / 2 + reach).astype(int)
        cv2.line(kernel, start.tolist(), end.tolist(), 1.0)
        return np.asarray(cv2.filter2D(rgb, -1, kernel / kernel.sum()), np.uint8)
    if kind < 0.65:
        height, width = rgb.shape[:2]
        factor = rng.uniform(0.45, 0.9)
        small = cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    return rgb


def _noisy(rgb: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Sensor noise, `strength` its standard deviation in levels; one tile four times, which is cheap and not seen."""
    height, width = rgb.shape[:2]
    tile = (rng.standard_normal((height // 2 + 1, width // 2 + 1, 3), dtype=np.float32) * strength).astype(np.int16)
    grain = np.tile(tile, (2, 2, 1))[:height, :width]
    return np.asarray(cv2.add(rgb, grain, dtype=cv2.CV_8U), np.uint8)
