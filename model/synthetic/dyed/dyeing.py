"""One garment in another colour, as a shop's next variant of it.

A plain cloth takes a tint in place of its own, near (what is hard to tell apart), pale or any; shades of its folds and
what is printed on it stay. A cloth of many colours has all its hues turned as often as not. The ground, skin and hair
stay as they are.

Letters  H x W a photo, n pixels of the cloth
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from threadmatch.model.synthetic.street.cutout import Pixels, garment_mask

Floats = NDArray[np.float32]

LEAST_APART: Final = 14.0
"""Of the mean colours of two variants, in CIELAB (CIE76): a person tells them apart in one light."""
LEAST_LEFT: Final = 11.0
"""Of them in the photo, where a dark cloth or the range of colours takes some of it back."""
COLOURFUL: Final = 9.0
"""Mean distance of a cloth's colours, a and b, from their median: above it, it is no plain one."""
LEAST_PIXELS: Final = 500
SHARE: Final = 0.6
"""Of a pixel that is cloth, from which on it counts towards the cloth's colour."""
SHOWS_SKIN: Final = 0.02
"""Share of a photo: below it, what looks like skin is cloth of that colour."""
TRIES: Final = 60
LIGHTNESS: Final = (12.0, 93.0)
MOST_CHROMA: Final = 75.0


@dataclass(frozen=True, slots=True, eq=False)
class Dyed:
    """A photo whose garment has another colour: (H, W, 3) uint8 RGB, and the mean colour of its cloth, (3,) CIELAB."""

    photo: Pixels
    colour: Floats


def cloth_of(photo: Pixels, skin: Callable[[Pixels], Floats]) -> Floats:
    """How much each pixel is cloth.

    Args:
        photo: (H, W, 3) uint8 RGB of one garment, laid out or worn.
        skin: gives (h, w) probabilities of skin and hair of a photo.

    Returns:
        (H, W) 0..1.

    Raises:
        DataError: no garment was found.
    """
    height, width = photo.shape[:2]
    grown = cv2.resize(garment_mask(photo), (width, height), interpolation=cv2.INTER_CUBIC)
    mask = grown.astype(np.float32) / 255
    blurred = cv2.GaussianBlur(np.clip(mask, 0, 1), (0, 0), max(1.0, 0.003 * max(height, width)))
    cloth = np.asarray(blurred, np.float32)
    bare = cv2.resize(skin(photo), (width, height), interpolation=cv2.INTER_LINEAR)
    if bare.mean() > SHOWS_SKIN:
        cloth = cloth * np.clip(1 - 1.5 * bare, 0, 1)
    return np.asarray(cloth, np.float32)


def dye(photo: Pixels, cloth: Floats, *, taken: Sequence[Floats], rng: np.random.Generator) -> Dyed | None:
    """The same photo with its garment in another colour.

    Args:
        photo: (H, W, 3) uint8 RGB.
        cloth: (H, W) 0..1, of `cloth_of`.
        taken: colours of the variants that there are beside the photo's own, which this one is not to be like.
        rng: decides.

    Returns:
        None where too little of the cloth shows, or no colour was found that is far enough from the others.
    """
    lab = _lab(photo)
    inside = cloth > SHARE
    if inside.sum() < LEAST_PIXELS:
        return None
    own = lab[inside]  # (n, 3)
    colourful = np.hypot(*(own[:, 1:] - np.median(own[:, 1:], axis=0)).T).mean() > COLOURFUL
    others = [*taken, own.mean(axis=0)]
    for _ in range(TRIES):
        made = _turned(lab, rng) if colourful and rng.random() < 0.6 else _tinted(lab, others, colourful, rng)
        if made is None:
            continue
        dyed = _rgb(made)
        shown = _lab(dyed)[inside]
        apart = min(float(np.linalg.norm(shown.mean(axis=0) - other)) for other in others)
        if colourful:  # its mean may stay where it is, its colours may not
            apart = float(np.linalg.norm(shown - own, axis=1).mean())
        if apart >= LEAST_LEFT:
            mixed = photo * (1 - cloth[..., None]) + dyed * cloth[..., None]
            return Dyed(np.rint(mixed).astype(np.uint8), shown.mean(axis=0))
    return None


def _turned(lab: Floats, rng: np.random.Generator) -> Floats:
    """All hues turned by one angle, a little lighter or darker."""
    angle = rng.uniform(math.pi / 5, 2 * math.pi - math.pi / 5)
    cos, sin = math.cos(angle), math.sin(angle)
    made = np.empty_like(lab)
    made[..., 0] = np.clip(lab[..., 0] + rng.normal(0, 5), 0, 100)
    made[..., 1], made[..., 2] = cos * lab[..., 1] - sin * lab[..., 2], sin * lab[..., 1] + cos * lab[..., 2]
    return made


def _tinted(lab: Floats, others: Sequence[Floats], colourful: bool, rng: np.random.Generator) -> Floats | None:
    """Another mean colour, `others[-1]` being its own; None where that is too like another, or too pure."""
    own = others[-1]
    wanted = _tint(own, rng)
    if min(float(np.linalg.norm(wanted - other)) for other in others) < LEAST_APART:
        return None
    if math.hypot(wanted[1], wanted[2]) > MOST_CHROMA:
        return None
    shade = (lab[..., 0] + 4) / (own[0] + 4)  # of each pixel against the mean, which lighter dyes keep
    dark_made_light = wanted[0] > own[0] and own[0] <= 25  # its folds would be too deep
    made = np.empty_like(lab)
    made[..., 0] = np.clip((wanted[0] + 4) * shade ** (0.7 if dark_made_light else 1.0) - 4, 0, 100)
    kept = 0.8 if colourful else 0.35
    for part in (1, 2):
        made[..., part] = wanted[part] * np.clip(shade, 0.3, 1.6) + kept * (lab[..., part] - own[part])
    return made


def _tint(own: Floats, rng: np.random.Generator) -> Floats:
    """(3,) a colour: near the cloth's own, pale, or any."""
    kind, angle = rng.random(), rng.uniform(0, 2 * math.pi)
    around = np.array([math.cos(angle), math.sin(angle)])
    if kind < 0.55:
        lightness, ab = own[0] + rng.normal(0, 10), own[1:] + rng.uniform(14, 32) * rng.uniform(0.5, 1) * around
    elif kind < 0.775:
        lightness, ab = rng.uniform(62, 92), rng.uniform(2, 24) * around
    else:
        lightness, ab = rng.uniform(18, 70), rng.uniform(0, 60) * around
    return np.array([np.clip(lightness, *LIGHTNESS), *ab], np.float32)


def _lab(photo: Pixels) -> Floats:
    return np.asarray(cv2.cvtColor(photo.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)


def _rgb(lab: Floats) -> Pixels:
    return np.clip(np.rint(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB) * 255), 0, 255).astype(np.uint8)
