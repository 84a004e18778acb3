"""Cloth bent on a picture of it: a thin-plate spline through a few moved points, and sharp folds that cast shade.

Letters  h x w the sheet, k control points
Paper    Bookstein, PAMI 1989 (thin-plate splines): f(p) = a + A p + sum_i w_i U(|p - c_i|),  U(r) = r^2 log r^2
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from threadmatch.model.synthetic.street.cutout import Pixels

_GRID_PX: Final = 24
"""The spline is evaluated on so many points a side and drawn out smoothly between."""
_STIFFNESS: Final = 1e-3

Points = NDArray[np.float64]


def plate(controls: Points, values: Points, at: Points) -> Points:
    """The thin-plate spline through given values.

    Args:
        controls: (k, 2) points.
        values: (k, v) what it takes there.
        at: (n, 2) where it is asked.

    Returns:
        (n, v).
    """
    k = len(controls)
    plane = np.hstack([np.ones((k, 1)), controls])  # (k, 3)
    system = np.zeros((k + 3, k + 3))
    system[:k, :k] = _bump(controls, controls) + _STIFFNESS * np.eye(k)
    system[:k, k:], system[k:, :k] = plane, plane.T
    weights = np.linalg.solve(system, np.vstack([values, np.zeros((3, values.shape[1]))]))
    return np.asarray(_bump(at, controls) @ weights[:k] + np.hstack([np.ones((len(at), 1)), at]) @ weights[k:])


def _bump(a: Points, b: Points) -> Points:
    squared = ((a[:, None] - b[None]) ** 2).sum(-1)
    return np.asarray(squared * np.log(np.maximum(squared, 1e-12)))


def bent_sheet(rgba: Pixels, rng: np.random.Generator, *, strength: float, folds: int) -> Pixels:
    """A sheet pulled here and there, with folds across it.

    Args:
        rgba: (h, w, 4) uint8.
        rng: every choice comes from it.
        strength: how far points move, as a share of the sheet's side.
        folds: how many creases.

    Returns:
        The same shape.
    """
    h, w = rgba.shape[:2]
    side = int(rng.integers(3, 6))
    controls = np.stack(np.meshgrid(np.linspace(0, 1, side), np.linspace(0, 1, side)), -1).reshape(-1, 2)
    moved = rng.normal(0, strength, controls.shape).clip(-2 * strength, 2 * strength)
    grid = np.stack(np.meshgrid(np.linspace(0, 1, _GRID_PX), np.linspace(0, 1, _GRID_PX)), -1)
    shift = plate(controls, moved, grid.reshape(-1, 2)).reshape(_GRID_PX, _GRID_PX, 2).astype(np.float32)
    shift = np.asarray(cv2.resize(shift, (w, h), interpolation=cv2.INTER_CUBIC), np.float32)
    ys, xs = np.mgrid[0 : 1 : h * 1j, 0 : 1 : w * 1j].astype(np.float32)
    light = np.ones((h, w), np.float32)
    for _ in range(folds):
        away, shade = _fold(xs, ys, rng)
        shift += away
        light *= shade
    map_x, map_y = (xs + shift[..., 0]) * (w - 1), (ys + shift[..., 1]) * (h - 1)
    bent = np.array(cv2.remap(rgba, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT), np.uint8)
    bent[..., :3] = np.clip(bent[..., :3] * light[..., None], 0, 255).astype(np.uint8)
    return bent


def _fold(
    xs: NDArray[np.float32], ys: NDArray[np.float32], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """One crease: cloth on both sides is drawn towards it, and its slope takes or loses light.

    Returns:
        (h, w, 2) shift as shares of the sides, (h, w) factor of the light.
    """
    angle, offset = rng.uniform(0, np.pi), rng.uniform(-0.35, 0.35)
    normal = np.array([np.cos(angle), np.sin(angle)], np.float32)
    across = (xs - 0.5) * normal[0] + (ys - 0.5) * normal[1] - np.float32(offset)
    along = -(xs - 0.5) * normal[1] + (ys - 0.5) * normal[0]
    width, depth = rng.uniform(0.02, 0.07), rng.uniform(0.15, 0.6)
    fades = 1 / (1 + np.exp(np.clip((np.abs(along - rng.uniform(-0.3, 0.3)) - rng.uniform(0.1, 0.6)) * 18, -30, 30)))
    profile = (across / width) * np.exp(-((across / width) ** 2)) * fades
    shift = (np.float32(depth * width) * profile)[..., None] * normal
    shade = 1 + rng.uniform(0.1, 0.45) * rng.choice([-1, 1]) * profile
    return shift.astype(np.float32), shade.astype(np.float32)
