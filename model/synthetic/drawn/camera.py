"""What a hurried customer's camera does to a picture: light, colour cast, blur, noise, JPEG."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from threadmatch.model.synthetic.garments.dyes import Dice

Floats = NDArray[np.float32]

_CASTS: Final = (
    (1.0, 1.0, 1.0),
    (1.07, 1.0, 0.88),
    (1.12, 0.97, 0.8),
    (0.92, 1.0, 1.1),
    (0.95, 1.04, 0.95),
    (1.03, 0.96, 1.05),
)
"""Red, green, blue gains: daylight, lamp, candle, shade, strip light, dusk."""


def photograph(scene: Floats, dice: Dice) -> NDArray[np.uint8]:
    """Take the picture.

    Args:
        scene: (H, W, 3) float32 RGB, 0..255; changed in place.
        dice: decides about light and camera.

    Returns:
        (H, W, 3) uint8 RGB that went through a JPEG.
    """
    height, width = scene.shape[:2]
    gain = dice.between(0.84, 1.18)
    cast = np.array(dice.pick(_CASTS), np.float32)
    scene *= cast * np.float32(gain)
    scene *= _light_over(height, width, dice)[..., None]
    blur = dice.between(0.2, 1.3)
    scene = np.asarray(cv2.GaussianBlur(scene, (0, 0), blur), np.float32)
    if dice.chance(0.25):  # the hand moved
        scene = np.asarray(cv2.filter2D(scene, -1, _motion_kernel(dice)), np.float32)
    noise = np.random.Generator(np.random.PCG64(dice.below(1 << 31))).standard_normal((height, width), dtype=np.float32)
    scene += (noise * dice.between(1.0, 6.5))[..., None]
    pixels = np.clip(scene, 0, 255).astype(np.uint8)
    quality = int(dice.between(45, 92))
    done, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done, "OpenCV writes JPEG"
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None, "OpenCV reads its own JPEG"
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)


def _light_over(height: int, width: int, dice: Dice) -> Floats:
    """(H, W) gains: brighter towards one side, darker in the corners, perhaps the edge of a shadow."""
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    light = 1 + dice.between(-0.16, 0.16) * x + dice.between(-0.16, 0.16) * y - dice.between(0, 0.13) * (x * x + y * y)
    if dice.chance(0.3):
        turn, offset = dice.between(0, np.pi), dice.between(-0.6, 0.6)
        side = (np.cos(turn) * x + np.sin(turn) * y - offset) * np.float32(dice.between(8, 40))
        light *= 1 - np.float32(dice.between(0.15, 0.4)) / (1 + np.exp(-np.clip(side, -30, 30)))
    return np.asarray(light, np.float32)


def _motion_kernel(dice: Dice) -> Floats:
    size = 3 + 2 * dice.below(3)
    kernel = np.zeros((size, size), np.float32)
    kernel[size // 2] = 1
    turn = cv2.getRotationMatrix2D((size // 2, size // 2), dice.between(0, 180), 1)
    kernel = np.asarray(cv2.warpAffine(kernel, turn, (size, size)), np.float32)
    return np.asarray(kernel / kernel.sum(), np.float32)
