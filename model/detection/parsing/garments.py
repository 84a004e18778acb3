"""From kinds of pixels to garments: boxes, masks and outlines, and the one that somebody probably means.

Letters  K kinds, h x w the grid of the probabilities, S cells of it
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from threadmatch.model.detection.parsing.kinds import BODY_GARMENTS, GARMENTS, KINDS
from threadmatch.model.images import Box

Floats = NDArray[np.float32]
Mask = NDArray[np.uint8]

LEAST_AREA: Final = 0.002
"""Share of the photo below which something is a speck."""
LEAST_PART: Final = 0.08
"""Share of a garment's largest piece below which another piece is a speck."""
REACH: Final = 0.12
"""Pieces of one kind belong together where the gap between their boxes is at most this share of the photo's sides."""
PAIR_REACH: Final = 0.4
"""The same for footwear: left and right are one garment, mid-stride too."""
LEAST_SCORE: Final = 0.6
"""Below it a garment is not told of."""
LEAST_KIND_SCORE: Final = 0.25
"""The same for its kind."""
SURE_SCORE: Final = 0.8
"""From here on the main garment is believed; below it the photo is left alone."""
SURE_AREA: Final = 0.01
"""A main garment takes at least this share of the photo; what is smaller may be anything."""
PERSON: Final = 0.05
"""Skin and hair are at least this share of all that is not background where a photo shows somebody; otherwise a garment
lies or hangs there alone. On 100 training photos each: street from 0.076 up but for two, garments alone up to 0.048."""
SURE_GROUND: Final = (0.7, 0.95)
"""Probability of the background at which quieting begins, and at which it is complete: what is doubtful stays."""
SOFTNESS: Final = 0.012
"""Standard deviation of a mask's edge, share of the grid's long side."""


@dataclass(frozen=True, slots=True)
class Garment:
    """A garment in a photo.

    Fields:
        kind: of `kinds.GARMENTS`.
        box: as shares of the photo's sides, 0..1.
        score: probability that it is a garment, of whatever kind; mean over the mask, 0..1.
        kind_score: probability of the kind; mean over the mask, 0..1. A dress may look as much like a coat.
        area: share of the photo, 0..1.
        mask: (h, w) uint8 over all of the photo, 255 inside, falling softly to 0.
    """

    kind: str
    box: Box
    score: float
    kind_score: float
    area: float
    mask: Mask

    @property
    def sure(self) -> bool:
        """Whether it is believed to be one, and large enough to be searched for."""
        return self.score >= SURE_SCORE and self.area >= SURE_AREA


@dataclass(frozen=True, slots=True)
class Choice:
    """What a search without a box looks for.

    Fields:
        garment: the main garment; None where there is none to be sure of.
        whole: the photo's frame stays as it is: it shows nobody, so one garment, or a shop took it.
        reason: "garment", "one_garment", "plain_ground", "unsure" or "nothing".
    """

    garment: Garment | None
    whole: bool
    reason: Literal["garment", "one_garment", "plain_ground", "unsure", "nothing"]


def find_garments(probabilities: Floats) -> list[Garment]:
    """Probabilities to garments, largest first.

    A cell is of its likeliest kind. Pieces of one kind that lie close together are one garment, left and right shoe
    always; specks are dropped.

    Args:
        probabilities: (K, h, w) float32, summing to 1 over K.
    """
    kinds = probabilities.argmax(axis=0)  # (h, w)
    garment = probabilities[[KINDS.index(kind) for kind in GARMENTS]].sum(axis=0)  # (h, w)
    found = []
    for kind in GARMENTS:
        channel = KINDS.index(kind)
        for piece in _pieces((kinds == channel).astype(np.uint8), PAIR_REACH if kind == "footwear" else REACH):
            inside = piece > 0
            score, of_kind = float(garment[inside].mean()), float(probabilities[channel][inside].mean())
            if score >= LEAST_SCORE and of_kind >= LEAST_KIND_SCORE:
                found.append(Garment(kind, _box(piece), score, of_kind, float(piece.mean()), soft_mask(piece)))
    return sorted(found, key=lambda garment: -garment.area)


