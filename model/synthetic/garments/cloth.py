"""The cloth of a drawn garment: its pattern and its fabric, as SVG paint.

Stripes and colour blocks are repeating gradients, the others small tiles: both stay a few hundred bytes however large
the garment is, which is what keeps drawing fast.
"""

from __future__ import annotations

import math
from typing import Final

from threadmatch.model.synthetic.garments.kinds import TOPS
from threadmatch.model.synthetic.garments.look import Look
from threadmatch.model.synthetic.garments.outlines import Part, Shape

_PERIOD: Final = {"fine": 13.0, "medium": 22.0, "bold": 38.0}
Run = tuple[str, float, float]
"""Colour, share of the period and opacity of one flat stretch of a repeating gradient."""

_FABRIC_LINES: Final = {  # period, angle, darkest opacity of lines that every part of this fabric shows
    "quilted": (34.0, 0.0, 0.34),
    "corduroy": (6.0, 90.0, 0.2),
    "cable": (24.0, 90.0, 0.26),
}


def cloth_defs(look: Look, shape: Shape) -> str:
    """Paint definitions that `part_fill` and `part_overlay` refer to, one of each a part."""
    defs = []
    for number, part in enumerate(shape.parts):
        if look.pattern != "plain":
            defs.append(_pattern_def(look, shape, part, f"cloth{number}"))
        if look.fabric in _FABRIC_LINES:
            period, angle, opacity = _FABRIC_LINES[look.fabric]
            runs = (("#000", 0.2, opacity), ("#000", 0.2, opacity / 3), ("#fff", 0.4, 0.06), ("#000", 0.2, opacity / 3))
            defs.append(_repeating(f"weave{number}", period, part.grain - angle, _stops(*runs)))
    return "".join(defs)


def part_fill(look: Look, part: Part, *, number: int) -> str:
    """Paint of part `number`; on sleeves checks lie over it, see `part_overlay`."""
    return look.main.hex if look.pattern == "plain" or _crossed(look, part) else f"url(#cloth{number})"


def part_overlay(look: Look, part: Part, *, number: int) -> str:
    """What lies over a part's paint: the crossing bands of checks, the lines of a fabric; "" for most."""
    paints = [f"cloth{number}h", f"cloth{number}v"] if _crossed(look, part) else []
    if look.fabric in _FABRIC_LINES:
        paints.append(f"weave{number}")
    return "".join(f'<path d="{part.path}" fill="url(#{paint})"/>' for paint in paints)


def _crossed(look: Look, part: Part) -> bool:
    """Whether a part's checks are two gradients, which turn with its grain, and not a tile, which is faster."""
    return look.pattern in {"checks", "tartan"} and part.grain != 0


def _pattern_def(look: Look, shape: Shape, part: Part, name: str) -> str:
    period = _PERIOD[look.pattern_scale]
    if look.pattern in {"stripes_h", "stripes_v"}:
        return _stripes(look, part.grain + (90 if look.pattern == "stripes_v" else 0), period, name)
    if look.pattern == "colour_block":
        return _colour_block(look, shape, part, name)
    if _crossed(look, part):
        return _bands(look, part.grain, period, f"{name}h") + _bands(look, part.grain + 90, period, f"{name}v")
    width, height, content = _TILES[look.pattern](look, period)
    # Never turned with the grain: a turned tile is resampled for every pixel and takes six times as long.
    return (
        f'<pattern id="{name}" width="{width:.1f}" height="{height:.1f}" patternUnits="userSpaceOnUse">'
        f'<rect width="{width:.1f}" height="{height:.1f}" fill="{look.main.hex}"/>{content}</pattern>'
    )


def _stops(*runs: Run) -> str:
    """Gradient stops of flat runs, with edges a fiftieth of the period soft."""
    text, at = "", 0.0
    for color, share, opacity in runs:
        paint = f'stop-color="{color}"' + ("" if opacity == 1 else f' stop-opacity="{opacity}"')
        text += f'<stop offset="{at + 0.01:.3f}" {paint}/><stop offset="{at + share - 0.01:.3f}" {paint}/>'
        at += share
    return text


