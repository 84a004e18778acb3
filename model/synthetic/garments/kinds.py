"""The catalogue of what can be drawn: categories, and the words that each attribute may take in each category."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from threadmatch.model.synthetic.garments.look import Look

PATTERNS: Final = (
    "plain", "stripes_h", "stripes_v", "checks", "tartan", "dots", "colour_block", "chevron", "argyle", "floral",
)  # fmt: skip
PATTERN_SCALES: Final = ("fine", "medium", "bold")
LOGO_SHAPES: Final = (
    "circle", "ring", "star", "triangle", "diamond", "heart", "bolt", "leaf", "wave", "cross", "bars", "crown",
    "mountain", "moon", "arrow", "hexagon",
)  # fmt: skip

_TEE_PATTERNS = (
    "plain", "plain", "plain", "plain", "stripes_h", "stripes_h", "colour_block", "dots", "chevron", "floral",
    "stripes_v", "tartan",
)  # fmt: skip
_WOVEN_PATTERNS = ("plain", "plain", "stripes_v", "stripes_v", "checks", "checks", "tartan", "dots", "floral")
_KNIT_PATTERNS = ("plain", "plain", "plain", "stripes_h", "stripes_h", "argyle", "chevron", "colour_block")
_OUTER_PATTERNS = ("plain", "plain", "plain", "plain", "colour_block", "checks", "tartan")
_DRESS_PATTERNS = (
    "plain", "plain", "floral", "floral", "dots", "dots", "stripes_h", "stripes_v", "checks", "chevron", "colour_block",
)  # fmt: skip
_LEG_PATTERNS = ("plain", "plain", "plain", "plain", "plain", "checks", "stripes_v", "tartan")
_TOP_LENGTHS = ("regular", "regular", "regular", "cropped", "long")
_SKIRT_LENGTHS = ("mini", "knee", "knee", "midi", "maxi")
_TOP_FITS = ("slim", "regular", "regular", "loose")


@dataclass(frozen=True, slots=True)
class Kind:
    """One category. A word that stands twice in a field is drawn twice as often.

    Fields besides the words: `noun` for names, `price` (lowest, highest), `logo_share` 0..1 of garments with a print,
    `varies` the parts in which a family's members may differ.
    """

    noun: str
    price: tuple[int, int]
    varies: tuple[str, ...]
    necklines: tuple[str, ...] = ("none",)
    sleeves: tuple[str, ...] = ("none",)
    lengths: tuple[str, ...] = _TOP_LENGTHS
    fits: tuple[str, ...] = _TOP_FITS
    patterns: tuple[str, ...] = _TEE_PATTERNS
    fabrics: tuple[str, ...] = ("jersey",)
    collars: tuple[str, ...] = ("none",)
    closures: tuple[str, ...] = ("none",)
    pockets: tuple[str, ...] = ("none",)
    trims: tuple[str, ...] = ("none",)
    logo_places: tuple[str, ...] = ("chest",)
    logo_share: float = 0.0


KINDS: Final[dict[str, Kind]] = {
    "t-shirt": Kind(
        "T-shirt", (12, 35), ("logo", "logo", "trim", "pocket", "neckline"),
        necklines=("crew", "crew", "v", "scoop", "boat"), sleeves=("short",),
        pockets=("none", "none", "none", "chest", "flap"), trims=("none", "none", "ringer", "double"),
        logo_places=("chest", "chest", "centre", "centre", "hem", "sleeve"), logo_share=0.45,
    ),
    "tank_top": Kind(
        "tank top", (10, 28), ("logo", "trim", "neckline"),
        necklines=("scoop", "scoop", "v", "square"), trims=("none", "ringer"), logo_places=("chest", "centre", "hem"),
        logo_share=0.4,
    ),
    "long_sleeve": Kind(
        "long-sleeve top", (18, 45), ("logo", "trim", "pocket", "neckline"),
        necklines=("crew", "crew", "v", "scoop", "boat", "turtleneck"), sleeves=("long", "long", "three_quarter"),
        pockets=("none", "none", "chest", "flap"), trims=("none", "none", "ringer", "double"),
        logo_places=("chest", "centre", "sleeve"), logo_share=0.3,
    ),
    "polo": Kind(
        "polo shirt", (25, 60), ("logo", "collar", "trim", "pocket"),
        necklines=("collar",), sleeves=("short", "short", "long"), collars=("point", "rounded", "band"),
        closures=("half_buttons",), fabrics=("jersey", "knit"), pockets=("none", "none", "chest"),
        trims=("none", "ringer", "double"), logo_places=("chest", "sleeve"), logo_share=0.5,
    ),
    "shirt": Kind(
        "shirt", (30, 80), ("collar", "pocket", "buttons", "logo"),
        necklines=("collar",), sleeves=("long", "long", "short"), patterns=_WOVEN_PATTERNS,
        fabrics=("woven", "woven", "denim"), collars=("point", "point", "rounded", "band"), closures=("buttons",),
        pockets=("none", "chest", "two_chest", "flap"), logo_share=0.15,
    ),
    "sweater": Kind(
        "sweater", (35, 110), ("logo", "trim", "neckline"),
        necklines=("crew", "crew", "v", "turtleneck", "boat"), sleeves=("long",), patterns=_KNIT_PATTERNS,
        fabrics=("knit", "knit", "cable"), trims=("rib", "rib", "ringer", "double"),
        logo_places=("chest", "centre"), logo_share=0.2,
    ),
    "hoodie": Kind(
        "hoodie", (35, 90), ("logo", "logo", "pocket", "trim"),
        necklines=("hood",), sleeves=("long",), patterns=("plain", "plain", "plain", "colour_block", "stripes_h"),
        fabrics=("fleece",), closures=("none", "none", "zip"), pockets=("kangaroo", "kangaroo", "none", "slant"),
        trims=("rib", "rib", "ringer", "double"), logo_places=("chest", "centre", "sleeve"), logo_share=0.6,
    ),
    "cardigan": Kind(
        "cardigan", (35, 95), ("buttons", "pocket", "trim"),
        necklines=("deep_v",), sleeves=("long",), patterns=_KNIT_PATTERNS, fabrics=("knit", "cable"),
        closures=("buttons",), pockets=("none", "patch", "chest"), trims=("rib", "ringer", "double"), logo_share=0.1,
    ),
    "jacket": Kind(
        "jacket", (60, 190), ("logo", "pocket", "collar"),
        necklines=("collar",), sleeves=("long",), lengths=("regular", "regular", "cropped"),
        patterns=_OUTER_PATTERNS, fabrics=("woven", "denim", "quilted", "leather"),
        collars=("point", "band", "lapel", "rounded"), closures=("zip", "zip", "buttons"),
        pockets=("slant", "two_chest", "flap_low", "patch"), trims=("none", "rib", "ringer"),
        logo_places=("chest", "sleeve"), logo_share=0.25,
    ),
    "coat": Kind(
        "coat", (90, 280), ("buttons", "pocket", "collar"),
        necklines=("collar",), sleeves=("long",), lengths=("knee", "knee", "midi"),
        fits=("regular", "loose", "slim"), patterns=_OUTER_PATTERNS, fabrics=("woven", "wool", "quilted"),
        collars=("lapel", "lapel", "point", "band"), closures=("buttons", "double_buttons"),
        pockets=("flap_low", "patch", "slant"), trims=("none", "none", "belt"),
    ),
    "dress": Kind(
        "dress", (30, 120), ("neckline", "trim", "pocket"),
        necklines=("scoop", "v", "square", "boat", "crew"), sleeves=("none", "none", "short", "long", "three_quarter"),
        lengths=_SKIRT_LENGTHS, fits=("slim", "a_line", "a_line", "flared"), patterns=_DRESS_PATTERNS,
        fabrics=("jersey", "woven"), pockets=("none", "none", "chest", "patch"),
        trims=("none", "belt", "hem", "double"),
    ),
    "skirt": Kind(
        "skirt", (20, 70), ("trim", "pocket", "logo"),
        lengths=_SKIRT_LENGTHS, fits=("slim", "a_line", "a_line", "flared", "pleated"), patterns=_DRESS_PATTERNS,
        fabrics=("woven", "denim", "jersey"), closures=("none", "none", "buttons"),
        pockets=("none", "none", "slant", "patch"), trims=("none", "hem", "double", "belt"),
        logo_places=("hip", "hem"), logo_share=0.1,
    ),
    "trousers": Kind(
        "trousers", (30, 110), ("pocket", "trim", "logo"),
        lengths=("regular", "regular", "long", "cropped"), fits=("slim", "regular", "wide", "flared"),
        patterns=_LEG_PATTERNS, fabrics=("woven", "denim", "denim", "corduroy"),
        pockets=("slant", "patch", "cargo"), trims=("none", "none", "hem", "side_stripe", "belt"),
        logo_places=("hip", "thigh"), logo_share=0.12,
    ),
    "shorts": Kind(
        "shorts", (18, 50), ("pocket", "trim", "logo"),
        lengths=("mini", "regular", "regular", "knee"), fits=("slim", "regular", "wide"),
        patterns=(*_LEG_PATTERNS, "floral", "stripes_h", "colour_block", "dots"), fabrics=("woven", "denim", "jersey"),
        pockets=("slant", "patch", "cargo"), trims=("none", "hem", "side_stripe", "belt"),
        logo_places=("hip", "thigh"), logo_share=0.25,
    ),
}  # fmt: skip
"""Every category that can be drawn."""

TOPS: Final = frozenset(KINDS) - {"skirt", "trousers", "shorts"}
"""Categories worn on the upper body (a dress and a coat reach below it)."""

_PATTERN_WORDS: Final = {
    "plain": "", "stripes_h": "striped", "stripes_v": "pinstriped", "checks": "gingham", "tartan": "tartan",
    "dots": "polka-dot", "colour_block": "colour-block", "chevron": "zigzag", "argyle": "argyle", "floral": "floral",
}  # fmt: skip
_NECK_WORDS: Final = {
    "crew": "crew-neck", "v": "V-neck", "scoop": "scoop-neck", "boat": "boat-neck", "square": "square-neck",
    "turtleneck": "roll-neck",
}  # fmt: skip
_FABRIC_WORDS: Final = {
    "denim": "denim", "quilted": "quilted", "cable": "cable-knit", "leather": "leather", "wool": "wool",
    "corduroy": "corduroy",
}  # fmt: skip


def garment_name(look: Look) -> str:
    """What a shop would call it, e.g. "Striped crew-neck T-shirt" or "Navy quilted jacket"."""
    color = "" if look.main.name == look.fabric else look.main.name
    words = [_PATTERN_WORDS[look.pattern] or color]
    if look.category in {"dress", "skirt", "coat"} and look.length in {"mini", "midi", "maxi"}:
        words.append(look.length)
    words.append(_FABRIC_WORDS.get(look.fabric, ""))
    words.append(_NECK_WORDS.get(look.neckline, ""))
    if look.category == "shirt" and look.sleeves == "short":
        words.append("short-sleeve")
    noun = KINDS[look.category].noun
    if look.category == "hoodie" and look.closure == "zip":
        noun = "zip hoodie"
    text = " ".join(word for word in (*words, noun) if word)
    return text[0].upper() + text[1:]
