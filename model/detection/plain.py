"""Whether a photo was taken before one colour: told by its edges alone, without a network.

Letters  S edge pixels
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

PLAIN: Final = (12, 0.7)
"""A ground is plain where this share of the photo's upper and side edges is within so many levels of their median."""


def plain_ground(photo: NDArray[np.uint8]) -> bool:
    """Whether a (H, W, 3) photo was taken before one colour, as shops do."""
    edges = np.concatenate([photo[:2].reshape(-1, 3), photo[:, :2].reshape(-1, 3), photo[:, -2:].reshape(-1, 3)])
    near = np.abs(edges.astype(np.int16) - np.median(edges, axis=0)).max(axis=1) <= PLAIN[0]  # (S,)
    return float(near.mean()) >= PLAIN[1]
