"""A photo with a quiet background: blurred and faded behind a garment, so that the street is not compared.

Letters  S side of the model's square, h x w the grid of a mask over the whole photo
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from threadmatch.model.detection.parsing.garments import Choice, Garment, Mask
from threadmatch.model.images import Box, PreparedImage

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

BLUR: Final = 0.08
"""Standard deviation of the background's blur, share of the square's side."""
FADE: Final = 0.5
"""How far the blurred background goes towards its own mean colour: 0 not at all, 1 one colour."""
EDGE: Final = 0.015
"""How much further than the mask the garment is left as it is, share of the side: edges tell garments apart."""
FILLS: Final = 0.25
"""A mask must fill at least this share of the box that was searched, or the two mean different things."""
WITHIN: Final = 0.6
"""And at least this share of the mask must lie in that box."""
COARSE: Final = 2
"""A wide blur sees every so many rows and columns."""
COARSE_FROM_PX: Final = 12.0
"""Standard deviation from which on a blur is wide."""
MARGIN: Final = 0.03
"""A box found is widened on each side by this share of its own, for what is cut off is lost."""


def quiet(prepared: PreparedImage, mask: Mask) -> PreparedImage:
    """Quiet what a mask leaves out.

    Args:
        prepared: the model's input, of a photo or of a box in it.
        mask: (h, w) uint8 over the whole photo, 255 where it stays as it is.

    Returns:
        The same with other pixels; never a hard edge where the mask has none.
    """
    return replace(prepared, pixels=quiet_pixels(prepared.pixels, mask_of_crop(mask, prepared)))


def mask_of_crop(mask: Mask, prepared: PreparedImage) -> Mask:
    """(h, w) over the whole photo -> (S, S) over the part that `prepared` shows."""
    height, width = mask.shape
    across, down = width / prepared.width, height / prepared.height
    framing = replace(prepared.framing, interpolation="bilinear")
    side = prepared.pixels.shape[0]
    return framing.square(Image.fromarray(mask), prepared.box.edges, side, scale=(across, down))


def quiet_pixels(pixels: Pixels, mask: Mask, *, blur: float = BLUR, fade: float = FADE) -> Pixels:
    """Blur and fade what a mask leaves out.

        ground = blur((1 - m) x) / blur(1 - m),   out = m x + (1 - m) ((1 - fade) ground + fade mean)

    The background is blurred by itself: the garment's colours do not run into it.

    Args:
        pixels: (S, S, 3) uint8 RGB x.
        mask: (S, S) uint8; m is it in 0..1, grown by EDGE.
        blur: share of S.
        fade: 0..1.
    """
    side = pixels.shape[0]
    radius = max(1, round(EDGE * side))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    grown = cv2.GaussianBlur(cv2.dilate(mask, kernel), (0, 0), radius)
    kept = (grown.astype(np.float32) / 255)[..., None]  # (S, S, 1)
    image = pixels.astype(np.float32)
    outside = np.asarray(1 - kept, np.float32)
    if outside.sum() < 1:
        return pixels
    mean = (image * outside).sum(axis=(0, 1)) / outside.sum()  # (3,)
    ground = _blurred(image, outside, blur * side, np.asarray(mean, np.float32))
    ground = (1 - fade) * ground + fade * mean
    return np.asarray(np.clip(kept * image + outside * ground + 0.5, 0, 255), np.uint8)


def _blurred(image: Floats, outside: Floats, sigma: float, mean: Floats) -> Floats:
    """blur(o x) / blur(o): (S, S, 3), the mean colour where nothing of the ground is near.

    A wide blur is computed on every second row and column, since what comes out has no finer detail: no pixel differs
    by more than three levels from the blur in full, and it takes a third of the time.

    Args:
        image: (S, S, 3) x.
        outside: (S, S, 1) o, 0..1.
        sigma: of the blur, pixels; 0 for none.
        mean: (3,) colour.
    """
    side = image.shape[0]
    step = COARSE if sigma >= COARSE_FROM_PX else 1
    size = (-(-side // step), -(-side // step))

    def blur(values: Floats) -> Floats:
        small = values if step == 1 else cv2.resize(values, size, interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.GaussianBlur(small, (0, 0), sigma / step) if sigma > 0 else small, np.float32)

    spread, share = blur(image * outside), blur(outside[..., 0])
    ground = np.where(share[..., None] > 1e-3, spread / np.maximum(share[..., None], 1e-3), mean).astype(np.float32)
    return ground if step == 1 else np.asarray(cv2.resize(ground, (side, side), interpolation=cv2.INTER_LINEAR))


def garment_of_box(garments: list[Garment], box: Box) -> Garment | None:
    """The garment that somebody's own box means; None where that is not sure, and the photo is left alone.

    Args:
        garments: of the whole photo.
        box: as shares of the photo's sides.
    """
    best: Garment | None = None
    filled = FILLS
    for garment in garments:
        if not garment.sure:
            continue
        height, width = garment.mask.shape
        inside = garment.mask[
            int(box.y0 * height) : max(int(box.y0 * height) + 1, round(box.y1 * height)),
            int(box.x0 * width) : max(int(box.x0 * width) + 1, round(box.x1 * width)),
        ]
        within = float(inside.sum()) / max(1.0, float(garment.mask.sum()))
        fills = float(inside.mean()) / 255
        if within >= WITHIN and fills >= filled:
            best, filled = garment, fills
    return best


def searched_box(choice: Choice, width: int, height: int) -> Box | None:
    """The box to search, in pixels of a photo: the main garment's, a little wider; None for the whole photo."""
    if choice.garment is None or choice.whole:
        return None
    box = choice.garment.box
    across, down = MARGIN * box.width, MARGIN * box.height
    wide = Box(box.x0 - across, box.y0 - down, box.x1 + across, box.y1 + down)
    return Box(wide.x0 * width, wide.y0 * height, wide.x1 * width, wide.y1 * height).clipped(width, height)
