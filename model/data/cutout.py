"""Garments cut out of real photos: a white key for studio pictures, GrabCut for the rest.

Letters  H x W a photo, h x w a cutout
Paper    Rother, Kolmogorov, Blake, SIGGRAPH 2004 (GrabCut, as OpenCV has it)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from model.errors import DataError

Pixels = NDArray[np.uint8]
Method = Literal["auto", "white", "grabcut"]

WORK_PX = 200
"""Long side at which a mask is found; the mask is then scaled up and smoothed."""
WHITE = 242
PLAUSIBLE = (0.05, 0.97)
"""Share of the photo a garment may take; outside of it the mask is wrong."""


@dataclass(frozen=True, slots=True)
class Cutout:
    """(h, w, 4) uint8 RGBA, cropped to the garment; coverage is the garment's share of the photo, 0..1."""

    rgba: Pixels
    coverage: float


def cut_out(photo: Pixels, *, method: Method = "auto") -> Cutout:
    """Cut the garment out of a photo.

    Args:
        photo: (H, W, 3) uint8 RGB.
        method: "white" for studio pictures, "grabcut" for others; "auto" looks at the border.

    Raises:
        DataError: the mask found is implausible.
    """
    if method == "auto":
        method = "white" if _white_border(photo) else "grabcut"
    scale = WORK_PX / max(photo.shape[:2])
    small = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    mask = _white_key(small) if method == "white" else _grabcut(small)
    mask = _clean(mask)
    coverage = float((mask > 0).mean())
    if not PLAUSIBLE[0] <= coverage <= PLAUSIBLE[1]:
        raise DataError(f"the mask covers {coverage:.0%} of the photo, expected 5 to 97 %; no garment was found")
    height, width = photo.shape[:2]
    alpha = cv2.resize(mask, (width, height), interpolation=cv2.INTER_CUBIC)
    alpha = cv2.GaussianBlur(alpha, (0, 0), max(height, width) / 320)
    x, y, w, h = cv2.boundingRect((alpha > 127).astype(np.uint8))
    rgba = np.dstack([photo, alpha])[y : y + h, x : x + w]
    return Cutout(np.ascontiguousarray(rgba), coverage)


def _white_border(photo: Pixels) -> bool:
    border = np.concatenate([photo[:4].reshape(-1, 3), photo[:, :4].reshape(-1, 3), photo[:, -4:].reshape(-1, 3)])
    return float((border.min(axis=1) >= WHITE).mean()) > 0.6


def _white_key(photo: Pixels) -> Pixels:
    """Near-white pixels joined to the border are background; white garments keep what is enclosed."""
    white = (photo.min(axis=2) >= WHITE).astype(np.uint8)
    framed = cv2.copyMakeBorder(white, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    _, labels = cv2.connectedComponents(framed)
    background = (labels == labels[0, 0])[1:-1, 1:-1]
    return np.where(background, 0, 255).astype(np.uint8)


def _grabcut(photo: Pixels) -> Pixels:
    """Two rounds from a frame: the border is background, the middle probably garment."""
    height, width = photo.shape[:2]
    mask = np.full((height, width), cv2.GC_PR_FGD, np.uint8)
    edge = max(2, int(0.035 * min(height, width)))
    mask[:edge] = mask[-edge:] = cv2.GC_BGD
    mask[:, :edge] = mask[:, -edge:] = cv2.GC_BGD
    corner_y, corner_x = height // 7, width // 7
    for rows in (slice(0, corner_y), slice(height - corner_y, height)):
        for columns in (slice(0, corner_x), slice(width - corner_x, width)):
            mask[rows, columns] = cv2.GC_BGD
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    cv2.grabCut(photo, mask, None, background, foreground, 3, cv2.GC_INIT_WITH_MASK)
    return np.where((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD), 255, 0).astype(np.uint8)


def _clean(mask: Pixels) -> Pixels:
    """Keep the parts that matter, close their holes."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    mask = cv2.morphologyEx(cv2.morphologyEx(mask, cv2.MORPH_OPEN, kernel), cv2.MORPH_CLOSE, kernel)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    if count <= 1:
        return mask
    areas = stats[1:, cv2.CC_STAT_AREA]
    kept = 1 + np.flatnonzero(areas >= 0.12 * areas.max())
    mask = np.where(np.isin(labels, kept), 255, 0).astype(np.uint8)
    outlines, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    small_holes = [outline for outline in outlines if cv2.contourArea(outline) < 0.02 * areas.max()]
    return np.asarray(cv2.drawContours(mask, small_holes, -1, 255, cv2.FILLED), dtype=np.uint8)
