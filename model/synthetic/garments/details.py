"""The parts that siblings differ in: collars, closures, pockets, trims and prints, as SVG in body units."""

from __future__ import annotations

from typing import Final

from threadmatch.model.synthetic.garments.dyes import Color
from threadmatch.model.synthetic.garments.kinds import TOPS
from threadmatch.model.synthetic.garments.look import Look
from threadmatch.model.synthetic.garments.outlines import WAIST_Y, Shape, at

_LOGO_PATHS: Final = {  # in a square of -1..1
    "circle": "M-1 0A1 1 0 1 1 1 0A1 1 0 1 1-1 0Z",
    "ring": "M-1 0A1 1 0 1 1 1 0A1 1 0 1 1-1 0ZM-.5 0A.5 .5 0 1 0 .5 0A.5 .5 0 1 0-.5 0Z",
    "star": "M0-1L.26-.33 .97-.3 .42 .15 .6 .84 0 .45-.6 .84-.42 .15-.97-.3-.26-.33Z",
    "triangle": "M0-.95L1 .8H-1Z",
    "diamond": "M0-1L.75 0 0 1-.75 0Z",
    "heart": "M0 .95C-1.5-.1-.85-1 -.35-.85C-.15-.8 0-.6 0-.4C0-.6 .15-.8 .35-.85C.85-1 1.5-.1 0 .95Z",
    "bolt": "M.25-1L-.65 .2H-.05L-.3 1 .65-.25H.1Z",
    "leaf": "M-.85 .85C-1-.6 .1-1 .95-.9C1 .2 .4 1-.5 .75L.3-.2-.7 .95Z",
    "wave": "M-1-.2Q-.5-1 0-.2T1-.2V.3Q.5 1 0 .3T-1 .3Z",
    "cross": "M-.3-1H.3V-.3H1V.3H.3V1H-.3V.3H-1V-.3H-.3Z",
    "bars": "M-1-.8H1V-.4H-1ZM-1-.15H.4V.25H-1ZM-1 .5H.8V.9H-1Z",
    "crown": "M-1 .75V-.6L-.45 0 0-.85 .45 0 1-.6V.75Z",
    "mountain": "M-1 .8L-.3-.7 .1 .1 .4-.3 1 .8Z",
    "moon": "M.4-.95A1 1 0 1 0 .4 .95A.8 .8 0 1 1 .4-.95Z",
    "arrow": "M-1-.25H.1V-.8L1 0 .1 .8V.25H-1Z",
    "hexagon": "M0-1L.87-.5V.5L0 1-.87 .5V-.5Z",
}


def line_color(color: Color) -> str:
    """Colour of seams and edges on cloth of a colour: darker, but lighter on black."""
    return color.shaded(0.62) if color.luminance > 0.22 else color.shaded(1.32)


def logo_svg(look: Look, shape: Shape) -> str:
    """The print, "" without one."""
    logo = look.logo
    if logo is None:
        return ""
    x, y = _logo_place(logo.place, look, shape)
    return (
        f'<path transform="translate({at(x, y)})scale({logo.size * 11:.1f})" d="{_LOGO_PATHS[logo.shape]}" '
        f'fill="{logo.color.hex}" fill-rule="evenodd"/>'
    )


def _logo_place(place: str, look: Look, shape: Shape) -> tuple[float, float]:
    if place == "centre":
        return 0.0, max(shape.depth + 62.0, 138.0)
    if place == "hem":
        return -shape.hem * 0.55, shape.hem_y - 40
    if place == "sleeve" and shape.sleeve_ends:
        end = shape.sleeve_ends[0]
        share = 0.45 if look.sleeves == "short" else 0.3
        return -shape.chest * (1 - share) + end.x * share - 8, 70 * (1 - share) + end.y * share
    if place == "hip":
        return -shape.chest * 0.52, WAIST_Y + 75
    if place == "thigh":
        return -shape.chest * 0.56, min(WAIST_Y + 165, shape.hem_y - 40)
    return -min(shape.chest * 0.52, shape.shoulder * 0.66), 90.0  # on the wearer's right: pockets are on the left


