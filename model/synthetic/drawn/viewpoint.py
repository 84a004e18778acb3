"""Where the camera stands: from the plane a garment lies in to the picture, with the cloth's own sway.

Letters  K lens, R rotation, f focal length in pixels; body units -> picture is the homography K [R1 R2 t]
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from threadmatch.model.data.setups import HARD_FRACTION, Setup
from threadmatch.model.synthetic.drawn.shading import Floats, View
from threadmatch.model.synthetic.garments.dyes import Dice

Matrix = NDArray[np.float64]

_LEAST_LOST: Final = HARD_FRACTION + 0.04
_MOST_LOST: Final = HARD_FRACTION + 0.27
_EDGES: Final = ((0, 1), (0, 1), (0, -1), (1, 0), (-1, 0), (0.8, 0.6), (-0.8, 0.6))
"""Which way the garment leaves the picture: mostly below."""


@dataclass(frozen=True, slots=True)
class Camera:
    """How a garment is seen.

    Fields:
        back: from behind.
        yaw, pitch, roll: degrees; roll is the picture's tilt.
        fill: share of the picture that the garment spans.
        lost: share of the garment to leave the picture at `edge`, a direction; 0 for a whole one.
        spot: where in the room left the garment stands, 0..1 each.
    """

    back: bool
    yaw: float
    pitch: float
    roll: float
    fill: float
    lost: float
    edge: tuple[float, float]
    spot: tuple[float, float]


def sample_camera(setup: Setup, dice: Dice) -> Camera:
    """A camera that suits a setup."""
    camera = Camera(
        back=False,
        yaw=dice.between(-18, 18),
        pitch=dice.between(-10, 12),
        roll=dice.between(-7, 7),
        fill=dice.between(0.56, 0.86),
        lost=0.0,
        edge=dice.pick(_EDGES),
        spot=(dice.between(0.2, 0.8), dice.between(0.2, 0.8)),
    )
    if setup is Setup.HARD_CROPPING:
        return replace(camera, fill=dice.between(0.75, 1.15), lost=dice.between(_LEAST_LOST, _MOST_LOST))
    if setup is not Setup.HARD_VIEW:
        return camera
    side = 1 if dice.chance(0.5) else -1
    chosen = dice.between(0, 1)
    if chosen < 0.5:
        return replace(camera, back=True, yaw=dice.between(-28, 28))
    if chosen < 0.85:
        return replace(camera, yaw=side * dice.between(44, 60))
    return replace(camera, roll=side * dice.between(28, 52), pitch=dice.between(25, 45))


@dataclass(frozen=True, slots=True)
class Projection:
    """From body units to pixels of a picture, and how cloth sways on the way.

    Fields:
        matrix: (3, 3) homography from body units.
        size: width and height of the picture.
        scale: pixels per body unit, about.
        sway: phases and wavelengths of the cloth's small waves.
    """

    matrix: Matrix
    size: tuple[int, int]
    scale: float
    sway: tuple[float, ...]

    def place(self, points: Matrix) -> Matrix:
        """(N, 2) body units to (N, 2) pixels, without sway."""
        return _project(self.matrix, points)

    def window(self, bounds: View) -> View:
        """The part of `bounds` (body units) that the picture can show, for not drawing more than that."""
        width, height = self.size
        corners = np.array([[-20, -20], [width + 20, -20], [width + 20, height + 20], [-20, height + 20]], np.float64)
        seen = _project(np.asarray(np.linalg.inv(self.matrix), np.float64), corners)
        x0, y0 = max(bounds[0], seen[:, 0].min()), max(bounds[1], seen[:, 1].min())
        x1 = min(bounds[0] + bounds[2], seen[:, 0].max())
        y1 = min(bounds[1] + bounds[3], seen[:, 1].max())
        return float(x0), float(y0), float(max(x1 - x0, 1)), float(max(y1 - y0, 1))

    def warp(self, layer: Floats, view: View, *, region: tuple[int, int, int, int]) -> Floats:
        """Show a layer in a region of the picture's plane.

        Args:
            layer: (h, w, 4) float32, colours multiplied by alpha, drawn through `view`.
            view: window in body units that the layer fills.
            region: left, top, width, height in pixels; may reach beyond the picture.

        Returns:
            (height, width, 4) float32.
        """
        left, top, width, height = region
        to_layer = np.diag([layer.shape[1] / view[2], layer.shape[0] / view[3], 1.0])
        to_layer = to_layer @ np.array([[1, 0, -view[0]], [0, 1, -view[1]], [0, 0, 1]])
        back = (to_layer @ np.linalg.inv(self.matrix)).astype(np.float32)
        x = np.arange(left, left + width, dtype=np.float32)[None, :]
        y = np.arange(top, top + height, dtype=np.float32)[:, None]
        a, b, c, d, long_wave, short_wave = (np.float32(value) for value in self.sway)
        strength = np.float32(0.012 * self.size[0])
        moved_x = x + strength * (np.sin(y / long_wave + a) + 0.4 * np.sin(y / short_wave + b))
        moved_y = y + strength * (0.7 * np.sin(x / long_wave + c) + 0.3 * np.sin(x / short_wave + d))
        depth = back[2, 0] * moved_x + back[2, 1] * moved_y + back[2, 2]
        map_x = (back[0, 0] * moved_x + back[0, 1] * moved_y + back[0, 2]) / depth
        map_y = (back[1, 0] * moved_x + back[1, 1] * moved_y + back[1, 2]) / depth
        return np.asarray(cv2.remap(layer, map_x - 0.5, map_y - 0.5, cv2.INTER_LINEAR, borderValue=0), np.float32)


def aim(camera: Camera, points: Matrix, *, size: tuple[int, int], dice: Dice) -> Projection:
    """Point the camera so that the garment has its size, its place and its loss.

    Args:
        points: (N, 2) body units, spread evenly over the garment.
        size: width and height of the picture.
    """
    width, height = size
    focal = 2.0 * max(size)
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    matrix, scale = np.eye(3), 0.0
    for guess in range(2):  # perspective makes size not quite proportional to scale
        scale = 1.0 if guess == 0 else scale
        seen = _project(_homography(camera, middle, scale=scale, focal=focal), points)
        spread = seen.max(axis=0) - seen.min(axis=0)
        scale *= camera.fill * min(width / spread[0], height / spread[1])
    matrix = _homography(camera, middle, scale=scale, focal=focal)
    seen = _project(matrix, points)
    low, high = seen.min(axis=0), seen.max(axis=0)
    room = np.array(size) - (high - low)
    matrix = _moved(room * np.array(camera.spot) - low) @ matrix
    if camera.lost:
        seen = _project(matrix, points)
        near, far = 0.0, float(width + height)
        for _ in range(18):
            middle_shift = (near + far) / 2
            if _outside(seen + middle_shift * np.array(camera.edge), size) < camera.lost:
                near = middle_shift
            else:
                far = middle_shift
        matrix = _moved(far * np.array(camera.edge)) @ matrix
    phases = [dice.between(0, math.tau) for _ in range(4)]
    waves = [width * dice.between(0.16, 0.3), width * dice.between(0.05, 0.09)]
    return Projection(matrix=matrix, size=size, scale=scale, sway=(*phases, *waves))


def _outside(points: Matrix, size: tuple[int, int]) -> float:
    inside = (points >= 0).all(axis=1) & (points < np.array(size)).all(axis=1)
    return 1 - float(inside.mean())


def _moved(shift: Matrix) -> Matrix:
    return np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1.0]])


def _project(matrix: Matrix, points: Matrix) -> Matrix:
    lifted = points @ matrix[:, :2].T + matrix[:, 2]
    return np.asarray(lifted[:, :2] / lifted[:, 2:], np.float64)


def _homography(camera: Camera, middle: Matrix, *, scale: float, focal: float) -> Matrix:
    """Plane to picture with `middle` at (0, 0): K [R1 R2 t]."""
    yaw, pitch, roll = (math.radians(angle) for angle in (camera.yaw, camera.pitch, camera.roll))
    turn_y = np.array([[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]])
    turn_x = np.array([[1, 0, 0], [0, math.cos(pitch), -math.sin(pitch)], [0, math.sin(pitch), math.cos(pitch)]])
    turn_z = np.array([[math.cos(roll), -math.sin(roll), 0], [math.sin(roll), math.cos(roll), 0], [0, 0, 1]])
    rotation = turn_z @ turn_x @ turn_y
    plane = np.column_stack([rotation[:, 0] * scale, rotation[:, 1] * scale, [0, 0, focal]])
    centred = np.array([[1, 0, -middle[0]], [0, 1, -middle[1]], [0, 0, 1.0]])
    return np.asarray(np.diag([focal, focal, 1.0]) @ plane @ centred, np.float64)
