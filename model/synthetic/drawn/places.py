"""Where street queries are taken: rooms, streets, shops, parks, walls, floors, as SVG in a frame of `FRAME`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from threadmatch.model.synthetic.garments.dyes import PALETTE, Color, Dice

FRAME: Final = (360.0, 480.0)
"""Width and height that places are drawn in; the picture stretches it."""

_WALLS: Final = (
    "#e9e4da",
    "#d7dcd9",
    "#cfc3b4",
    "#b9c4c9",
    "#a7b39f",
    "#d9b9a5",
    "#8c97a3",
    "#5f6b74",
    "#eadfd0",
    "#c8b7c9",
)
_FLOORS: Final = ("#b08a5e", "#8a633f", "#c9a77a", "#6f6a64", "#a9a39a", "#5b4636")
_STONES: Final = ("#a6a29b", "#8d8f92", "#b5a58f", "#77716c", "#9aa4a8")
_LEAVES: Final = ("#3f6b3a", "#5c8a45", "#2f5438", "#7a9a4e")


def rect(x: float, y: float, w: float, h: float, fill: str, extra: str = "") -> str:
    """An SVG rectangle."""
    return f'<rect x="{x:.0f}" y="{y:.0f}" width="{w:.0f}" height="{h:.0f}" fill="{fill}" {extra}/>'


def _room(dice: Dice) -> str:
    wall, floor, level = dice.pick(_WALLS), dice.pick(_FLOORS), dice.between(360, 430)
    parts = [rect(0, 0, 360, 480, wall), rect(0, level, 360, 120, floor), rect(0, level - 8, 360, 9, "#f4f1ea")]
    for _ in range(dice.below(3) + 1):  # pictures
        x, y, w, h = dice.between(-20, 300), dice.between(20, 150), dice.between(50, 100), dice.between(50, 120)
        parts.append(rect(x, y, w, h, dice.pick(("#2b2724", "#efe9dd", "#8a633f"))))
        parts.append(rect(x + 6, y + 6, w - 12, h - 12, dice.pick(PALETTE).hex))
        parts.append(
            f'<circle cx="{x + w * 0.5:.0f}" cy="{y + h * 0.55:.0f}" r="{w * 0.22:.0f}" '
            f'fill="{dice.pick(PALETTE).hex}"/>'
        )
    if dice.chance(0.55):  # window
        x = dice.between(-30, 260)
        parts.append(
            rect(x, 30, 120, 190, "#f6f6f3")
            + rect(x + 8, 38, 48, 174, "#bcd9ee")
            + rect(x + 64, 38, 48, 174, "#cfe4f1")
        )
    if dice.chance(0.6):  # sofa
        x, color = dice.between(-90, 220), dice.pick(PALETTE)
        parts.append(
            rect(x, level - 80, 230, 70, color.shaded(0.85), 'rx="16"')
            + rect(x - 12, level - 40, 254, 60, color.hex, 'rx="14"')
            + rect(x + 20, level - 66, 60, 46, dice.pick(PALETTE).hex, 'rx="10" transform="rotate(4)"')
        )
    if dice.chance(0.5):  # plant
        x = dice.between(10, 340)
        parts.append(
            _bush(dice, x, level - 70, 60)
            + f'<path d="M{x - 22:.0f} {level - 30:.0f}h44l-6 56h-32Z" fill="{dice.pick(_STONES)}"/>'
        )
    return "".join(parts)


def _bush(dice: Dice, x: float, y: float, size: float) -> str:
    leaves = "".join(
        f'<ellipse rx="{size * 0.14:.0f}" ry="{size * 0.6:.0f}" fill="{dice.pick(_LEAVES)}" '
        f'transform="translate({x:.0f} {y:.0f})rotate({dice.between(-75, 75):.0f})translate(0 {-size * 0.45:.0f})"/>'
        for _ in range(9)
    )
    return f"<g>{leaves}</g>"


def _street(dice: Dice) -> str:
    level = dice.between(330, 400)
    sky = dice.pick(("#bcd6ea", "#dfe6ea", "#f2d9c2", "#9fb4c8"))
    parts = [rect(0, 0, 360, 480, sky)]
    x = -30.0
    while x < 360:
        width, top, color = dice.between(70, 150), dice.between(-40, 120), dice.pick(PALETTE)
        parts.append(rect(x, top, width, level - top, _muted(color)))
        glass = dice.pick(("#54697d", "#8fa6b6", "#3d4a57", "#f1dca4"))
        windows = "".join(
            f"M{x + 12 + column * 30:.0f} {top + 16 + row * 42:.0f}h17v26h-17Z"
            for column in range(int((width - 14) // 30))
            for row in range(int(max(level - top - 100, 0) // 42))
        )
        parts.append(f'<path d="{windows}" fill="{glass}"/>')
        if dice.chance(0.7):  # shop front with an awning
            parts.append(
                rect(x + 6, level - 82, width - 12, 80, "#2f3a42") + rect(x + 14, level - 70, width - 28, 62, "#d8cba6")
            )
            parts.append(rect(x + 2, level - 92, width - 4, 20, dice.pick(PALETTE).hex))
        x += width
    parts.append(rect(0, level, 360, 150, dice.pick(_STONES)))
    parts.append(
        f'<path d="M0 {level + 60:.0f}H360V480H0Z" fill="#5d5f63"/><path d="M0 {level + 56:.0f}H360v7H0Z" '
        'fill="#d5d2ca"/>'
    )
    if dice.chance(0.6):  # parked car
        x, color = dice.between(-60, 260), dice.pick(PALETTE)
        parts.append(
            f'<path d="M{x:.0f} {level + 22:.0f}q4 -34 40 -36q20 -34 54 -34h40q30 0 48 36q36 2 38 34v22H{x:.0f}Z" '
            f'fill="{color.hex}"/>'
            f'<path d="M{x + 52:.0f} {level - 16:.0f}q14 -24 42 -24h36q22 0 34 24Z" fill="#33424f"/>'
            f'<circle cx="{x + 48:.0f}" cy="{level + 42:.0f}" r="20" fill="#222"/><circle cx="{x + 172:.0f}" '
            f'cy="{level + 42:.0f}" r="20" fill="#222"/>'
        )
    if dice.chance(0.5):
        parts.append(_tree(dice, dice.between(20, 340), level))
    parts.extend(_passer(dice, dice.between(0, 360), level + dice.between(0, 30)) for _ in range(dice.below(3)))
    return "".join(parts)


def _muted(color: Color) -> str:
    red, green, blue = ((value + 2 * 150) // 3 for value in color.rgb)
    return f"#{red:02x}{green:02x}{blue:02x}"


def _tree(dice: Dice, x: float, level: float) -> str:
    crown = "".join(
        f'<circle cx="{x + dice.between(-46, 46):.0f}" cy="{level - 170 + dice.between(-50, 50):.0f}" '
        f'r="{dice.between(26, 46):.0f}" fill="{dice.pick(_LEAVES)}"/>'
        for _ in range(7)
    )
    return rect(x - 7, level - 150, 14, 156, "#5b4636") + crown


def _passer(dice: Dice, x: float, level: float) -> str:
    """Somebody far away."""
    tall, coat, legs = dice.between(90, 150), dice.pick(PALETTE).hex, dice.pick(("#2b2f3a", "#4b5666", "#1f1f22"))
    return (
        f'<g transform="translate({x:.0f} {level:.0f})scale({tall / 150:.2f})"><path d="M-14 -70h28l-4 72h-8l-2 '
        f'-50l-4 50h-8Z" fill="{legs}"/>'
        f'<path d="M-20 -122q20 -10 40 0l5 62h-50Z" fill="{coat}"/><circle cy="-136" r="13" fill="#c99676"/></g>'
    )


def _shop(dice: Dice) -> str:
    level = dice.between(390, 430)
    parts = [
        rect(0, 0, 360, 480, dice.pick(("#efe9e1", "#dfe0df", "#3b3a3c", "#cdbca6"))),
        rect(0, level, 360, 100, dice.pick(_FLOORS)),
    ]
    for rail in range(2):  # rows of hanging clothes
        y = 70 + rail * 165 + dice.between(-12, 12)
        x = dice.between(-30, 10)
        parts.append(rect(0, y - 6, 360, 4, "#777"))
        while x < 370:
            width, color = dice.between(10, 24), dice.pick(PALETTE)
            drop = dice.between(95, 140)
            parts.append(
                f'<path d="M{x:.0f} {y + 10:.0f}l{width / 2:.0f} -12l{width / 2:.0f} 12v{drop:.0f}h{-width:.0f}Z" '
                f'fill="{color.hex}"/>'
            )
            parts.append(rect(x + width * 0.7, y + 8, width * 0.3, drop, color.shaded(0.75)))
            x += width + dice.between(-3, 5)
    if dice.chance(0.5):  # folded stacks on a table
        x = dice.between(-40, 200)
        parts.append(rect(x, level - 30, 220, 16, "#8a633f"))
        parts.extend(
            rect(x + 14 + 50 * k, level - 42 - 12 * row, 42, 11, dice.pick(PALETTE).hex, 'rx="4"')
            for k in range(4)
            for row in range(3)
        )
    return "".join(parts)


def _park(dice: Dice) -> str:
    level = dice.between(230, 310)
    grass = dice.pick(("#7fa35a", "#8fae63", "#6b8f52", "#b3a86a"))
    parts = [rect(0, 0, 360, 480, dice.pick(("#b9d8ee", "#dce9f0", "#f3dcc0")))]
    hill = dice.between(-30, 40)
    parts.append(
        f'<path d="M0 {level:.0f}Q90 {level - 60 + hill:.0f} 180 {level - 16:.0f}T360 {level - 30:.0f}V480H0Z" '
        'fill="#55784a"/>'
    )
    parts.append(rect(0, level, 360, 300, grass))
    parts.append(
        f'<path d="M{dice.between(60, 300):.0f} {level:.0f}q-40 120 {dice.between(-220, -40):.0f} 260h240q-20 -140 '
        '-16 -260Z" fill="#cbb890"/>'
    )
    parts.extend(_tree(dice, dice.between(0, 360), level + dice.between(0, 70)) for _ in range(dice.below(3) + 2))
    if dice.chance(0.5):
        x = dice.between(0, 260)
        parts.append(
            rect(x, level + 60, 130, 10, "#8a633f")
            + rect(x, level + 38, 130, 8, "#8a633f")
            + rect(x + 10, level + 40, 6, 60, "#333")
            + rect(x + 112, level + 40, 6, 60, "#333")
        )
    parts.extend(_passer(dice, dice.between(0, 360), level + 30) for _ in range(dice.below(2)))
    return "".join(parts)


def _wall(dice: Dice) -> str:
    """Brick, tiles or plaster, with a poster or a door."""
    color, joint = dice.pick(("#9c5a45", "#b9b2a6", "#e6e2da", "#7c8a8f", "#c9a58b")), dice.pick(("#d9d0c3", "#6f655d"))
    wide, high = dice.between(34, 60), dice.between(16, 40)
    rows = []
    for row in range(int(480 // high) + 1):
        y, shift = row * high, (row % 2) * wide / 2
        rows.append(
            f"M0 {y:.0f}H360"
            + "".join(f"M{shift + k * wide:.0f} {y:.0f}v{high:.0f}" for k in range(int(360 // wide) + 1))
        )
    parts = [
        rect(0, 0, 360, 480, color),
        f'<path d="{"".join(rows)}" stroke="{joint}" stroke-width="2.4" opacity=".8"/>',
    ]
    if dice.chance(0.6):
        x, y = dice.between(-30, 260), dice.between(10, 160)
        parts.append(
            rect(x, y, 110, 150, dice.pick(PALETTE).hex)
            + rect(x + 14, y + 20, 82, 20, "#f4f1ea")
            + rect(x + 14, y + 56, 50, 70, dice.pick(PALETTE).hex)
        )
    if dice.chance(0.5):
        x = dice.between(-40, 280)
        parts.append(
            rect(x, 90, 130, 400, dice.pick(PALETTE).shaded(0.8))
            + rect(x + 14, 110, 102, 140, "#2f3a42")
            + f'<circle cx="{x + 112:.0f}" cy="300" r="6" fill="#d9c27a"/>'
        )
    parts.append(rect(0, 440, 360, 60, dice.pick(_STONES)))
    return "".join(parts)


def _night(dice: Dice) -> str:
    """Lights out of focus."""
    lights = "".join(
        f'<circle cx="{dice.between(0, 360):.0f}" cy="{dice.between(0, 400):.0f}" r="{dice.between(6, 32):.0f}" '
        f'fill="{dice.pick(("#ffd98a", "#ff9c6b", "#f2f2ff", "#8fb8ff", "#ff7a8a", "#9be3c0"))}" '
        f'opacity="{dice.between(0.25, 0.75):.2f}"/>'
        for _ in range(34)
    )
    return (
        rect(0, 0, 360, 480, dice.pick(("#1e2230", "#2b2328", "#23302f"))) + rect(0, 400, 360, 90, "#191a1f") + lights
    )


def _floor(dice: Dice) -> str:
    """A floor, bed or rug from above, with things lying about."""
    base = dice.pick((*_FLOORS, *_WALLS))
    parts = [rect(0, 0, 360, 480, base)]
    if dice.chance(0.6):  # boards
        wide = dice.between(34, 70)
        edges = "".join(
            f"M{k * wide:.0f} 0V480M{k * wide:.0f} {dice.between(0, 480):.0f}h{wide:.0f}"
            for k in range(int(360 // wide) + 1)
        )
        parts.append(f'<path d="{edges}" stroke="#000" stroke-opacity=".28" stroke-width="2"/>')
    else:  # a crumpled sheet
        parts.extend(
            f'<path d="M{dice.between(-50, 360):.0f} {dice.between(0, 480):.0f}q{dice.between(-80, 80):.0f} '
            f"{dice.between(-80, 80):.0f} "
            f'{dice.between(40, 200):.0f} {dice.between(-120, 120):.0f}" fill="none" '
            f'stroke="{dice.pick(("#000", "#fff"))}" stroke-opacity=".13" stroke-width="{dice.between(8, 30):.0f}"/>'
            for _ in range(14)
        )
    for _ in range(dice.below(4) + 1):
        x, y, turn, color = dice.between(-20, 360), dice.between(-20, 480), dice.between(0, 360), dice.pick(PALETTE)
        thing = dice.pick(("book", "cup", "shoe", "cloth"))
        shape = {
            "book": rect(-34, -46, 68, 92, color.hex) + rect(-24, -30, 48, 10, "#f4f1ea"),
            "cup": f'<circle r="30" fill="#efece4"/><circle r="19" fill="{color.shaded(0.6)}"/>',
            "shoe": f'<path d="M-20 -60Q0 -78 20 -60Q26 0 20 52Q0 74 -20 52Q-26 0 -20 -60Z" fill="{color.hex}"/>'
            '<path d="M-9 -30h18v50h-18Z" fill="#f4f1ea"/>',
            "cloth": f'<path d="M-70 -40Q-10 -70 60 -44Q84 10 50 56Q-20 78 -66 40Z" fill="{color.hex}"/>',
        }[thing]
        parts.append(f'<g transform="translate({x:.0f} {y:.0f})rotate({turn:.0f})">{shape}</g>')
    return "".join(parts)


STANDING_PLACES: Final[dict[str, Callable[[Dice], str]]] = {
    "room": _room,
    "street": _street,
    "shop": _shop,
    "park": _park,
    "wall": _wall,
    "night": _night,
}
"""Where somebody stands or a garment hangs: name to drawer of a whole frame."""

LYING_PLACES: Final[dict[str, Callable[[Dice], str]]] = {"floor": _floor}
"""Where a garment is laid out."""
