"""Where the garments of a photo may be: what a detector is, and the one that needs no weights.

Paper    Rother, Kolmogorov, Blake, SIGGRAPH 2004 (GrabCut, as OpenCV has it)
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from threadmatch.model.images import Box

GRABCUT: Final = "grabcut"
WORK_PX: Final = 128
"""Long side of the photo that GrabCut sees: bounds its time, whatever was sent."""
ITERATIONS: Final = 3
BORDER: Final = 0.06
"""Share of each side that is background for sure: a garment that fills the photo needs no box."""
LIKELY: Final = (0.25, 0.2, 0.75, 0.8)
CERTAIN: Final = (0.42, 0.4, 0.58, 0.6)
"""Where the garment is likely, and where it is for sure, as shares: people aim the camera."""
PLAUSIBLE: Final = (0.05, 0.97)
"""Share of the photo that a garment may take; what is certain from the start takes less."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A garment that may be there.

    Fields:
        box: as shares of the photo's sides, 0..1.
        score: 0..1, higher is surer; what it measures is the detector's own.
        label: what it is, where the detector knows.
    """

    box: Box
    score: float
    label: str | None = None


class Detector(Protocol):
    """Proposes garments. Thread-safe."""

    @property
    def name(self) -> str:
        """For answers and logs."""
        ...

    @property
    def on_model_thread(self) -> bool:
        """Whether `detect` computes with torch, and so takes its turn with the model."""
        ...

    def detect(self, photo: NDArray[np.uint8]) -> list[Proposal]:
        """(H, W, 3) uint8 RGB to the proposals, surest first; none where nothing stands out."""
        ...


class GrabCutDetector:
    """What stands out from the border, seen from the middle of the photo: one proposal at most, and no labels.

    It knows nothing of garments: a person, a bag or a sofa in the middle stands out too. The score is the share of the
    box that what was cut out fills.
    """

    name = GRABCUT
    on_model_thread = False

    def __init__(self) -> None:
        self._one_at_a_time = threading.Lock()  # OpenCV's random numbers, which GrabCut begins with, are one for all

    def detect(self, photo: NDArray[np.uint8]) -> list[Proposal]:
        """See `Detector.detect`."""
        height, width = photo.shape[:2]
        scale = WORK_PX / max(height, width)
        size = (max(8, round(width * scale)), max(8, round(height * scale)))
        small = cv2.resize(photo, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        with self._one_at_a_time:
            cut = _grab(np.ascontiguousarray(small, np.uint8))
        return _proposals(cut)


def _grab(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w, 3) to (h, w), 1 where GrabCut sees foreground; the same photo always gives the same."""
    height, width = photo.shape[:2]
    mask = np.full((height, width), cv2.GC_PR_BGD, np.uint8)
    mask[_part(LIKELY, height, width)] = cv2.GC_PR_FGD
    down, across = max(1, int(BORDER * height)), max(1, int(BORDER * width))
    mask[:down] = mask[-down:] = cv2.GC_BGD
    mask[:, :across] = mask[:, -across:] = cv2.GC_BGD
    mask[_part(CERTAIN, height, width)] = cv2.GC_FGD
    cv2.setRNGSeed(0)
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    try:
        cv2.grabCut(photo, mask, None, background, foreground, ITERATIONS, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
    except cv2.error:  # a photo of one colour leaves nothing to tell apart
        return np.zeros((height, width), np.uint8)
    return np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)


def _part(shares: tuple[float, float, float, float], height: int, width: int) -> tuple[slice, slice]:
    x0, y0, x1, y1 = shares
    return slice(int(y0 * height), max(int(y0 * height) + 1, int(y1 * height))), slice(
        int(x0 * width), max(int(x0 * width) + 1, int(x1 * width))
    )


def _proposals(cut: NDArray[np.uint8]) -> list[Proposal]:
    """The largest connected piece, where it has a garment's size."""
    height, width = cut.shape
    count, _, pieces, _ = cv2.connectedComponentsWithStats(cut)
    if count < 2:
        return []
    x, y, w, h, area = (int(value) for value in pieces[1 + int(pieces[1:, cv2.CC_STAT_AREA].argmax())])
    if not PLAUSIBLE[0] <= area / (height * width) <= PLAUSIBLE[1]:
        return []
    return [Proposal(Box(x / width, y / height, (x + w) / width, (y + h) / height), area / (w * h))]
