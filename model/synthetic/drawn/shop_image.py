"""Shop images of drawn garments: front view, laid out on near white, softly lit.

look = garment(seed=7, index=17)
pixels = draw_shop_image(look)             # (360, 288, 3) uint8 RGB
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from threadmatch.model.synthetic.drawn.shading import View, lit, rasterise, soft_shadow
from threadmatch.model.synthetic.garments.dyes import Dice
from threadmatch.model.synthetic.garments.garment import Garment, garment
from threadmatch.model.synthetic.garments.look import Look
from threadmatch.model.synthetic.garments.outlines import flat_pose, garment_bounds
from threadmatch.model.synthetic.garments.svg import garment_group

SHOP_IMAGE_PX: Final = (288, 360)
"""Width and height of a shop image unless asked otherwise."""

_MARGIN = 0.07
_SHADOW = 0.26
_LARGEST = 0.93  # pixels per body unit at 300 pixels width: small garments do not fill the picture


def shop_view(look: Look, *, aspect: float) -> View:
    """Window in body units that shows the whole garment laid out, with a margin; aspect is width over height."""
    left, top, across, down = garment_bounds(look, flat_pose(look))
    room = 1 - 2 * _MARGIN
    width = max(across / room, down * aspect / room, 300 / _LARGEST)
    height = width / aspect
    return left + (across - width) / 2, top + (down - height) / 2, width, height


def draw_shop_image(item: Garment, *, size_px: tuple[int, int] = SHOP_IMAGE_PX) -> NDArray[np.uint8]:
    """Draw the catalogue photo of a garment.

    Args:
        item: the garment.
        size_px: width and height.

    Returns:
        (height, width, 3) uint8 RGB. The same garment and size give the same pixels.
    """
    width, height = size_px
    look = item.look
    pose, view = flat_pose(look), shop_view(look, aspect=width / height)
    flat = rasterise(garment_group(look, pose), view, size=size_px)
    dice = Dice(look.fold_seed)
    colors = lit(flat, look, pose=pose, view=view, dice=dice)
    alpha = np.asarray(flat[..., 3] / np.float32(255), np.float32)
    shadow = soft_shadow(alpha, shift=(0.012, 0.03), softness=0.035)
    tint = dice.between(-3, 3)
    around = 1 - _SHADOW * shadow
    ground = cv2.merge([around * (250 + tint), around * 250.0, around * (250 - tint)]).astype(np.uint8)
    return np.asarray(cv2.blendLinear(colors, ground, alpha, 1 - alpha), np.uint8)


__all__ = ["SHOP_IMAGE_PX", "Garment", "draw_shop_image", "garment", "shop_view"]
