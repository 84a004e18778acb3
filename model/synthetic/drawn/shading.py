"""From flat SVG to something that lies in light: rasterising, folds, volume, fabric grain and shadow.

Folds are drawn too, as a few SVG strokes at a quarter of the resolution, then blurred; volume comes from the blurred
outline. Both multiply the flat colours, so they never change what is garment and what is not.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import cv2
import numpy as np
import resvg_py
from numpy.typing import NDArray

from threadmatch.model.synthetic.garments.dyes import Dice
from threadmatch.model.synthetic.garments.folds import fold_strokes
from threadmatch.model.synthetic.garments.look import Look
from threadmatch.model.synthetic.garments.outlines import Pose

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
View = tuple[float, float, float, float]
"""Window on the drawing: left, top, width, height in body units."""

_FOLD_DEPTH: Final = 1.5
_DARK: Final = 0.3
_TILE: Final = 512
_GRAINS: Final = {  # how far threads run across and along, pixels, and how much they show
    "knit": (0.6, 1.3, 0.1),
    "cable": (0.6, 1.3, 0.1),
    "denim": (0.4, 1.6, 0.08),
    "wool": (0.9, 0.9, 0.055),
    "fleece": (0.9, 0.9, 0.055),
    "corduroy": (0.9, 0.9, 0.055),
}
_COARSE: Final = 4  # folds, volume and shadow are soft, so a quarter of the resolution holds them


def rasterise(svg: str, view: View, *, size: tuple[int, int]) -> Pixels:
    """Draw SVG elements seen through a window.

    Args:
        svg: elements in body units, without the <svg> around them.
        view: the window; it is stretched to the picture.
        size: width and height in pixels.

    Returns:
        (height, width, 4) uint8 RGBA, straight alpha.
    """
    (x, y, w, h), (width, height) = view, size
    text = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="{x:.2f} {y:.2f} {w:.2f} {h:.2f}" preserveAspectRatio="none">{svg}</svg>'
    )
    png = resvg_py.svg_to_bytes(svg_string=text, skip_system_fonts=True)
    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels is not None, "resvg writes PNG"
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA), np.uint8)


def lit(flat: Pixels, look: Look, *, pose: Pose, view: View, dice: Dice, back: bool = False) -> Pixels:
    """Colours of a flat garment drawing as light and folds leave them.

    Args:
        flat: (H, W, 4) RGBA of the garment alone.
        look, pose, back: what was drawn, so that folds start where cloth is pulled.
        view: the window it was drawn through.
        dice: decides how the folds lie.

    Returns:
        (H, W, 3) uint8 RGB; only meaningful where alpha is above 0.
    """
    height, width = flat.shape[:2]
    size = _coarse(width, height)
    strokes = rasterise(fold_strokes(look, pose, dice=dice, back=back), view, size=size)
    folds = strokes[..., 0].astype(np.float32) / 255 - 0.5
    folds = np.asarray(cv2.GaussianBlur(folds, (0, 0), size[0] / 66), np.float32)
    mask = cv2.resize(flat[..., 3], size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    soft = cv2.GaussianBlur(mask, (0, 0), size[0] / 22)
    tight = cv2.GaussianBlur(mask, (0, 0), size[0] / 55)
    slope = cv2.Sobel(soft, cv2.CV_32F, 1, 0, ksize=3) * (size[0] / 75)
    shade = 0.77 + 0.15 * soft + 0.12 * tight + 0.24 * slope + _FOLD_DEPTH * folds
    full = cv2.resize(shade, (width, height), interpolation=cv2.INTER_CUBIC)
    full *= _grain(look.fabric, height, width)
    colors = cv2.cvtColor(flat, cv2.COLOR_RGBA2RGB)
    if look.fabric in {"leather", "quilted"} or look.main.luminance < _DARK:  # what is too dark to be darkened shines
        sheen = cv2.resize(np.maximum(folds, 0) * 170, (width, height), interpolation=cv2.INTER_LINEAR)
        colors = cv2.add(colors, cv2.cvtColor(sheen, cv2.COLOR_GRAY2RGB), dtype=cv2.CV_8U)
    return np.asarray(cv2.multiply(colors, cv2.cvtColor(full, cv2.COLOR_GRAY2RGB), dtype=cv2.CV_8U), np.uint8)


def lit_plain(flat: Pixels) -> Pixels:
    """Colours of any other flat drawing (people, bags) with some volume.

    Args:
        flat: (H, W, 4) RGBA.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    height, width = flat.shape[:2]
    size = _coarse(width, height)
    mask = cv2.resize(flat[..., 3], size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    soft = cv2.GaussianBlur(mask, (0, 0), max(size[0] / 26, 0.8))
    shade = 0.84 + 0.16 * soft + 0.22 * cv2.Sobel(soft, cv2.CV_32F, 1, 0, ksize=3)
    full = cv2.resize(np.clip(shade, 0.6, 1.15), (width, height), interpolation=cv2.INTER_CUBIC)
    colors = cv2.cvtColor(flat, cv2.COLOR_RGBA2RGB)
    return np.asarray(cv2.multiply(colors, cv2.cvtColor(full, cv2.COLOR_GRAY2RGB), dtype=cv2.CV_8U), np.uint8)


def _coarse(width: int, height: int) -> tuple[int, int]:
    return max(width // _COARSE, 8), max(height // _COARSE, 8)


def soft_shadow(alpha: Floats, *, shift: tuple[float, float], softness: float) -> Floats:
    """Shadow that an outline casts on what lies behind it.

    Args:
        alpha: (H, W) float32, 0..1.
        shift: right and down, shares of the picture's width.
        softness: standard deviation of its edge, share of the width.

    Returns:
        (H, W) float32, 0 (none) .. 1.
    """
    height, width = alpha.shape
    size = _coarse(width, height)
    small = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
    move = np.array([[1, 0, shift[0] * size[0]], [0, 1, shift[1] * size[0]]], np.float32)
    small = cv2.GaussianBlur(cv2.warpAffine(small, move, size), (0, 0), max(softness * size[0], 0.5))
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _grain(fabric: str, height: int, width: int) -> Floats:
    """Fine texture of a fabric, (height, width) float32 around 1; the same for every garment of it."""
    tile = _grain_tile(fabric)
    down, right = max(height - _TILE, 0), max(width - _TILE, 0)
    if down or right:
        tile = np.pad(tile, ((0, down), (0, right)), mode="wrap")
    return tile[:height, :width]


@lru_cache(maxsize=16)
def _grain_tile(fabric: str) -> Floats:
    noise = np.random.Generator(np.random.PCG64(5)).standard_normal((_TILE, _TILE), dtype=np.float32)
    across, along, strength = _GRAINS.get(fabric, (0.0, 0.0, 0.012))
    if across:
        noise = np.asarray(cv2.GaussianBlur(noise, (0, 0), sigmaX=across, sigmaY=along), np.float32)
    if fabric == "denim":
        slant = np.array([[1, 0.5, 0], [0, 1, 0]], np.float32)
        noise = np.asarray(cv2.warpAffine(noise, slant, (_TILE, _TILE), borderMode=cv2.BORDER_WRAP), np.float32)
    return 1 + np.float32(strength) * noise
