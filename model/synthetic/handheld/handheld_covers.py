"""What hides part of a handheld query: hands, hair, straps, railings, other garments cut to pieces, hard shadows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from threadmatch.model.synthetic.street.cutout import Cutout, Pixels

_SKIN: Final = ((241, 206, 178), (222, 171, 135), (187, 133, 98), (130, 84, 58), (86, 55, 40))
_TRIES: Final = 24


def covered(
    picture: Pixels,
    garment: Pixels,
    share: tuple[float, float],
    rng: np.random.Generator,
    others: Sequence[Cutout],
) -> tuple[Pixels, NDArray[np.float32]]:
    """Put things before the garment until enough of it is hidden.

    Args:
        picture: (H, W, 3) uint8.
        garment: (H, W) uint8 alpha.
        share: least and most of the garment to hide.
        rng: every choice comes from it.
        others: garments whose pieces may hide it.

    Returns:
        The picture, and (H, W) float32 how much of each pixel is hidden.
    """
    hidden = np.zeros(garment.shape, np.float32)
    weight = garment.astype(np.float32)
    total = max(1.0, float(weight.sum()))
    x, y, w, h = cv2.boundingRect((garment > 127).astype(np.uint8))
    if not w or not h:
        return picture, hidden
    for _ in range(_TRIES):
        at = np.array([x + w * rng.uniform(0.05, 0.95), y + h * rng.uniform(0.05, 0.95)])
        reach = max(w, h) * rng.uniform(0.15, 0.5) * min(1.0, 0.25 + 2 * share[1])
        colours, alpha = _thing(garment.shape, at, float(reach), rng, others)
        after = np.maximum(hidden, alpha)
        if float((weight * after).sum()) / total > share[1]:
            continue
        picture = np.asarray(picture * (1 - alpha[..., None]) + colours * alpha[..., None], np.uint8)
        hidden = after
        if float((weight * hidden).sum()) / total >= share[0]:
            break
    return picture, hidden


def _thing(
    size: tuple[int, ...], at: NDArray[np.float64], reach: float, rng: np.random.Generator, others: Sequence[Cutout]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(H, W, 3) colours and (H, W) alpha of one thing."""
    kind = rng.random()
    if others and kind < 0.35:
        return _piece(size, at, 2 * reach, rng, others[int(rng.integers(len(others)))])
    outline = np.zeros(size[:2], np.uint8)
    if kind < 0.6:
        _hand(outline, at, reach, rng)
        colour = np.array(_SKIN[int(rng.integers(len(_SKIN)))], np.float32)
    elif kind < 0.75:
        _hair(outline, at, reach, rng)
        colour = np.float32(rng.uniform(0.2, 1.0)) * np.array([170, 125, 75], np.float32)
    elif kind < 0.88:
        _strap(outline, at, reach, rng)
        colour = rng.uniform(5, 240, 3).astype(np.float32)
    else:
        for step in range(-4, 5):
            left = int(at[0] + step * reach * 0.5)
            cv2.line(outline, (left, 0), (left, size[0]), 255, max(2, int(reach * 0.12)), cv2.LINE_AA)
        colour = np.full(3, rng.uniform(20, 200), np.float32)
    light = cv2.resize(
        rng.normal(1, 0.15, (4, 4)).astype(np.float32), (size[1], size[0]), interpolation=cv2.INTER_CUBIC
    )
    alpha = cv2.GaussianBlur(outline, (0, 0), 0.8).astype(np.float32) / 255
    return np.clip(colour * light[..., None], 0, 255).astype(np.float32), np.asarray(alpha, np.float32)


def _hand(outline: Pixels, at: NDArray[np.float64], reach: float, rng: np.random.Generator) -> None:
    """A palm, four fingers, and the arm it hangs on."""
    angle = rng.uniform(0, 2 * np.pi)
    towards = np.array([np.cos(angle), np.sin(angle)])
    aside = np.array([-towards[1], towards[0]])
    palm = tuple(float(v) for v in at)
    cv2.ellipse(outline, (palm, (reach * 0.8, reach * 0.6), float(np.rad2deg(angle))), 255, -1, cv2.LINE_AA)
    for finger in range(4):
        root = at + towards * reach * 0.3 + aside * reach * (0.16 * finger - 0.24)
        tip = root + towards * reach * rng.uniform(0.4, 0.65) + aside * reach * rng.normal(0, 0.05)
        cv2.line(outline, _whole(root), _whole(tip), 255, max(2, int(reach * 0.13)), cv2.LINE_AA)
    cv2.line(outline, _whole(at), _whole(at - towards * reach * 4), 255, max(3, int(reach * 0.45)), cv2.LINE_AA)


def _hair(outline: Pixels, at: NDArray[np.float64], reach: float, rng: np.random.Generator) -> None:
    """Strands that fall from above."""
    for _ in range(int(rng.integers(15, 50))):
        x = at[0] + rng.normal(0, 0.35 * reach)
        sway = rng.normal(0, 0.2 * reach, 4).cumsum()
        ys = np.linspace(at[1] - 2 * reach, at[1] + reach * rng.uniform(0.2, 1), 4)
        path = np.stack([x + sway, ys], axis=1).astype(np.int32)
        cv2.polylines(outline, [path], False, 255, max(1, int(reach * 0.05)), cv2.LINE_AA)


def _strap(outline: Pixels, at: NDArray[np.float64], reach: float, rng: np.random.Generator) -> None:
    """A strap across, and the bag on it."""
    slope = rng.uniform(0.3, 2) * rng.choice([-1, 1])
    along = np.array([1, slope]) / np.hypot(1, slope) * 5 * reach
    cv2.line(outline, _whole(at - along), _whole(at + along), 255, max(2, int(reach * 0.15)), cv2.LINE_AA)
    corners = cv2.boxPoints((_point(at), (1.1 * reach, 0.8 * reach), float(rng.normal(0, 12))))
    cv2.fillConvexPoly(outline, corners.astype(np.int32), 255, cv2.LINE_AA)


def _piece(
    size: tuple[int, ...], at: NDArray[np.float64], side: float, rng: np.random.Generator, other: Cutout
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A garment of somebody else, cut by a random line, as where two people stand close."""
    rgba = other.rgba
    scale = side / max(rgba.shape[:2])
    small = max(4, round(rgba.shape[1] * scale)), max(4, round(rgba.shape[0] * scale))
    rgba = np.asarray(
        cv2.resize(rgba, small, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR), np.uint8
    )
    turn = np.asarray(cv2.getRotationMatrix2D((small[0] / 2, small[1] / 2), float(rng.normal(0, 25)), 1.0), np.float64)
    turn[:, 2] += at - np.array(small) / 2
    layer = cv2.warpAffine(rgba, turn, (size[1], size[0]))
    ys, xs = np.mgrid[0 : size[0], 0 : size[1]]
    angle = rng.uniform(0, 2 * np.pi)
    kept = (xs - at[0]) * np.cos(angle) + (ys - at[1]) * np.sin(angle) < 0.2 * side
    alpha = np.asarray(layer[..., 3] * kept, np.float32) / np.float32(255)
    return layer[..., :3].astype(np.float32), alpha


def _whole(point: NDArray[np.float64]) -> tuple[int, int]:
    return int(point[0]), int(point[1])


def _point(point: NDArray[np.float64]) -> tuple[float, float]:
    return float(point[0]), float(point[1])
