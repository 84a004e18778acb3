"""Outlines of drawn garments, as SVG paths in body units.

Body units: the middle of the neck's base is (0, 0), x grows to the viewer's right, y down; shoulders end near x = 84,
the waist lies at y = 200, the crotch at 335, the ankles near 690. A garment and the person who wears it share them, so
a pose that moves an arm moves the sleeve.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from threadmatch.model.synthetic.garments.kinds import TOPS
from threadmatch.model.synthetic.garments.look import Look

Point = tuple[float, float]
Cubic = tuple[Point, Point, Point]

WAIST_Y: Final = 200.0
CROTCH_Y: Final = 335.0

_TOP_HEM_Y: Final = {
    "cropped": 232.0, "regular": 298.0, "long": 340.0, "mini": 385.0, "knee": 455.0, "midi": 540.0, "maxi": 630.0,
}  # fmt: skip
_SKIRT_HEM_Y: Final = {"mini": 365.0, "knee": 455.0, "midi": 545.0, "maxi": 635.0}
_LEG_HEM_Y: Final = {"cropped": 610.0, "regular": 665.0, "long": 695.0}
_SHORTS_HEM_Y: Final = {"mini": 372.0, "regular": 410.0, "knee": 458.0}
_NECK: Final = {  # half width and depth of the front neckline
    "crew": (34, 26), "v": (35, 80), "scoop": (47, 62), "boat": (60, 15), "square": (46, 54), "turtleneck": (31, 8),
    "collar": (33, 36), "hood": (36, 36), "deep_v": (33, 150), "none": (0, 0),
}  # fmt: skip
_WIDTH: Final = {"slim": 0.9, "regular": 1.0, "loose": 1.13, "a_line": 0.94, "flared": 0.94}
_SLEEVE: Final = {"short": 92.0, "three_quarter": 190.0, "long": 268.0}
_CUFF: Final = {"short": 35.0, "three_quarter": 27.0, "long": 21.0}


@dataclass(frozen=True, slots=True)
class Pose:
    """How limbs lie, degrees and body units. Arms: angle from straight down, outwards; bends: added at the elbow.

    Pairs are (viewer's left, viewer's right). `stance` is added to the distance of each foot from the middle.
    """

    arms: tuple[float, float]
    bends: tuple[float, float] = (0.0, 0.0)
    stance: float = 0.0


@dataclass(frozen=True, slots=True)
class SleeveEnd:
    """Where an arm leaves its sleeve: the opening's middle, direction in degrees from straight down, half width."""

    x: float
    y: float
    angle: float
    half_width: float
    side: int


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of cloth: its outline and by how many degrees its grain is turned."""

    name: str
    path: str
    grain: float = 0.0


@dataclass(frozen=True, slots=True)
class Shape:
    """A garment's outline and the places that details are put at.

    Fields:
        parts: in drawing order, the last one the body.
        bands: (outline, grain) of each cuff, where a trim goes; the body's hem is trimmed through its clip path.
        neckline: path commands from the left neck point to the right one, along the front; "" below the waist.
        neck, depth: half width and depth of the neckline.
        shoulder, chest, armpit_y, waist, hem, hem_y: half widths and heights of the body.
        sleeve_ends: left, right; empty without sleeves.
    """

    parts: tuple[Part, ...]
    bands: tuple[Part, ...]
    neckline: str
    neck: float
    depth: float
    shoulder: float
    chest: float
    armpit_y: float
    waist: float
    hem: float
    hem_y: float
    sleeve_ends: tuple[SleeveEnd, ...]

    @property
    def body(self) -> Part:
        """The main piece."""
        return self.parts[-1]


def flat_pose(look: Look) -> Pose:
    """How a shop lays the garment out for its photo: sleeves apart, legs straight."""
    spread = {"none": 20.0, "short": 44.0, "three_quarter": 24.0, "long": 15.0}[look.sleeves]
    return Pose(arms=(spread, spread))


def shape_of(look: Look, pose: Pose, *, back: bool = False) -> Shape:
    """Outline of a garment, lying or worn in a pose, from the front or from the back."""
    if look.category in TOPS:
        return _top(look, pose, back=back)
    if look.category == "skirt":
        return _skirt(look)
    return _legs(look, pose)


def garment_bounds(look: Look, pose: Pose) -> tuple[float, float, float, float]:
    """Left, top, width, height in body units that hold the garment, its hood and its sleeves."""
    shape = shape_of(look, pose)
    reach = [shape.chest, shape.hem, *(abs(end.x) + end.half_width for end in shape.sleeve_ends)]
    bottom = max([shape.hem_y + 26, *(end.y + end.half_width for end in shape.sleeve_ends)])
    top = WAIST_Y - 3
    if look.category in TOPS:
        top = {"hood": -77.0, "turtleneck": -45.0}.get(look.neckline, -24.0)
    half = max(reach) + 4
    return -half, top, 2 * half, bottom - top


def at(x: float, y: float) -> str:
    """A coordinate pair as SVG writes it."""
    return f"{x:.1f} {y:.1f}"


def mirrored_outline(start: Point, side: Sequence[Cubic], *, hem: str, back: str) -> str:
    """Close an outline from its right side.

    Args:
        start: where the right side begins at the top.
        side: cubic pieces downwards, each (control, control, end).
        hem: commands from the right side's end to its mirror image.
        back: commands from the mirrored start to the start.
    """
    down = "".join(f"C{at(*a)} {at(*b)} {at(*c)}" for a, b, c in side)
    ends = [start, *(piece[2] for piece in side)]
    up = "".join(
        f"C{at(-b[0], b[1])} {at(-a[0], a[1])} {at(-end[0], end[1])}"
        for (a, b, _), end in zip(reversed(side), reversed(ends[:-1]), strict=True)
    )
    return f"M{at(*start)}{down}{hem}{up}{back}Z"


def _top(look: Look, pose: Pose, *, back: bool) -> Shape:
    cut = look.proportions
    outer = 1.07 if look.category in {"jacket", "coat", "hoodie"} else 1.0
    width = _WIDTH[look.fit] * cut.width * outer
    neck, depth = (value * cut.neck for value in _NECK[look.neckline])
    sleeved = look.sleeves != "none"
    shoulder = 84 * (0.55 + 0.45 * width) if sleeved else neck + 21 * cut.sleeve
    shoulder_y = 25.0 if sleeved else 10.0
    chest, armpit_y = 79 * width, 112 + 60 * (width - 1)
    hem_y = _TOP_HEM_Y[look.length] * cut.length
    waist, hem = _waist_and_hem(look, chest, hem_y)
    waist_y = min(WAIST_Y, (armpit_y + hem_y) / 2)
    reach = (hem_y - waist_y) * 0.45
    slope = (hem - waist) / max(hem_y - waist_y, 1.0)
    side: list[Cubic] = [
        ((shoulder - 9, shoulder_y + 32), (min(shoulder, chest) - 12, armpit_y - 18), (chest, armpit_y)),
        ((chest - 2, armpit_y + 25), (waist, waist_y - 35), (waist, waist_y)),
        ((waist + 1, waist_y + reach * 0.6), (hem - slope * reach * 1.2, hem_y - reach), (hem, hem_y)),
    ]
    if look.trim == "rib":  # the cloth blouses over its band
        side[2] = ((waist + 4, waist_y + reach), (hem + 12, hem_y - 34), (hem, hem_y))
    if back:  # the back of a neckline hardly dips
        depth = 9.0
    neckline = _neckline("back" if back else look.neckline, neck, depth)
    outline = mirrored_outline(
        (shoulder, shoulder_y), side, hem=_hem(look, hem, hem_y), back=f"L{at(-neck, 0)}{neckline}"
    )
    sleeves = []
    if sleeved:
        for side_sign, arm, bend in ((-1, pose.arms[0], pose.bends[0]), (1, pose.arms[1], pose.bends[1])):
            sleeves.append(_sleeve(look, side_sign, (arm, bend), shoulder=shoulder, chest=chest, armpit_y=armpit_y))
    return Shape(
        parts=(*(sleeve[0] for sleeve in sleeves), Part("body", outline)),
        bands=tuple(sleeve[1] for sleeve in sleeves),
        neckline=neckline,
        neck=neck,
        depth=depth,
        shoulder=shoulder,
        chest=chest,
        armpit_y=armpit_y,
        waist=waist,
        hem=hem,
        hem_y=hem_y,
        sleeve_ends=tuple(sleeve[2] for sleeve in sleeves),
    )


def _waist_and_hem(look: Look, chest: float, hem_y: float) -> tuple[float, float]:
    """Half widths of a top, a dress or a coat at its waist and hem."""
    if look.category == "dress":
        waist = chest * 0.8
        spread = {"slim": 0.06, "a_line": 0.3, "flared": 0.5}[look.fit]
        return waist, max(chest, waist + 14) + spread * (hem_y - WAIST_Y) * 0.8
    if look.category == "coat":
        return chest * 0.96, chest * 1.04 + 0.1 * (hem_y - WAIST_Y)
    if look.trim == "rib":
        return chest * 0.98, chest * 0.87
    return chest * (0.9 if look.fit == "slim" else 0.96), chest * 1.01


def _neckline(neckline: str, neck: float, depth: float) -> str:
    if neckline in {"v", "deep_v", "collar", "hood"}:
        return f"C{at(-neck * 0.8, depth * 0.35)} {at(-neck * 0.25, depth * 0.8)} {at(0, depth)}" + (
            f"C{at(neck * 0.25, depth * 0.8)} {at(neck * 0.8, depth * 0.35)} {at(neck, 0)}"
        )
    if neckline == "square":
        return f"L{at(-neck * 0.86, depth)}L{at(neck * 0.86, depth)}L{at(neck, 0)}"
    return f"C{at(-neck * 0.82, depth * 1.32)} {at(neck * 0.82, depth * 1.32)} {at(neck, 0)}"


def _hem(look: Look, hem: float, hem_y: float) -> str:
    """From the right end of the hem to the left one: straight, a shirt's tails, or falling in waves."""
    if look.category == "shirt":
        return f"C{at(hem * 0.7, hem_y + 34)} {at(-hem * 0.7, hem_y + 34)} {at(-hem, hem_y)}"
    if look.fit in {"flared", "pleated"}:
        return waves(hem, hem_y, count=5 if look.fit == "flared" else 9)
    return f"Q{at(0, hem_y + 9)} {at(-hem, hem_y)}"


