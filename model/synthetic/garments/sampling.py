"""Draw the look of one garment from a seeded stream, within what its category allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from threadmatch.model.synthetic.garments.dyes import NEUTRALS, PALETTE, Color, Dice, contrasting
from threadmatch.model.synthetic.garments.kinds import KINDS, LOGO_SHAPES, PATTERN_SCALES, Kind
from threadmatch.model.synthetic.garments.look import Logo, Look, Proportions

_WEIGHTS: Final = {
    "t-shirt": 5, "tank_top": 2, "long_sleeve": 3, "polo": 3, "shirt": 5, "sweater": 4, "hoodie": 4, "cardigan": 2,
    "jacket": 4, "coat": 2, "dress": 5, "skirt": 3, "trousers": 4, "shorts": 3,
}  # fmt: skip
CATEGORY_DRAW: Final = tuple(category for category, weight in _WEIGHTS.items() for _ in range(weight))
"""Each category as often as it is drawn."""

_BLUES: Final = tuple(c for c in PALETTE if c.name in {"denim", "navy", "sky", "blue", "charcoal", "black"})
_LEATHERS: Final = tuple(c for c in PALETTE if c.name in {"black", "brown", "camel", "burgundy", "charcoal", "olive"})


def sample_look(dice: Dice, *, categories: Sequence[str] = CATEGORY_DRAW) -> Look:
    """Draw a look of one of the categories; every stream gives a valid one."""
    category = dice.pick(categories)
    kind = KINDS[category]
    fabric = dice.pick(kind.fabrics)
    pattern = dice.pick(kind.patterns) if fabric in {"woven", "jersey", "knit", "wool", "fleece"} else "plain"
    main = _main_color(dice, fabric)
    second = contrasting(dice, main)
    third = contrasting(dice, main, second)
    return Look(
        category=category,
        neckline=dice.pick(kind.necklines),
        sleeves=dice.pick(kind.sleeves),
        length=dice.pick(kind.lengths),
        fit=dice.pick(kind.fits),
        pattern=pattern,
        pattern_scale=dice.pick(PATTERN_SCALES),
        pattern_variant=dice.below(3),
        fabric=fabric,
        collar=dice.pick(kind.collars),
        closure=dice.pick(kind.closures),
        pocket=dice.pick(kind.pockets),
        trim=dice.pick(kind.trims),
        main=main,
        second=second,
        third=third,
        trim_color=contrasting(dice, main),
        button_color=contrasting(dice, main),
        pocket_color=contrasting(dice, main) if dice.chance(0.15) else None,
        logo=_sample_logo(dice, kind, (main,) if pattern == "plain" else (main, second)),
        proportions=Proportions(
            width=dice.between(0.94, 1.08),
            length=dice.between(0.93, 1.08),
            sleeve=dice.between(0.9, 1.12),
            neck=dice.between(0.88, 1.15),
        ),
        fold_seed=dice.below(1 << 30),
    )


def _main_color(dice: Dice, fabric: str) -> Color:
    if fabric == "denim":
        options = _BLUES
    elif fabric == "leather":
        options = _LEATHERS
    else:
        options = NEUTRALS if dice.chance(0.3) else PALETTE
    return dice.pick(options).varied(dice)


def _sample_logo(dice: Dice, kind: Kind, under: tuple[Color, ...]) -> Logo | None:
    wanted = dice.chance(kind.logo_share)
    place = dice.pick(kind.logo_places)
    size = dice.between(2.6, 4.2) if place == "centre" else dice.between(0.9, 1.5)
    logo = Logo(dice.pick(LOGO_SHAPES), place, contrasting(dice, *under), size)
    return logo if wanted else None
