"""A whole garment as SVG: outlines, cloth and details, from the front or from the back.

The picture is flat: flat colours on a transparent ground. Light, folds and shadow are added to the pixels
(`drawn_light`), so that the SVG stays small and a garment can be opened in any viewer.
"""

from __future__ import annotations

from threadmatch.model.synthetic.garments.cloth import cloth_defs, part_fill, part_overlay
from threadmatch.model.synthetic.garments.details import (
    closure_svg,
    collar_svg,
    hood_behind_svg,
    hood_front_svg,
    line_color,
    logo_svg,
    pocket_svg,
    trim_svg,
)
from threadmatch.model.synthetic.garments.kinds import TOPS
from threadmatch.model.synthetic.garments.look import Look
from threadmatch.model.synthetic.garments.outlines import WAIST_Y, Pose, Shape, at, shape_of


def garment_group(look: Look, pose: Pose, *, back: bool = False, worn: bool = False) -> str:
    """The garment as an SVG group in body units.

    Args:
        look: what to draw.
        pose: how sleeves and legs lie.
        back: from behind: no logo, no buttons, zip, lapels, front pockets or front neckline; a back collar or hanging
            hood, a yoke and back pockets instead.
        worn: somebody is in it: its inside does not show at the neck, and whoever draws the wearer puts the hood
            (`hood_behind_svg`) behind the head.
    """
    shape = shape_of(look, pose, back=back)
    line = line_color(look.main)
    parts = "".join(
        f'<path d="{part.path}" fill="{part_fill(look, part, number=number)}" stroke="{line}" stroke-width="1.2" '
        f'stroke-opacity=".6"/>{part_overlay(look, part, number=number)}'
        for number, part in enumerate(shape.parts)
    )
    paint = part_fill(look, shape.body, number=len(shape.parts) - 1)
    trim = trim_svg(look, shape)
    clip = f'<clipPath id="body"><path d="{shape.body.path}"/></clipPath>' if "#body" in trim else ""
    defs = cloth_defs(look, shape) + clip
    inside = "" if worn or not shape.neckline else _inside_svg(look, shape)
    hood = "" if back or worn else hood_behind_svg(look, shape)
    if back:
        details = _back_svg(look, shape, paint) + trim
    else:
        details = (
            _waistband_svg(look, shape)
            + _seams_svg(look, shape)
            + trim
            + pocket_svg(look, shape)
            + _neckband_svg(look, shape)
            + closure_svg(look, shape)
            + hood_front_svg(look, shape)
            + collar_svg(look, shape, paint=paint)
            + logo_svg(look, shape)
        )
    return f"{f'<defs>{defs}</defs>' if defs else ''}{hood}{inside}{parts}{details}"


def _inside_svg(look: Look, shape: Shape) -> str:
    """The inside of the back, seen through the neck of an empty garment, with its label."""
    if look.neckline == "hood":
        return ""
    label = '<path d="M-8 9h16v8h-16Z" fill="#f3f1ea"/>' if shape.depth > 22 and look.collar != "lapel" else ""
    return (
        f'<path d="M{at(-shape.neck, 0)}{shape.neckline}Q{at(0, 13)} {at(-shape.neck, 0)}Z" '
        f'fill="{look.main.shaded(0.5)}"/>'
        f'<path d="M{at(-shape.neck, 0)}Q{at(0, 13)} {at(shape.neck, 0)}" fill="none" '
        f'stroke="{look.main.shaded(0.75)}" '
        f'stroke-width="7"/>{label}'
    )


def _neckband_svg(look: Look, shape: Shape) -> str:
    if look.neckline not in {"crew", "v", "scoop", "boat", "square", "deep_v"}:
        return ""
    trimmed = look.trim in {"ringer", "double"} and look.category not in {"dress"}
    color = look.trim_color.hex if trimmed else look.main.shaded(0.86)
    width = {"sweater": 12, "cardigan": 15, "tank_top": 7, "dress": 5}.get(look.category, 8)
    band = f'<path d="M{at(-shape.neck, 0)}{shape.neckline}" fill="none" stroke="{color}" stroke-width="{width}"/>'
    if look.category == "cardigan":  # its band runs on down the front
        band += (
            f'<path d="M{at(0, shape.depth - 4)}V{shape.hem_y + 4:.0f}" stroke="{color}" stroke-width="{width + 5}"/>'
        )
    return band