def collar_svg(look: Look, shape: Shape, *, paint: str) -> str:
    """The collar or hood seen from the front, "" for garments with neither."""
    line = line_color(look.main)
    neck, depth = shape.neck, shape.depth
    if look.neckline == "turtleneck":
        return (
            f'<path d="M{at(-neck - 4, 6)}L{at(-neck + 2, -36)}Q{at(0, -43)} {at(neck - 2, -36)}L{at(neck + 4, 6)}'
            f'Q{at(0, 24)} {at(-neck - 4, 6)}Z" fill="{paint}" stroke="{line}" stroke-width="1.4"/>'
            f'<path d="M{at(-neck - 1, -10)}Q{at(0, 3)} {at(neck + 1, -10)}" fill="none" stroke="{line}" opacity=".7"/>'
        )
    if look.collar == "none":
        return ""
    wide = 11.0 if look.category in {"jacket", "coat"} else 2.0
    half: tuple[tuple[float, float], ...]
    if look.collar == "lapel":
        inner = f'<path d="M{at(-neck, -2)}L{at(0, 150)}L{at(neck, -2)}Z" fill="{look.third.shaded(0.92)}"/>'
        half = ((neck - 3, -5), (2, 152), (50, 96), (42, 82), (57, 66), (neck + 13, 6))
    elif look.collar == "band":
        inner = ""
        half = (
            (neck - 1, -11),
            (neck + 4, 4),
            (neck * 0.5, depth * 0.78),
            (3, depth + 6),
            (2, depth - 9),
            (neck * 0.6, depth * 0.3),
        )
    else:
        inner = ""
        half = ((neck - 4, -9), (1, depth + 1), (27 + wide, depth + 27 + wide), (neck + 14 + wide, 11))
    pieces = []
    for side in (-1, 1):
        points = [at(side * x, y) for x, y in half]
        if look.collar == "rounded":
            tip = f"{at(side * 6, depth + 32 + wide)} {at(side * (40 + wide), depth + 32 + wide)}"
            outline = f"M{points[0]}L{points[1]}C{tip} {points[3]}Z"
        else:
            outline = "M" + "L".join(points) + "Z"
        pieces.append(f'<path d="{outline}"/>')
    return f'{inner}<g fill="{paint}" stroke="{line}" stroke-width="1.6" stroke-linejoin="round">{"".join(pieces)}</g>'


def hood_behind_svg(look: Look, shape: Shape) -> str:
    """A hood lying behind the neck, drawn before the body."""
    if look.neckline != "hood":
        return ""
    neck = shape.neck
    return (
        f'<path d="M{at(-neck - 17, 15)}C{at(-neck - 34, -48)} {at(-30, -74)} {at(0, -74)}C{at(30, -74)} '
        f'{at(neck + 34, -48)} {at(neck + 17, 15)}Z" fill="{look.main.hex}" stroke="{line_color(look.main)}" '
        'stroke-width="1.6"/>'
        f'<path d="M{at(-neck, 2)}C{at(-neck - 14, -34)} {at(-22, -52)} {at(0, -52)}C{at(22, -52)} '
        f"{at(neck + 14, -34)} "
        f'{at(neck, 2)}Q{at(0, 40)} {at(-neck, 2)}Z" fill="{look.main.shaded(0.55)}"/>'
    )


def hood_front_svg(look: Look, shape: Shape) -> str:
    """A hood's edge and its strings, drawn over the body."""
    if look.neckline != "hood":
        return ""
    neck, depth = shape.neck, shape.depth
    cord = look.trim_color.hex if look.trim in {"ringer", "double"} else look.main.shaded(1.5)
    return (
        f'<path d="M{at(-neck - 16, 13)}Q{at(-neck * 0.7, depth)} {at(0, depth + 10)}Q{at(neck * 0.7, depth)} '
        f"{at(neck + 16, 13)}"
        f"L{at(neck - 2, 0)}Q{at(neck * 0.6, depth * 0.6)} {at(0, depth)}Q{at(-neck * 0.6, depth * 0.6)} "
        f"{at(-neck + 2, 0)}Z"
        f'" fill="{look.main.shaded(0.93)}" stroke="{line_color(look.main)}" stroke-width="1.4"/>'
        f'<path d="M{at(-11, depth + 4)}q-4 26 -2 50M{at(11, depth + 4)}q5 24 2 56" fill="none" stroke="{cord}" '
        'stroke-width="3"/>'
    )