def waves(hem: float, hem_y: float, *, count: int) -> str:
    """A hem in folds, from the right end to the left one."""
    step = 2 * hem / count
    pieces = []
    for i in range(count):
        right, left = hem - i * step, hem - (i + 1) * step
        sag = 14 * (1 - ((right + left) / (2 * hem)) ** 2) + 7
        level = hem_y + (12 * (1 - (left / hem) ** 2) if i < count - 1 else 0)
        pieces.append(f"Q{at((right + left) / 2, level + sag)} {at(left, level)}")
    return "".join(pieces)


def _sleeve(
    look: Look, side: int, angles: tuple[float, float], *, shoulder: float, chest: float, armpit_y: float
) -> tuple[Part, Part, SleeveEnd]:
    """One sleeve, its cuff band and its opening; `angles` are those of the arm and the forearm's bend."""
    cut = look.proportions
    loose = _WIDTH[look.fit] * (1.12 if look.category in {"jacket", "coat", "hoodie"} else 1.0)
    length, cuff = _SLEEVE[look.sleeves], _CUFF[look.sleeves] * (0.5 + 0.5 * loose) * cut.sleeve
    arm, bend = math.radians(angles[0]), math.radians(angles[1] if look.sleeves != "short" else 0.0)
    upper, lower = (math.sin(arm), math.cos(arm)), (math.sin(arm + bend), math.cos(arm + bend))
    out_upper, out_lower = (upper[1], -upper[0]), (lower[1], -lower[0])
    start = ((shoulder + chest) / 2 - 6, (25 + armpit_y) / 2)
    half = length * (0.5 if look.sleeves != "short" else 0.9)
    elbow = (start[0] + upper[0] * half, start[1] + upper[1] * half)
    end = (elbow[0] + lower[0] * (length - half), elbow[1] + lower[1] * (length - half))
    middle = 33 * (0.4 + 0.6 * loose) * cut.sleeve if look.sleeves != "short" else cuff
    elbow_out = (elbow[0] + out_upper[0] * middle, elbow[1] + out_upper[1] * middle)
    elbow_in = (elbow[0] - out_upper[0] * middle, elbow[1] - out_upper[1] * middle)
    end_out = (end[0] + out_lower[0] * cuff, end[1] + out_lower[1] * cuff)
    end_in = (end[0] - out_lower[0] * cuff, end[1] - out_lower[1] * cuff)

    def place(point: Point) -> str:
        return at(side * point[0], point[1])

    path = (
        f"M{place((shoulder - 14, 21))}L{place((shoulder, 25))}"
        f"C{place((shoulder + 10, 32))} "
        f"{place((elbow_out[0] - upper[0] * half * 0.6, elbow_out[1] - upper[1] * half * 0.6))} "
        f"{place(elbow_out)}L{place(end_out)}L{place(end_in)}L{place(elbow_in)}L{place((chest, armpit_y))}"
        f"L{place((chest - 24, armpit_y - 10))}Z"
    )
    height = min(17.0, length * 0.16)
    back = (lower[0] * height, lower[1] * height)
    taper = 1 + 0.12 * (middle - cuff) / max(cuff, 1.0)
    inner = [
        (end[0] - back[0] + s * out_lower[0] * cuff * taper, end[1] - back[1] + s * out_lower[1] * cuff * taper)
        for s in (1, -1)
    ]
    band = f"M{place(end_out)}L{place(inner[0])}L{place(inner[1])}L{place(end_in)}Z"
    angle = math.degrees(arm + bend)
    name = "sleeve_left" if side < 0 else "sleeve_right"
    return (
        Part(name, path, grain=-side * angles[0]),
        Part(name, band, grain=-side * angle),
        SleeveEnd(side * end[0], end[1], side * angle, cuff, side),
    )


