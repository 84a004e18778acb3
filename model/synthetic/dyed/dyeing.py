"""A photo of a garment with its cloth in another colour, as shops show the colours of one cut.

Folds, print and ground stay as they are, so that nothing but the colour tells the two photos apart.

Letters  H x W a photo
Paper    CIE 015:2018 (L* a* b*: lightness 0..100, and two axes of colour)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from threadmatch.model.synthetic.street.cutout import Pixels

Colour = NDArray[np.float64]
"""(3,) mean L*, a*, b* of a garment."""
Mask = NDArray[np.float32]

CERTAIN: Final = 0.6
"""Of a mask: from where on a pixel surely shows the garment."""
APART: Final = 14.0
"""Between two colours of a garment at least: what a lamp's cast may do to one is less."""
TURNED_APART: Final = 5.0
"""Likewise between prints whose hues were turned: they differ in each of their colours, hardly in the mean."""
COUNTED: Final = np.array([0.6, 1.0, 1.0])
"""Differences of lightness count less: exposure changes it."""
PATTERNED: Final = 9.0
"""Deviation of a* and b* from which on a garment has several colours, whose hues are turned together."""
LIGHTEST: Final = 90.0
"""A tint is not seen on paper white; lighter garments become as dark as this."""
DARKEST: Final = 14.0
"""Nor on black."""
TRIES: Final = 40


@dataclass(frozen=True, slots=True)
class _Dye:
    """(a*, b*) to scale * turn(angle) ((a*, b*) - around) + move; L* by `shift` in the mean."""

    angle: float
    scale: float
    around: NDArray[np.float64]
    move: NDArray[np.float64]
    shift: float

    def hues(self, ab: NDArray[np.floating]) -> NDArray[np.floating]:
        """(..., 2) -> (..., 2)."""
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        turn = np.array([[cosine, -sine], [sine, cosine]])
        return np.asarray((ab - self.around) @ turn.T * self.scale + self.move)

    def colour(self, colour: Colour) -> Colour:
        """The mean of what is dyed."""
        return np.array([colour[0] + self.shift, *self.hues(colour[1:])])


def dye(photo: Pixels, mask: Mask, rng: np.random.Generator, *, others: Sequence[Colour] = ()) -> tuple[Pixels, Colour]:
    """The same photo, its garment in a colour that is neither its own nor near one of `others`.

    Args:
        photo: (H, W, 3) uint8 RGB.
        mask: (H, W) float32, 0..1, 1 on the garment; some of it above CERTAIN.
        rng: every choice comes from it.
        others: colours that this garment has already.

    Returns:
        The photo and its garment's mean colour.
    """
    lab = _lab(photo)
    inside = lab[mask > CERTAIN]
    own, prints = inside.mean(axis=0).astype(np.float64), float(inside[:, 1:].std(axis=0).mean()) > PATTERNED
    # Hues of a print that are turned differ wherever they are; what is plain must differ in the mean.
    known, apart = (others, TURNED_APART) if prints else ((own, *others), APART)
    for _ in range(TRIES):
        chosen = rng.random()
        turned = prints or chosen < 0.25
        drawn = _within(_turned(rng) if turned else _tinted(own, rng, any_light=chosen >= 0.8), own, rng)
        if all(_apart(drawn.colour(own), one) > apart for one in known):
            break
    dyed = _dyed(lab, mask, drawn, own)
    return dyed, _lab(dyed)[mask > CERTAIN].mean(axis=0).astype(np.float64)  # screens do not show every colour


def _lab(photo: Pixels) -> NDArray[np.float32]:
    return np.asarray(cv2.cvtColor(photo.astype(np.float32) / 255, cv2.COLOR_RGB2LAB))


def _apart(one: Colour, other: Colour) -> float:
    return float(np.linalg.norm((one - other) * COUNTED))


def _turned(rng: np.random.Generator) -> _Dye:
    """All hues by one angle."""
    angle, scale = rng.uniform(0.7, 2 * np.pi - 0.7), rng.uniform(0.8, 1.25)
    return _Dye(angle, scale, np.zeros(2), np.zeros(2), rng.normal(0, 6))


def _tinted(own: Colour, rng: np.random.Generator, *, any_light: bool) -> _Dye:
    """One tint in place of the garment's own, pale ones as often as strong ones."""
    chroma, hue = rng.uniform(3, 32 if own[0] > 30 else 18), rng.uniform(0, 2 * np.pi)
    scale = rng.uniform(0.5, 1)
    shift = rng.uniform(-30, 30) if any_light else rng.normal(0, 5)
    return _Dye(0.0, scale, own[1:], chroma * np.array([np.cos(hue), np.sin(hue)]), shift)


def _within(drawn: _Dye, own: Colour, rng: np.random.Generator) -> _Dye:
    """The same, as light as a tint can be seen on."""
    shift = drawn.shift
    if own[0] + shift > LIGHTEST:
        shift = LIGHTEST - own[0] - rng.uniform(0, 6)
    if own[0] + shift < DARKEST:
        shift = DARKEST - own[0] + rng.uniform(0, 8)
    return _Dye(drawn.angle, drawn.scale, drawn.around, drawn.move, shift)


def _dyed(lab: NDArray[np.float32], mask: Mask, drawn: _Dye, own: Colour) -> Pixels:
    """Darker by a factor, so that folds keep their contrast; lighter towards white, which stays white."""
    light, lightness = lab[..., 0], max(float(own[0]), 1.0)
    if drawn.shift < 0:
        changed = light * ((lightness + drawn.shift) / lightness)
    else:
        changed = light + drawn.shift * np.clip((100 - light) / max(100 - lightness, 1), 0, 1.2)
    out = lab.copy()
    out[..., 0] = np.clip(light + mask * (changed - light), 0, 100)
    out[..., 1:] += mask[..., None] * (drawn.hues(lab[..., 1:]) - lab[..., 1:]).astype(np.float32)
    rgb = cv2.cvtColor(out, cv2.COLOR_LAB2RGB)
    return np.asarray(np.rint(np.clip(rgb, 0, 1) * 255), np.uint8)