def _repeating(name: str, period: float, angle: float, stops: str) -> str:
    return (
        f'<linearGradient id="{name}" gradientUnits="userSpaceOnUse" spreadMethod="repeat" x1="0" y1="0" x2="0" '
        f'y2="{period:.1f}" gradientTransform="rotate({angle:.0f})">{stops}</linearGradient>'
    )


def _stripes(look: Look, angle: float, period: float, name: str) -> str:
    main, second, third = look.main.hex, look.second.hex, look.third.hex
    runs: tuple[Run, ...]
    if look.pattern == "stripes_v" and look.pattern_variant == 0:  # pinstripes
        runs = ((main, 0.86, 1), (second, 0.14, 1))
    elif look.pattern_variant == 0:
        runs = ((main, 0.5, 1), (second, 0.5, 1))
    elif look.pattern_variant == 1:
        runs = ((main, 0.7, 1), (second, 0.3, 1))
    else:
        runs, period = ((main, 0.44, 1), (second, 0.2, 1), (third, 0.12, 1), (second, 0.24, 1)), period * 1.8
    return _repeating(name, period, angle, _stops(*runs))


def _bands(look: Look, angle: float, period: float, name: str) -> str:
    """Half-transparent bands in one direction; two of them cross to a check."""
    second, third = look.second.hex, look.third.hex
    if look.pattern == "checks":
        return _repeating(name, period, angle, _stops((second, 0.5, 0.5), (second, 0.5, 0)))
    runs = ((second, 0.34, 0.5), (second, 0.28, 0), (third, 0.06, 1), (second, 0.32, 0))
    return _repeating(name, period * 2.2, angle, _stops(*runs))


def _colour_block(look: Look, shape: Shape, part: Part, name: str) -> str:
    """Two or three flat areas: across, aslant, or sleeves unlike the body."""
    main, second, third = look.main.hex, look.second.hex, look.third.hex
    top, bottom = (20.0, shape.hem_y) if look.category in TOPS else (200.0, shape.hem_y)
    turn = 0.0
    runs: tuple[Run, ...]
    if look.pattern_variant == 0:
        runs = ((main, 0.46, 1), (second, 0.54, 1))
    elif look.pattern_variant == 1:
        runs = ((second, 0.3, 1), (main, 0.3, 1), (third, 0.4, 1))
    else:
        runs, turn = ((main, 0.5, 1), (second, 0.5, 1)), -32.0
    if part.name != "body" and look.pattern_variant != 1:
        runs = ((second, 0.5, 1), (second, 0.5, 1))
    middle = (top + bottom) / 2
    return (
        f'<linearGradient id="{name}" gradientUnits="userSpaceOnUse" x1="0" y1="{top:.0f}" x2="0" y2="{bottom:.0f}" '
        f'gradientTransform="rotate({turn:.0f} 0 {middle:.0f})">{_stops(*runs)}</linearGradient>'
    )


def _checks(look: Look, period: float) -> tuple[float, float, str]:
    half, second = period / 2, look.second.hex
    bands = f"M0 0H{period}V{half}H0Z", f"M0 0H{half}V{period}H0Z"
    return period, period, "".join(f'<path d="{band}" fill="{second}" opacity=".5"/>' for band in bands)


def _tartan(look: Look, period: float) -> tuple[float, float, str]:
    size = period * 2.2
    wide, thin, at = size * 0.34, size * 0.06, size * 0.65
    bands = f"M0 0H{size:.1f}V{wide:.1f}H0Z", f"M0 0H{wide:.1f}V{size:.1f}H0Z"
    lines = (
        f'<path d="M0 {at:.1f}H{size:.1f}M{at:.1f} 0V{size:.1f}" stroke="{look.third.hex}" stroke-width="{thin:.1f}"/>'
    )
    return size, size, "".join(f'<path d="{b}" fill="{look.second.hex}" opacity=".5"/>' for b in bands) + lines