def closure_svg(look: Look, shape: Shape) -> str:
    """Buttons or a zip down the front, "" without."""
    line, top = line_color(look.main), shape.depth
    if shape.neckline == "":
        top = WAIST_Y + 12
    if look.collar == "lapel":
        top = 152.0
    bottom = shape.hem_y + (24 if look.category == "shirt" else 3)
    if look.closure == "none":
        return ""
    if look.closure == "zip":
        return (
            f'<path d="M{at(0, top)}V{bottom:.0f}" stroke="{line}" stroke-width="9"/>'
            f'<path d="M{at(0, top)}V{bottom:.0f}" stroke="#c9c9c6" stroke-width="3.6" stroke-dasharray="2.6 1.8"/>'
            f'<path d="M-3 {top + 6:.0f}h6l1 15h-8Z" fill="#b5b5b2"/>'
        )
    if look.closure == "half_buttons":
        strip = (
            f'<path d="M-8 {top - 6:.0f}V{top + 66:.0f}H8V{top - 6:.0f}" fill="{look.main.shaded(0.95)}" '
            f'stroke="{line}"/>'
        )
        levels = [top + 8 + 23 * k for k in range(3)]
        columns: tuple[float, ...] = (0.0,)
    else:
        strip = (
            f'<path d="M-9 {top - 2:.0f}V{bottom:.0f}M9 {top - 2:.0f}V{bottom:.0f}" fill="none" stroke="{line}" '
            'opacity=".75"/>'
        )
        step = 58.0 if look.category == "coat" else 40.0
        count = max(int((shape.hem_y - 16 - top) / step) + 1, 2)
        if look.category == "coat":
            count = min(count, 4)
        levels = [top + 14 + step * k for k in range(count)]
        columns = (-24.0, 24.0) if look.closure == "double_buttons" else (0.0,)
    radius = 6.4 if look.category in {"coat", "cardigan", "jacket"} else 4.8
    circles = "".join(f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{radius}"/>' for y in levels for x in columns)
    return f'{strip}<g fill="{look.button_color.hex}" stroke="{line}" stroke-width=".8">{circles}</g>'


def pocket_svg(look: Look, shape: Shape) -> str:
    """Pockets seen from the front, "" without."""
    if look.pocket == "none":
        return ""
    line = line_color(look.main)
    paint = look.pocket_color.hex if look.pocket_color else look.main.shaded(0.95)
    low = min(shape.hem_y - 84, 222.0) if look.category in TOPS else WAIST_Y + 42
    path = _pocket_path(look, shape, low)
    fill = "none" if look.pocket == "slant" and not look.pocket_color else paint
    width = 2.4 if look.pocket == "slant" else 1.9
    return f'<path d="{path}" fill="{fill}" stroke="{line}" stroke-width="{width}" stroke-linejoin="round"/>'


def _pocket_path(look: Look, shape: Shape, low: float) -> str:
    chest = shape.chest
    x = chest * 0.5
    if look.pocket == "chest":
        return f"M{at(x - 20, 100)}h40v34l-20 12l-20 -12Z"
    if look.pocket == "flap":
        return f"M{at(x - 20, 106)}h40v36h-40ZM{at(x - 22, 98)}h44v12l-22 8l-22 -8Z"
    if look.pocket == "two_chest":
        one = "M{}h38v36h-38ZM{}h42v11l-21 7l-21 -7Z"
        return "".join(one.format(at(m - 19, 112), at(m - 21, 105)) for m in (-x, x))
    if look.pocket == "kangaroo":
        top, wide = max(shape.hem_y - 100, 178.0), chest * 0.62
        base = shape.hem_y - 18
        return f"M{at(-wide * 0.6, top)}H{wide * 0.6:.0f}L{at(wide, base - 34)}V{base:.0f}H{-wide:.0f}V{base - 34:.0f}Z"
    if look.pocket == "flap_low":
        return "".join(f"M{at(m - 27, low)}h54v17q-27 6 -54 0Z" for m in (-chest * 0.56, chest * 0.56))
    if look.pocket == "cargo":
        level = min(350.0, shape.hem_y - 62)
        return "".join(f"M{at(s * 58 - 18, level)}h36v46h-36ZM{at(s * 58 - 20, level - 5)}h40v14h-40Z" for s in (-1, 1))
    if look.pocket == "patch":
        wide = 46.0 if look.category in TOPS else 38.0
        return "".join(
            f"M{at(m - wide / 2, low)}h{wide:.0f}v44q{-wide / 2:.0f} 9 {-wide:.0f} 0Z"
            for m in (-chest * 0.54, chest * 0.54)
        )
    if look.category in TOPS:  # slant, welts of a jacket
        return "".join(
            f"M{at(s * chest * 0.42, low)}L{at(s * chest * 0.66, low + 46)}l{s * 7} -4"
            f"L{at(s * (chest * 0.42 + 7), low - 4)}Z"
            for s in (-1, 1)
        )
    return "".join(
        f"M{at(s * shape.waist * 0.55, WAIST_Y + 17)}L{at(s * chest * 0.9, WAIST_Y + 58)}l{s * 5} -5"
        f"L{at(s * (shape.waist * 0.55 + 8), WAIST_Y + 15)}Z"
        for s in (-1, 1)
    )


def trim_svg(look: Look, shape: Shape) -> str:
    """Cuffs, hem band, belt or side stripes; what must end with the cloth refers to a clip path "body"."""
    color = look.trim_color.hex
    cuffs = "".join(f'<path d="{band.path}"/>' for band in shape.bands)
    hem_y = shape.hem_y + 12
    if look.trim == "rib":
        rib, line = look.main.shaded(0.84), line_color(look.main)
        edge = (
            f'<path d="M-200 {shape.hem_y - 18:.0f}Q0 {shape.hem_y - 9:.0f} 200 {shape.hem_y - 18:.0f}'
            f'V{hem_y + 9:.0f}H-200Z"/>'
        )
        return f'<g fill="{rib}" stroke="{line}" stroke-width="1">{cuffs}{_inside(edge)}</g>'
    if look.trim == "ringer":
        return f'<g fill="{color}">{cuffs}</g>'
    sag = 28 if look.fit in {"flared", "pleated"} else 9  # as the hem itself hangs
    if look.trim == "hem":
        top = shape.hem_y - 15
        band = f'<path d="M-240 {top:.0f}Q0 {top + sag:.0f} 240 {top:.0f}V{top + 80:.0f}H-240Z" fill="{color}"/>'
        return f'<g fill="{color}">{cuffs}</g>{_inside(band)}'
    if look.trim == "double":
        lines = "".join(
            f'<path d="M-240 {y:.0f}Q0 {y + sag:.0f} 240 {y:.0f}"/>' for y in (shape.hem_y - 8, shape.hem_y - 25)
        )
        lines = _inside(f'<g fill="none" stroke="{color}" stroke-width="8">{lines}</g>')
        return f'<g fill="{color}">{cuffs}</g>{lines}'
    if look.trim == "belt":
        level = WAIST_Y - 2 if look.category in TOPS else WAIST_Y + 10
        return _inside(
            f'<path d="M-150 {level:.0f}Q0 {level + 8:.0f} 150 {level:.0f}" fill="none" stroke="{color}" '
            'stroke-width="15"/>'
        ) + (f'<path d="M-9 {level - 5:.0f}h18v18h-18Z" fill="none" stroke="#c8b273" stroke-width="3"/>')
    if look.trim == "side_stripe":
        sides = "".join(
            f"M{at(s * (shape.waist - 4), WAIST_Y)}C{at(s * (shape.chest - 2), 240)} {at(s * (shape.chest - 6), 285)} "
            f"{at(s * (shape.chest - 8), 310)}C{at(s * (shape.chest - 8), 360)} "
            f"{at(s * (shape.hem - 7), shape.hem_y - 120)} "
            f"{at(s * (shape.hem - 7), shape.hem_y + 3)}"
            for s in (-1, 1)
        )
        return _inside(f'<path d="{sides}" fill="none" stroke="{color}" stroke-width="9"/>')
    return ""


def _inside(svg: str) -> str:
    return f'<g clip-path="url(#body)">{svg}</g>'
