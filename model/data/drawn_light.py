"""From flat SVG to something that lies in light: rasterising, folds, volume, fabric grain and shadow.

Folds are drawn too, as a few SVG strokes at a quarter of the resolution, then blurred; volume comes from the blurred outline.
Both multiply the flat colours, so they never change what is garment and what is not.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import cv2
import numpy as np
import resvg_py
from numpy.typing import NDArray

from model.data.garment_colors import Dice
from model.data.garment_kinds import TOPS
from model.data.garment_look import Look
from model.data.garment_shapes import WAIST_Y, Pose, at, shape_of

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
View = tuple[float, float, float, float]
"""Window on the drawing: left, top, width, height in body units."""

_FOLD_DEPTH: Final = 1.5
_DARK: Final = 0.3
_TILE: Final = 512
_COARSE: Final = 4  # folds, volume and shadow are soft, so a quarter of the resolution holds them


def rasterise(svg: str, view: View, width: int, height: int) -> Pixels:
    """Draw SVG elements seen through a window.

    Args:
        svg: elements in body units, without the <svg> around them.
        view: the window; it is stretched to the picture.
        width, height: pixels.

    Returns:
        (height, width, 4) uint8 RGBA, straight alpha.
    """
    x, y, w, h = view
    text = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="{x:.2f} {y:.2f} {w:.2f} {h:.2f}" preserveAspectRatio="none">{svg}</svg>'
    )
    png = resvg_py.svg_to_bytes(svg_string=text, skip_system_fonts=True)
    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels is not None, "resvg writes PNG"
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA), np.uint8)


def lit(flat: Pixels, look: Look, pose: Pose, view: View, *, dice: Dice, back: bool = False) -> Pixels:
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
    strokes = rasterise(_fold_strokes(look, pose, dice, back=back), view, *size)
    folds = strokes[..., 0].astype(np.float32) / 255 - 0.5
    folds = cv2.GaussianBlur(folds, (0, 0), size[0] / 66)
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
    noise = np.random.Generator(np.random.PCG64(5)).standard_normal((_TILE, _TILE)).astype(np.float32)
    strength = 0.012
    if fabric in {"knit", "cable"}:
        noise, strength = cv2.GaussianBlur(noise, (0, 0), sigmaX=0.6, sigmaY=1.3) * 2.0, 0.05
    elif fabric == "denim":
        slant = np.array([[1, 0.5, 0], [0, 1, 0]], np.float32)
        noise = cv2.GaussianBlur(noise, (0, 0), sigmaX=0.4, sigmaY=1.6) * 2.0
        noise, strength = cv2.warpAffine(noise, slant, (_TILE, _TILE), borderMode=cv2.BORDER_WRAP), 0.055
    elif fabric in {"wool", "fleece", "corduroy"}:
        noise, strength = cv2.GaussianBlur(noise, (0, 0), 0.9) * 2.2, 0.035
    return np.asarray(1 + strength * noise, np.float32)


def _fold_strokes(look: Look, pose: Pose, dice: Dice, *, back: bool) -> str:
    """Folds as dark and light strokes on middle grey, where cloth of this cut is pulled or hangs."""
    shape = shape_of(look, pose, back=back)
    curves: list[tuple[str, float, float]] = []  # path, width, darkness -1..1

    def fold(x0: float, y0: float, x1: float, y1: float, *, width: float = 9.0) -> None:
        bend = dice.between(-14, 14)
        path = f"M{at(x0, y0)}Q{at((x0 + x1) / 2 + bend, (y0 + y1) / 2 + bend)} {at(x1, y1)}"
        tone = dice.between(0.45, 1.0)
        curves.append((path, width * dice.between(0.7, 1.5), tone))
        step = width * 0.9
        lit_path = (
            f"M{at(x0 - step, y0)}Q{at((x0 + x1) / 2 + bend - step, (y0 + y1) / 2 + bend - 3)} {at(x1 - step, y1)}"
        )
        curves.append((lit_path, width * dice.between(0.6, 1.2), -0.7 * tone))

    if look.category in TOPS:
        _top_folds(look, shape.chest, (shape.armpit_y, shape.hem_y), dice, fold)
        for end in shape.sleeve_ends:
            x0, y0 = end.side * shape.chest * 0.98, 66.0
            for _ in range(2 if look.sleeves == "short" else 4):
                share = dice.between(0.2, 0.95)
                x, y = x0 + (end.x - x0) * share, y0 + (end.y - y0) * share
                across = end.half_width * 1.1
                fold(x - across, y - dice.between(-16, 10), x + across, y + dice.between(-16, 16), width=7)
    elif look.category == "skirt":
        _hanging_folds(shape.waist, WAIST_Y + 20, (shape.hem, shape.hem_y), dice, fold)
    else:
        for side in (-1, 1):
            fold(side * 6, 318, side * shape.chest * dice.between(0.5, 0.85), 318 + dice.between(-28, 30), width=8)
            fold(side * 8, 330, side * shape.chest * dice.between(0.4, 0.7), 350 + dice.between(0, 30), width=8)
            x0, x1 = side * shape.chest * 0.5, side * max(shape.hem - 26, 30)
            fold(x0, 300, x1, shape.hem_y - 10, width=11)
            for _ in range(3):
                y = dice.between(380, max(shape.hem_y - 20, 400))
                fold(x1 - 26, y, x1 + 26, y + dice.between(-18, 18), width=7)
    strokes = "".join(
        f'<path d="{path}" stroke="{"#000" if tone > 0 else "#fff"}" stroke-opacity="{abs(tone) * 0.34:.2f}" stroke-width="{width:.1f}"/>'
        for path, width, tone in curves
    )
    return f'<path d="M-2000-2000H2000V2000H-2000Z" fill="#808080"/><g fill="none" stroke-linecap="round">{strokes}</g>'


def _top_folds(look, chest, levels, dice, fold) -> None:  # type: ignore[no-untyped-def]
    armpit_y, hem_y = levels
    for side in (-1, 1):
        for _ in range(2):
            fold(
                side * chest * 0.96,
                armpit_y + dice.between(0, 12),
                side * chest * dice.between(0.2, 0.55),
                armpit_y + dice.between(22, 85),
            )
    if look.category in {"dress", "coat"} or look.fit == "flared":
        _hanging_folds(chest * 0.7, WAIST_Y + 5, (chest * 1.3, hem_y), dice, fold)
        return
    for _ in range(3):
        side = 1 if dice.chance(0.5) else -1
        y = dice.between(armpit_y + 40, hem_y - 20)
        fold(side * chest * 0.95, y, side * chest * dice.between(0.05, 0.5), y + dice.between(-6, 34), width=8)
    for _ in range(2):
        x = chest * dice.between(-0.7, 0.7)
        fold(x, hem_y - dice.between(50, 110), x + dice.between(-16, 16), hem_y + 4, width=10)


def _hanging_folds(waist, top, hem, dice, fold) -> None:  # type: ignore[no-untyped-def]
    half, hem_y = hem
    for number in range(6):
        share = (number + dice.between(0.15, 0.85)) / 3 - 1
        fold(share * waist, top + dice.between(0, 40), share * half, hem_y + 6, width=dice.between(8, 15))