def choose(garments: list[Garment], person: float, *, plain: bool = False, kinds: Collection[str] = ()) -> Choice:
    """The garment that somebody who says nothing probably means.

    Of the body garments (`kinds.BODY_GARMENTS`) the one with the largest area times closeness to the middle; of the
    rest only where there is no body garment. Closeness falls from 1 in the middle to one half at the photo's edge.

    Args:
        garments: of `find_garments`.
        person: share of all that is not background that is skin and hair.
        plain: the ground is plain, so a shop framed what it sells; a box found would be cut from one view and not
            from another.
        kinds: that are meant, where that is known; a garment of another kind is taken only where none of these is sure.
    """
    if not garments:
        return Choice(None, False, "nothing")
    meant = [garment for garment in garments if garment.kind in kinds and garment.sure]
    body = meant or [garment for garment in garments if garment.kind in BODY_GARMENTS] or garments
    main = max(body, key=lambda garment: garment.area * closeness(garment.box))
    if not main.sure:
        return Choice(None, False, "unsure")
    if person < PERSON:
        return Choice(main, True, "one_garment")
    return Choice(main, plain, "plain_ground" if plain else "garment")


def closeness(box: Box) -> float:
    """1 for a box in the middle of the photo, one half for one whose centre is at the edge."""
    across, down = (box.x0 + box.x1) - 1, (box.y0 + box.y1) - 1  # -1..1 each
    return float(1 - 0.5 * min(1.0, max(abs(across), abs(down))))


def outline(mask: Mask, *, detail: float = 0.004) -> list[list[tuple[float, float]]]:
    """Polygons around a mask, largest first.

    Args:
        mask: (h, w) uint8.
        detail: corners nearer than this share of the grid's long side to a straight line are left out.

    Returns:
        Of each piece its corners x, y as shares of the photo's sides, 0..1; holes are not cut out.
    """
    height, width = mask.shape
    framed = cv2.copyMakeBorder((mask > 127).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    rings, _ = cv2.findContours(framed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    polygons = []
    for ring in sorted(rings, key=cv2.contourArea, reverse=True):
        corners = cv2.approxPolyDP(ring, detail * max(height, width), closed=True)[:, 0].astype(float)  # (S, 2)
        if len(corners) >= 3:
            shares = np.clip((corners - 0.5) / (width, height), 0, 1)
            polygons.append([(float(x), float(y)) for x, y in shares])
    return polygons


def soft_mask(piece: Mask) -> Mask:
    """(h, w) 0 and 1 -> uint8 with a soft edge; hard along the photo's frame, where nothing ends."""
    sigma = SOFTNESS * max(piece.shape)
    return np.asarray(cv2.GaussianBlur(piece * 255, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.uint8)


def kept_of_ground(background: Floats) -> Mask:
    """What stays when the background is quieted: everything that is not background for sure, with a soft edge.

    Not the mask of one garment: where a parser takes half a coat for a dress, that would wipe half of it away.

    Args:
        background: (h, w) float32, probability of the background.

    Returns:
        (h, w) uint8, 255 where the photo stays as it is.
    """
    low, high = SURE_GROUND
    kept = 1 - np.clip((background - low) / (high - low), 0, 1)
    sigma = SOFTNESS * max(background.shape) / 2
    return np.asarray(cv2.GaussianBlur(kept.astype(np.float32), (0, 0), sigma) * 255 + 0.5, np.float32).astype(np.uint8)


def _pieces(mask: Mask, reach: float) -> list[Mask]:
    """Connected pieces without specks, those within reach of each other as one: (h, w) of 0 and 1 each."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA] / mask.size
    large = [n for n in range(1, count) if areas[n] >= LEAST_AREA]
    groups: list[list[int]] = []
    for n in sorted(large, key=lambda n: -areas[n]):
        near = [group for group in groups if any(_gap(stats[n], stats[m], mask.shape) <= reach for m in group)]
        if near and areas[n] < LEAST_PART * areas[near[0][0]]:
            continue
        for group in near[1:]:
            groups.remove(group)
        joined = [m for group in near for m in group]
        if near:
            near[0][:] = [*joined, n]
        else:
            groups.append([n])
    return [np.isin(labels, group).astype(np.uint8) for group in groups]


def _gap(one: NDArray[np.int32], other: NDArray[np.int32], shape: tuple[int, ...]) -> float:
    """Between boxes x, y, w, h: the larger gap of across and down, as a share of that side; 0 where they meet."""
    across = max(one[0], other[0]) - min(one[0] + one[2], other[0] + other[2])
    down = max(one[1], other[1]) - min(one[1] + one[3], other[1] + other[3])
    return float(max(0.0, across / shape[1], down / shape[0]))


def _box(piece: Mask) -> Box:
    height, width = piece.shape
    x, y, w, h = cv2.boundingRect(piece)
    return Box(x / width, y / height, (x + w) / width, (y + h) / height)
