"""Colours of drawn garments: a palette of named dyes, and how two of them are chosen to go together."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np

T = TypeVar("T")


class Dice:
    """Choices from one seeded stream; the same key gives the same choices, whatever was drawn before.

    Args:
        key: non-negative integers that name the stream, e.g. (seed, purpose, index).
    """

    def __init__(self, *key: int) -> None:
        self._random = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key))).random

    def between(self, low: float, high: float) -> float:
        """A number in low..high."""
        return low + (high - low) * float(self._random())

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return float(self._random()) < probability

    def below(self, count: int) -> int:
        """An integer in 0..count - 1."""
        return min(int(float(self._random()) * count), count - 1)

    def pick(self, options: Sequence[T]) -> T:
        """One of the options; an option that stands twice is twice as likely."""
        return options[self.below(len(options))]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """The options in a random order."""
        left = list(options)
        return [left.pop(self.below(len(left))) for _ in range(len(options))]


@dataclass(frozen=True, slots=True)
class Color:
    """A dye: its everyday name and its sRGB value, 0..255 each."""

    name: str
    rgb: tuple[int, int, int]

    @property
    def hex(self) -> str:
        """As SVG writes it, e.g. "#1f3a5f"."""
        return "#{:02x}{:02x}{:02x}".format(*self.rgb)

    @property
    def luminance(self) -> float:
        """0 (black) .. 1 (white), by the weights of Rec. 709 on the gamma-coded values."""
        red, green, blue = self.rgb
        return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255

    def shaded(self, factor: float) -> str:
        """Hex of this colour darker (factor below 1) or lighter (above 1, towards white)."""
        if factor <= 1:
            mixed = [value * factor for value in self.rgb]
        else:
            mixed = [value + (255 - value) * min(factor - 1, 1.0) for value in self.rgb]
        return "#{:02x}{:02x}{:02x}".format(*(round(value) for value in mixed))

    def varied(self, dice: Dice) -> Color:
        """The same dye from another batch: a small step in hue, saturation and value."""
        hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in self.rgb))
        hue = (hue + dice.between(-0.012, 0.012)) % 1.0
        saturation = min(max(saturation * dice.between(0.88, 1.1), 0.0), 1.0)
        value = min(max(value * dice.between(0.93, 1.05), 0.0), 1.0)
        red, green, blue = (round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, saturation, value))
        return Color(self.name, (red, green, blue))


def _dye(name: str, code: int) -> Color:
    return Color(name, (code >> 16, code >> 8 & 255, code & 255))


PALETTE: Final = tuple(
    _dye(name, code)
    for name, code in (
        ("white", 0xF4F2EE), ("cream", 0xEBDFC8), ("beige", 0xCDB598), ("camel", 0xB98A56), ("brown", 0x6B4630),
        ("grey", 0x9A9DA1), ("charcoal", 0x45484E), ("black", 0x232327), ("navy", 0x1F2D4A), ("blue", 0x2F5FA8),
        ("sky", 0x8DB8DC), ("denim", 0x4C6C92), ("teal", 0x1E6E70), ("mint", 0xA9D5BD), ("green", 0x2E7A4C),
        ("forest", 0x23452F), ("olive", 0x6C6C3A), ("sage", 0x9FAE8C), ("yellow", 0xEFC94C), ("mustard", 0xC7942A),
        ("orange", 0xDD7A34), ("rust", 0xA94B2B), ("coral", 0xE8806C), ("red", 0xBF2F36), ("burgundy", 0x6A2036),
        ("pink", 0xE7A9B8), ("rose", 0xC4647E), ("lilac", 0xB6A2D0), ("purple", 0x5E3D80), ("plum", 0x77415F),
    )
)  # fmt: skip
"""Thirty dyes a shop would sell."""

NEUTRALS: Final = tuple(c for c in PALETTE if c.name in {"white", "cream", "black", "charcoal", "navy", "grey"})

_FAR_ENOUGH = 0.33


def distance(first: Color, second: Color) -> float:
    """How unlike two colours look, 0..about 1.7: lightness counts most."""
    gap = [abs(a - b) / 255 for a, b in zip(first.rgb, second.rgb, strict=True)]
    return abs(first.luminance - second.luminance) * 0.8 + 0.3 * sum(gap)


def contrasting(dice: Dice, *others: Color) -> Color:
    """A colour, half the time a neutral, that stands out from all the others.

    Returns:
        The first of a random order that is far enough from each; the farthest one if none is.
    """
    options = dice.shuffled(NEUTRALS if dice.chance(0.5) else PALETTE)
    for option in options:
        if all(distance(option, other) > _FAR_ENOUGH for other in others):
            return option.varied(dice)
    return max(PALETTE, key=lambda color: min(distance(color, other) for other in others))
