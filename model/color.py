"""Colour histograms: what can be found without any network. The floor that every learned figure stands on.

Letters  B images, S image side, K bins
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from threadmatch.model.region_matchers import FeatureMatcher

BINS = (16, 8, 8)
"""Of hue, saturation and value: hue fine, value coarse, since light differs most between street and shop."""
_RANGES = (0, 180, 0, 256, 0, 256)  # OpenCV's 8-bit hue counts to 180


def color_regions(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """One region an image: the square root of its colour histogram, so that a product of two is their overlap.

    Args:
        pixels: (B, S, S, 3) uint8 RGB from `images.prepare_image`.

    Returns:
        (B, 1, K) float32 unit vectors.
    """
    histograms = [
        cv2.calcHist([cv2.cvtColor(image, cv2.COLOR_RGB2HSV)], [0, 1, 2], None, list(BINS), list(_RANGES)).reshape(-1)
        for image in pixels
    ]
    counts = np.stack(histograms).astype(np.float32)  # (B, K)
    roots: NDArray[np.float32] = np.sqrt(counts / counts.sum(axis=1, keepdims=True))
    return roots[:, None]


class ColorMatcher(FeatureMatcher):
    """Bhattacharyya coefficient of two colour histograms, 0 (no colour shared) to 1 (the same).

    It reads the feature "color": (1, K) of `color_regions`.
    """

    def __init__(self) -> None:
        super().__init__("color", "color", lambda q, g: (q[:, 0] * g[:, 0]).sum(dim=-1), chunk_pairs=4096)