def _skirt(look: Look) -> Shape:
    cut = look.proportions
    waist, hip = 67 * cut.width, 86 * cut.width
    hem_y = WAIST_Y + (_SKIRT_HEM_Y[look.length] - WAIST_Y) * cut.length
    spread = {"slim": -0.02, "a_line": 0.2, "flared": 0.42, "pleated": 0.26}[look.fit]
    hem = hip + spread * (hem_y - WAIST_Y) + 2
    hip_y = WAIST_Y + 75
    slope = (hem - hip) / (hem_y - hip_y)
    side: list[Cubic] = [
        ((waist + 8, WAIST_Y + 25), (hip - slope * 30, hip_y - 30), (hip, hip_y)),
        ((hip + slope * 25, hip_y + 25), (hem - slope * 25, hem_y - 25), (hem, hem_y)),
    ]
    outline = mirrored_outline(
        (waist, WAIST_Y), side, hem=_hem(look, hem, hem_y), back=f"Q{at(0, WAIST_Y + 7)} {at(waist, WAIST_Y)}"
    )
    return _below_the_waist(outline, waist=waist, hip=hip, hem=hem, hem_y=hem_y)


def _legs(look: Look, pose: Pose) -> Shape:
    cut = look.proportions
    waist, hip = 67 * cut.width, 87 * cut.width
    if look.category == "shorts":
        hem_y = CROTCH_Y + (_SHORTS_HEM_Y[look.length] - CROTCH_Y) * cut.length
    else:
        hem_y = CROTCH_Y + (_LEG_HEM_Y[look.length] - CROTCH_Y) * cut.length
    way = (hem_y - CROTCH_Y) / 350  # 0 at the crotch, 1 at the ankle
    foot = 45 + pose.stance * way
    at_knee = {"slim": 30, "regular": 36, "wide": 47, "flared": 31}[look.fit] * cut.sleeve
    at_hem = {"slim": 23, "regular": 31, "wide": 50, "flared": 50}[look.fit] * cut.sleeve
    if look.category == "shorts":
        at_hem = 43 + {"slim": -4, "regular": 1, "wide": 7}[look.fit] - 14 * way
        at_knee = at_hem
    knee_y = CROTCH_Y + (hem_y - CROTCH_Y) * 0.48
    outer: list[Cubic] = [
        ((waist + 7, WAIST_Y + 28), (hip, 250), (hip + 1, 285)),
        ((hip + 2, CROTCH_Y), (foot + at_knee + 2, knee_y - 40), (foot + at_knee, knee_y)),
        ((foot + at_knee - 2, knee_y + 40), (foot + at_hem, hem_y - 50), (foot + at_hem, hem_y)),
    ]
    inner = max(foot - at_hem, 2.0)
    inner_knee = max(foot - at_knee, 4.0)
    between = (
        f"L{at(inner, hem_y + 3)}C{at(inner, hem_y - 40)} {at(inner_knee, knee_y + 30)} {at(inner_knee, knee_y)}"
        f"C{at(inner_knee, knee_y - 30)} {at(5, CROTCH_Y + 18)} {at(0, CROTCH_Y)}"
        f"C{at(-5, CROTCH_Y + 18)} {at(-inner_knee, knee_y - 30)} {at(-inner_knee, knee_y)}"
        f"C{at(-inner_knee, knee_y + 30)} {at(-inner, hem_y - 40)} {at(-inner, hem_y + 3)}L{at(-foot - at_hem, hem_y)}"
    )
    outline = mirrored_outline((waist, WAIST_Y), outer, hem=between, back=f"Q{at(0, WAIST_Y + 7)} {at(waist, WAIST_Y)}")
    return _below_the_waist(outline, waist=waist, hip=hip, hem=foot + at_hem, hem_y=hem_y)


def _below_the_waist(outline: str, *, waist: float, hip: float, hem: float, hem_y: float) -> Shape:
    return Shape(
        parts=(Part("body", outline),),
        bands=(),
        neckline="",
        neck=0.0,
        depth=0.0,
        shoulder=waist,
        chest=hip,
        armpit_y=WAIST_Y,
        waist=waist,
        hem=hem,
        hem_y=hem_y,
        sleeve_ends=(),
    )