def _waistband_svg(look: Look, shape: Shape) -> str:
    if look.category in TOPS:
        return _dress_waist_svg(look, shape)
    line, waist = line_color(look.main), shape.waist
    band = (
        f'<path d="M{at(-waist, WAIST_Y)}Q{at(0, WAIST_Y + 7)} {at(waist, WAIST_Y)}L{at(waist + 3, WAIST_Y + 17)}'
        f'Q{at(0, WAIST_Y + 25)} {at(-waist - 3, WAIST_Y + 17)}Z" fill="{look.main.shaded(0.9)}" stroke="{line}" '
        'stroke-width="1.3"/>'
    )
    if look.category == "skirt":
        return band
    return (
        f'{band}<path d="M0 {WAIST_Y + 21:.0f}V335M16 {WAIST_Y + 21:.0f}V290Q15 306 0 312" fill="none" stroke="{line}" '
        f'stroke-width="1.5"/><circle cx="0" cy="{WAIST_Y + 12:.0f}" r="4.4" fill="{look.button_color.hex}"/>'
    )


def _dress_waist_svg(look: Look, shape: Shape) -> str:
    if look.category != "dress" or look.trim == "belt":
        return ""
    return (
        f'<path d="M{at(-shape.waist, WAIST_Y)}Q{at(0, WAIST_Y + 9)} {at(shape.waist, WAIST_Y)}" fill="none" '
        f'stroke="{line_color(look.main)}" stroke-width="1.6"/>'
    )


def _seams_svg(look: Look, shape: Shape) -> str:
    """Lines that the cut leaves on the cloth: a denim yoke, pleats, a coat's front edge."""
    line = line_color(look.main)
    paths = []
    if look.fabric == "denim" and look.category in TOPS:
        paths.append(f"M{at(-shape.shoulder + 2, 66)}L{at(-12, 88)}M{at(shape.shoulder - 2, 66)}L{at(12, 88)}")
    if look.fit == "pleated":
        spread = (-0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75)
        paths.extend(f"M{at(shape.waist * s, WAIST_Y + 20)}L{at(shape.hem * s, shape.hem_y + 8)}" for s in spread)
    if look.category in {"jacket", "coat"} and look.closure != "zip":
        paths.append(f"M0 {shape.depth:.0f}V{shape.hem_y + 4:.0f}")
    return f'<path d="{"".join(paths)}" fill="none" stroke="{line}" stroke-width="1.6"/>' if paths else ""


def _back_svg(look: Look, shape: Shape, paint: str) -> str:
    line, neck = line_color(look.main), shape.neck
    pieces = []
    if look.neckline == "hood":
        pieces.append(
            f'<path d="M{at(-neck - 18, 6)}C{at(-neck - 26, 70)} {at(-26, 98)} {at(0, 98)}C{at(26, 98)} '
            f"{at(neck + 26, 70)} "
            f'{at(neck + 18, 6)}Q{at(0, -20)} {at(-neck - 18, 6)}Z" fill="{look.main.shaded(0.92)}" stroke="{line}" '
            'stroke-width="1.6"/>'
            f'<path d="M0 -4V97" stroke="{line}" stroke-width="1.2"/>'
        )
    elif look.neckline in {"collar", "turtleneck"}:
        rise = -34 if look.neckline == "turtleneck" else -16
        pieces.append(
            f'<path d="M{at(-neck - 7, 9)}L{at(-neck + 2, rise)}Q{at(0, rise - 6)} {at(neck - 2, rise)}'
            f"L{at(neck + 7, 9)}"
            f'Q{at(0, 24)} {at(-neck - 7, 9)}Z" fill="{paint}" stroke="{line}" stroke-width="1.5"/>'
        )
    if look.category in {"shirt", "jacket", "coat"}:
        pieces.append(
            f'<path d="M{at(-shape.shoulder + 1, 56)}Q0 66 {at(shape.shoulder - 1, 56)}" fill="none" stroke="{line}" '
            'stroke-width="1.7"/>'
        )
    if look.category in {"coat", "dress"}:
        pieces.append(f'<path d="M0 {shape.hem_y - 90:.0f}V{shape.hem_y + 5:.0f}" stroke="{line}" stroke-width="1.7"/>')
    if look.category in {"trousers", "shorts"}:
        pieces.append(f'<path d="M0 {WAIST_Y + 18:.0f}V335" stroke="{line}" stroke-width="1.6"/>')
        boxes = "".join(f"M{at(x - 19, 250)}h38v34l-19 9l-19 -9Z" for x in (-42, 42))
        pieces.append(f'<path d="{boxes}" fill="{look.main.shaded(0.95)}" stroke="{line}" stroke-width="1.8"/>')
    if look.category not in TOPS:
        waist = shape.waist
        pieces.append(
            f'<path d="M{at(-waist - 2, WAIST_Y + 16)}Q{at(0, WAIST_Y + 23)} {at(waist + 2, WAIST_Y + 16)}" '
            'fill="none" '
            f'stroke="{line}" stroke-width="1.6"/>'
        )
    return "".join(pieces)
