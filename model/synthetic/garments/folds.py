"""How the cloth of a drawn garment lies: dark and light strokes where cloth of this cut is pulled or hangs."""

from __future__ import annotations

from threadmatch.model.synthetic.garments.dyes import Dice
from threadmatch.model.synthetic.garments.kinds import TOPS
from threadmatch.model.synthetic.garments.look import Look
from threadmatch.model.synthetic.garments.outlines import WAIST_Y, Pose, Shape, at, shape_of

_STRENGTH = 0.34  # opacity of the darkest stroke


class _Strokes:
    """Collects folds; each is a dark stroke with a light one beside it, as if lit from the left."""

    def __init__(self, dice: Dice) -> None:
        self.dice = dice
        self.svg: list[str] = []

    def fold(self, start: tuple[float, float], end: tuple[float, float], *, width: float = 9.0) -> None:
        """A fold from one point to another, bent a little."""
        (x0, y0), (x1, y1) = start, end
        bend, tone, beside = self.dice.between(-14, 14), self.dice.between(0.45, 1.0), width * 0.9
        middle_x, middle_y = (x0 + x1) / 2 + bend, (y0 + y1) / 2 + bend
        dark = f"M{at(x0, y0)}Q{at(middle_x, middle_y)} {at(x1, y1)}"
        light = f"M{at(x0 - beside, y0)}Q{at(middle_x - beside, middle_y - 3)} {at(x1 - beside, y1)}"
        self._stroke(dark, "#000", tone, width * self.dice.between(0.7, 1.5))
        self._stroke(light, "#fff", 0.7 * tone, width * self.dice.between(0.6, 1.2))

    def _stroke(self, path: str, color: str, tone: float, width: float) -> None:
        opacity = tone * _STRENGTH
        self.svg.append(
            f'<path d="{path}" stroke="{color}" stroke-opacity="{opacity:.2f}" stroke-width="{width:.1f}"/>'
        )


def fold_strokes(look: Look, pose: Pose, *, dice: Dice, back: bool = False) -> str:
    """SVG elements in body units: strokes on middle grey, which means no fold."""
    strokes = _Strokes(dice)
    shape = shape_of(look, pose, back=back)
    if look.category in TOPS:
        _top_folds(look, shape, strokes)
        _sleeve_folds(look, shape, strokes)
    elif look.category == "skirt":
        _hanging_folds(shape.waist, WAIST_Y + 20, (shape.hem, shape.hem_y), strokes)
    else:
        _leg_folds(shape, strokes)
    ground = '<path d="M-2000-2000H2000V2000H-2000Z" fill="#808080"/>'
    return f'{ground}<g fill="none" stroke-linecap="round">{"".join(strokes.svg)}</g>'


def _top_folds(look: Look, shape: Shape, strokes: _Strokes) -> None:
    dice, chest, armpit_y, hem_y = strokes.dice, shape.chest, shape.armpit_y, shape.hem_y
    for side in (-1, 1):
        for _ in range(2):  # pulled from the armpits
            start = (side * chest * 0.96, armpit_y + dice.between(0, 12))
            strokes.fold(start, (side * chest * dice.between(0.2, 0.55), armpit_y + dice.between(22, 85)))
    if look.category in {"dress", "coat"}:
        _hanging_folds(chest * 0.7, WAIST_Y + 5, (shape.hem, hem_y), strokes)
        return
    for _ in range(3):  # creased at the waist
        side = 1 if dice.chance(0.5) else -1
        y = dice.between(armpit_y + 40, hem_y - 20)
        end = (side * chest * dice.between(0.05, 0.5), y + dice.between(-6, 34))
        strokes.fold((side * chest * 0.95, y), end, width=8)
    for _ in range(2):
        x = chest * dice.between(-0.7, 0.7)
        strokes.fold((x, hem_y - dice.between(50, 110)), (x + dice.between(-16, 16), hem_y + 4), width=10)


def _sleeve_folds(look: Look, shape: Shape, strokes: _Strokes) -> None:
    dice = strokes.dice
    for end in shape.sleeve_ends:
        x0, y0 = end.side * shape.chest * 0.98, 66.0
        for _ in range(2 if look.sleeves == "short" else 4):
            share = dice.between(0.2, 0.95)
            x, y = x0 + (end.x - x0) * share, y0 + (end.y - y0) * share
            across = end.half_width * 1.1
            start = (x - across, y - dice.between(-16, 10))
            strokes.fold(start, (x + across, y + dice.between(-16, 16)), width=7)


def _leg_folds(shape: Shape, strokes: _Strokes) -> None:
    dice, hip, hem_y = strokes.dice, shape.chest, shape.hem_y
    for side in (-1, 1):
        start = (side * 6.0, 318.0)  # whiskers of the crotch
        strokes.fold(start, (side * hip * dice.between(0.5, 0.85), 318 + dice.between(-28, 30)), width=8)
        strokes.fold((side * 8.0, 330.0), (side * hip * dice.between(0.4, 0.7), 350 + dice.between(0, 30)), width=8)
        x0, x1 = side * hip * 0.5, side * max(shape.hem - 26, 30)
        strokes.fold((x0, 300), (x1, hem_y - 10), width=11)
        for _ in range(3):
            y = dice.between(380, max(hem_y - 20, 400))
            strokes.fold((x1 - 26, y), (x1 + 26, y + dice.between(-18, 18)), width=7)


def _hanging_folds(waist: float, top: float, hem: tuple[float, float], strokes: _Strokes) -> None:
    """Six folds that fan out from a waist to a hem (half width, height)."""
    dice, (half, hem_y) = strokes.dice, hem
    for number in range(6):
        share = (number + dice.between(0.15, 0.85)) / 3 - 1
        start = (share * waist, top + dice.between(0, 40))
        strokes.fold(start, (share * half, hem_y + 6), width=dice.between(8, 15))
