"""Garments cut out of real photos: a white key for studio pictures, GrabCut for the rest.

Letters  H x W a photo, h x w a cutout
Paper    Rother, Kolmogorov, Blake, SIGGRAPH 2004 (GrabCut, as OpenCV has it)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from threadmatch.model.errors import DataError

Pixels = NDArray[np.uint8]
Method = Literal["auto", "white", "grabcut"]

WORK_PX: Final = 200
"""Long side at which GrabCut finds a mask; the mask is then scaled up and smoothed."""
KEY_PX: Final = 640
"""Long side at which white is keyed: cheap, and finer edges."""
WHITE: Final = 250
"""Studio white is 255 and leaves the JPEG within a few levels of it; white cloth is shaded and darker."""
PLAUSIBLE: Final = (0.05, 0.97)
"""Share of the photo a garment may take; outside of it the mask is wrong."""


@dataclass(frozen=True, slots=True)
class Cutout:
    """A garment without its background.

    Fields:
        rgba: (h, w, 4) uint8, cropped to what was cut out: the garment, and its wearer where there is one.
        coverage: the cutout's share of the photo, 0..1.
        garment_rows: first and last row of the garment itself, as shares of h; a wearer's head and legs lie outside.
    """

    rgba: Pixels
    coverage: float
    garment_rows: tuple[float, float] = (0.0, 1.0)


def cut_out(photo: Pixels, *, method: Method = "auto") -> Cutout:
    """Cut the garment out of a photo.

    Args:
        photo: (H, W, 3) uint8 RGB.
        method: "white" for studio pictures, "grabcut" for others; "auto" looks at the border.

    Raises:
        DataError: the mask found is implausible.
    """
    mask = garment_mask(photo, method=method)
    coverage = float((mask > 0).mean())
    height, width = photo.shape[:2]
    alpha = _soft_edge(np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8))
    x, y, w, h = cv2.boundingRect((alpha > 127).astype(np.uint8))
    if w < 2 or h < 2:
        raise DataError("the mask is thinner than its own edge; no garment was found")
    part = slice(y, y + h), slice(x, x + w)
    return Cutout(np.dstack([_without_fringe(photo[part], alpha[part]), alpha[part]]), coverage)


def garment_mask(photo: Pixels, *, method: Method = "auto") -> Pixels:
    """Where the garment is, and its wearer where there is one.

    Args:
        photo, method: as of `cut_out`.

    Returns:
        (h, w) uint8, 255 inside and 0 outside, of the whole photo at no more than KEY_PX or WORK_PX.

    Raises:
        DataError: the mask found is implausible.
    """
    if method == "auto":
        method = "white" if white_border(photo) else "grabcut"
    scale = min(1.0, (KEY_PX if method == "white" else WORK_PX) / max(photo.shape[:2]))
    small = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else photo
    small = np.ascontiguousarray(small, np.uint8)
    mask = cleaned(white_key(small) if method == "white" else grabcut_mask(small))
    coverage = float((mask > 0).mean())
    if not PLAUSIBLE[0] <= coverage <= PLAUSIBLE[1]:
        raise DataError(f"the mask covers {coverage:.0%} of the photo, expected 5 to 97 %; no garment was found")
    return mask


def worn(cutout: Cutout, *, where: Literal["top", "bottom"]) -> Cutout:
    """Say which rows of a studio picture of a wearer are the garment.

    Args:
        cutout: a standing wearer, seen from the front or the back.
        where: "top" leaves the head out (it ends at the neck, the narrowest row below it); "bottom" leaves nothing out
            above, since such pictures begin at the waist, but feet and the legs below short garments.
    """
    if where == "bottom":
        return replace(cutout, garment_rows=(0.0, 0.75))
    widths = cv2.blur((cutout.rgba[..., 3] > 127).sum(axis=1).astype(np.float32)[:, None], (1, 9))[:, 0]
    height, half = len(widths), float(widths.max()) / 2
    shoulder = int(np.argmax(widths > half))  # the first row that is wide
    head = int(np.argmax(widths[: max(1, shoulder)]))
    neck = head + int(np.argmin(widths[head : shoulder + 1]))
    if neck < 0.05 * height or neck > 0.4 * height:
        return cutout  # no head in the picture
    return replace(cutout, garment_rows=(neck / height, 1.0))


def white_border(photo: Pixels) -> bool:
    """Whether a photo was taken on white: much of its upper and side edges is."""
    border = np.concatenate([photo[:4].reshape(-1, 3), photo[:, :4].reshape(-1, 3), photo[:, -4:].reshape(-1, 3)])
    return float((border.min(axis=1) >= WHITE - 4).mean()) > 0.3


def white_key(photo: Pixels) -> Pixels:
    """Background is white joined to the border, and larger areas of pure white: between an arm and the body."""
    white = (photo.min(axis=2) >= WHITE).astype(np.uint8)
    white = cv2.morphologyEx(white, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    framed = cv2.copyMakeBorder(white, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(framed, connectivity=4)
    background = labels == labels[0, 0]
    for label in range(1, count):
        if stats[label, cv2.CC_STAT_AREA] > 0.002 * white.size and label != labels[0, 0] and framed[labels == label][0]:
            background |= labels == label
    return np.where(background[1:-1, 1:-1], 0, 255).astype(np.uint8)


def grabcut_mask(photo: Pixels) -> Pixels:
    """A few rounds from a frame: border and corners are background, the middle probably garment."""
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
    cv2.setRNGSeed(0)  # GrabCut's k-means draws from OpenCV's generator of this thread
    cv2.grabCut(photo, mask, (0, 0, 1, 1), background, foreground, 3, cv2.GC_INIT_WITH_MASK)  # no rectangle
    return np.where((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD), 255, 0).astype(np.uint8)


def cleaned(mask: Pixels) -> Pixels:
    """Keep the parts that matter, close their small holes."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, kernel)
    mask = np.asarray(cv2.morphologyEx(opened, cv2.MORPH_CLOSE, kernel), np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    if count <= 1:
        return mask
    areas = stats[1:, cv2.CC_STAT_AREA]
    kept = np.concatenate([[False], areas >= 0.12 * areas.max()])
    mask = np.where(kept[labels], 255, 0).astype(np.uint8)
    outlines, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    small_holes = [outline for outline in outlines if cv2.contourArea(outline) < 0.004 * areas.max()]
    return np.asarray(cv2.drawContours(mask, small_holes, -1, 255, cv2.FILLED), dtype=np.uint8)


def _soft_edge(mask: Pixels) -> Pixels:
    """A smooth outline, a pixel or so inside the mask's, since the outermost pixels are half background."""
    radius = max(mask.shape) / 400
    soft = cv2.GaussianBlur(mask, (0, 0), 1.5 * radius).astype(np.float32)
    return np.asarray(np.clip((soft - 150) * (255 / 80), 0, 255), np.uint8)


def _without_fringe(rgb: Pixels, alpha: Pixels) -> Pixels:
    """Colours of the edge replaced by those just inside, so that no seam of the old background is pasted along."""
    radius = max(2, round(max(alpha.shape) / 130))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    # The frame counts as inside: where the photo cuts the garment there is no seam.
    core = cv2.erode((alpha > 250).astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=1)
    weight = core.astype(np.float32)
    size = (4 * radius + 1, 4 * radius + 1)
    nearby = cv2.blur(rgb.astype(np.float32) * weight[..., None], size)
    share = cv2.blur(weight, size)
    use = (core == 0) & (share > 0.02)
    clean = rgb.copy()
    clean[use] = np.clip(nearby[use] / share[use][:, None], 0, 255).astype(np.uint8)
    return clean