def _dots(look: Look, period: float) -> tuple[float, float, str]:
    radius = period * (0.2, 0.27, 0.15)[look.pattern_variant]
    quarter = period / 4
    return (
        period,
        period,
        f'<g fill="{look.second.hex}"><circle cx="{quarter:.1f}" cy="{quarter:.1f}" r="{radius:.1f}"/>'
        f'<circle cx="{3 * quarter:.1f}" cy="{3 * quarter:.1f}" r="{radius:.1f}"/></g>',
    )


def _chevron(look: Look, period: float) -> tuple[float, float, str]:
    width, rise = period * 1.4, period * 0.5
    line = f"M{-width / 2:.1f} 0L0 {rise:.1f}L{width / 2:.1f} 0L{width:.1f} {rise:.1f}L{1.5 * width:.1f} 0"
    second = f'<path d="{line}" fill="none" stroke="{look.second.hex}" stroke-width="{period * 0.36:.1f}"/>'
    again = f'<g transform="translate(0 {period:.1f})">{second}</g>'
    return width, period, second + again


def _argyle(look: Look, period: float) -> tuple[float, float, str]:
    width, height = period * 1.7, period * 2.4
    middle, level = width / 2, height / 2
    return (
        width,
        height,
        f'<path d="M{middle:.1f} 0L{width:.1f} {level:.1f}L{middle:.1f} {height:.1f}L0 {level:.1f}Z" '
        f'fill="{look.second.hex}"/>'
        f'<path d="M0 0L{width:.1f} {height:.1f}M{width:.1f} 0L0 {height:.1f}" stroke="{look.third.hex}" '
        f'stroke-width="{max(period * 0.06, 1.2):.1f}"/>',
    )


def _floral(look: Look, period: float) -> tuple[float, float, str]:
    size = period * 2.1

    def flower(x: float, y: float, radius: float, petal: str, heart: str) -> str:
        petals = "".join(
            f'<circle cx="{x + radius * math.cos(turn):.1f}" cy="{y + radius * math.sin(turn):.1f}" '
            f'r="{radius * 0.62:.1f}"/>'
            for turn in (math.tau * k / 5 - 0.5 for k in range(5))
        )
        return (
            f'<g fill="{petal}">{petals}</g><circle cx="{x:.1f}" cy="{y:.1f}" r="{radius * 0.5:.1f}" fill="{heart}"/>'
        )

    second, third = look.second.hex, look.third.hex
    leaves = (
        f'<path d="M{size * 0.62:.1f} {size * 0.12:.1f}q{size * 0.16:.1f} 0 {size * 0.2:.1f} {size * 0.16:.1f}'
        f"q{-size * 0.16:.1f} 0 {-size * 0.2:.1f} {-size * 0.16:.1f}M{size * 0.1:.1f} {size * 0.62:.1f}"
        f"q{size * 0.14:.1f} {size * 0.02:.1f} {size * 0.16:.1f} {size * 0.2:.1f}q{-size * 0.14:.1f} "
        f"{-size * 0.02:.1f} "
        f'{-size * 0.16:.1f} {-size * 0.2:.1f}" fill="{third}" opacity=".8"/>'
    )
    small = (0.1, 0.14, 0.08)[look.pattern_variant]
    return (
        size,
        size,
        leaves
        + flower(size * 0.28, size * 0.28, size * (0.15, 0.13, 0.17)[look.pattern_variant], second, third)
        + flower(size * 0.74, size * 0.74, size * small, second if look.pattern_variant else third, look.main.hex),
    )


_TILES: Final = {
    "checks": _checks,
    "tartan": _tartan,
    "dots": _dots,
    "chevron": _chevron,
    "argyle": _argyle,
    "floral": _floral,
}
"""Tile of each pattern that is no gradient: (look, period) to (width, height, SVG)."""
