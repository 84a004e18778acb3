"""What of a photo is not its plain ground: where a shop photographs before one colour, the colour shows nothing.

Letters  H x W a photo
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

NEAR: Final = 24
"""Levels within which a pixel is of the ground's colour: more than make a ground plain, for its shadows."""
SOFT: Final = 0.01
"""Standard deviation of the mask's edge, share of the long side."""


def without_ground(photo: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W, 3) uint8 RGB before a plain ground -> (H, W), 1 where something stands before it, softly falling to 0.

    The ground is what is of its colour and reaches the photo's edge; a white shirt's middle is not.
    """
    edge = np.concatenate([photo[0], photo[-1], photo[:, 0], photo[:, -1]])
    near = np.abs(photo.astype(np.int16) - np.median(edge, axis=0)).max(axis=2) <= NEAR  # (H, W)
    _, pieces = cv2.connectedComponents(near.astype(np.uint8), connectivity=4)
    rim = np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]])
    ground = near & np.isin(pieces, np.unique(rim[rim > 0]))
    kept = (~ground).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(kept, (0, 0), max(1.0, SOFT * max(photo.shape[:2]))), np.float32)
