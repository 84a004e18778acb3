"""What decides how a drawn garment looks: frozen values, no randomness, no drawing."""

from __future__ import annotations

from dataclasses import dataclass

from threadmatch.model.synthetic.garments.dyes import Color


@dataclass(frozen=True, slots=True)
class Logo:
    """A print: one shape in one colour at one place; `size` 1 is a small badge, 4 a chest print."""

    shape: str
    place: str
    color: Color
    size: float


@dataclass(frozen=True, slots=True)
class Proportions:
    """Cut of one identity, each a factor around 1."""

    width: float
    length: float
    sleeve: float
    neck: float


@dataclass(frozen=True, slots=True)
class Look:
    """Category, attributes and colours. The allowed words of each field stand in `garment_kinds`.

    `button_color`, `trim_color` and `pocket_color` only show where there are buttons, a trim, a pocket; a pocket_color
    of None is the garment's own cloth. `fold_seed` decides how the cloth lies.
    """

    category: str
    neckline: str
    sleeves: str
    length: str
    fit: str
    pattern: str
    pattern_scale: str
    pattern_variant: int
    fabric: str
    collar: str
    closure: str
    pocket: str
    trim: str
    main: Color
    second: Color
    third: Color
    trim_color: Color
    button_color: Color
    pocket_color: Color | None
    logo: Logo | None
    proportions: Proportions
    fold_seed: int

    def body_colors(self) -> tuple[Color, ...]:
        """The colours that a print lies on: the main one, and the others if the pattern uses them."""
        return (self.main,) if self.pattern == "plain" else (self.main, self.second)

    def attributes(self) -> dict[str, str]:
        """Every visible attribute, in words; "none" where the garment has no such part."""
        plain = self.pattern == "plain"
        return {
            "neckline": self.neckline,
            "sleeves": self.sleeves,
            "length": self.length,
            "fit": self.fit,
            "pattern": self.pattern,
            "pattern_scale": "none" if plain else self.pattern_scale,
            "fabric": self.fabric,
            "collar": self.collar,
            "closure": self.closure,
            "button_color": self.button_color.name if self.closure == "buttons" else "none",
            "pocket": self.pocket,
            "pocket_color": self.pocket_color.name if self.pocket_color else "none",
            "trim": self.trim,
            "trim_color": "none" if self.trim == "none" else self.trim_color.name,
            "second_color": "none" if plain else self.second.name,
            "logo": self.logo.shape if self.logo else "none",
            "logo_place": self.logo.place if self.logo else "none",
            "logo_color": self.logo.color.name if self.logo else "none",
        }
