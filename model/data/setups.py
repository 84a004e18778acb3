"""The four setups a street query is made in, and the query itself; drawn and photographed sources share them.

The names follow the Consumer-to-Shop queries that GRNet (Kuang et al., ICCV 2019) is measured on.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from threadmatch.model.images import Box

HARD_FRACTION: Final = 0.30
"""A hard cropping or hard occlusion query loses more than this share of the garment."""


class Setup(StrEnum):
    """How hard a street query is, and in what way."""

    EASY = "easy"  # front view, whole, little in front of it
    HARD_CROPPING = "hard_cropping"  # more than HARD_FRACTION of the garment lies outside the picture
    HARD_OCCLUSION = "hard_occlusion"  # more than HARD_FRACTION of what lies inside is covered
    HARD_VIEW = "hard_view"  # from behind, or far from the side, or strongly tilted


@dataclass(frozen=True, slots=True)
class StreetQuery:
    """A picture of one garment in the customer's domain, with what is known about it.

    Fields:
        image: (H, W, 3) uint8 RGB.
        box: the garment's visible part, pixels of `image`.
        setup: the setup it was made in.
        cropped_fraction: 0..1, share of the garment's own pixels that lie outside the picture.
        occluded_fraction: 0..1, share of the garment's pixels inside the picture that something covers.
    """

    image: NDArray[np.uint8]
    box: Box
    setup: Setup
    cropped_fraction: float
    occluded_fraction: float
