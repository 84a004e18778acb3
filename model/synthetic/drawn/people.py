"""Somebody who wears a drawn garment: skin, head, limbs and the rest of the outfit, as SVG in body units."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from threadmatch.model.synthetic.garments.details import hood_behind_svg
from threadmatch.model.synthetic.garments.dyes import PALETTE, Dice
from threadmatch.model.synthetic.garments.kinds import TOPS
from threadmatch.model.synthetic.garments.look import Look
from threadmatch.model.synthetic.garments.outlines import WAIST_Y, Pose, at, flat_pose, shape_of
from threadmatch.model.synthetic.garments.sampling import sample_look
from threadmatch.model.synthetic.garments.svg import garment_group

_SKIN: Final = ("#f3d3bd", "#e8bb98", "#d9a27c", "#b97f57", "#8e5b3c", "#5f3b28")
_HAIR: Final = ("#1d1815", "#33241b", "#5a3a22", "#8a5c33", "#c79b5a", "#8c8a88", "#7a2e1d")
_HAIR_STYLES: Final = ("short", "bob", "long", "bun", "shaved", "cap")
_SHOES: Final = ("#f2f1ee", "#1f1f22", "#6a4a33", "#8d2430", "#28344f")
_BOTTOMS: Final = ("trousers", "trousers", "trousers", "skirt", "shorts")
_UNDER_COATS: Final = ("trousers",)
_TUCKED: Final = ("t-shirt", "long_sleeve", "shirt", "sweater")


PERSON_BOUNDS: Final = (-230.0, -175.0, 460.0, 925.0)
"""Left, top, width, height in body units that hold anybody."""


@dataclass(frozen=True, slots=True)
class Wearer:
    """A person: what is drawn behind the garment, and what lies in front of it (long hair, a bag's strap)."""

    behind: str
    front: str


def sample_pose(look: Look, dice: Dice) -> Pose:
    """How somebody stands: arms near the body, perhaps one bent."""
    arms = (dice.between(7, 26), dice.between(7, 26))
    bends = [0.0, 0.0]
    for side in (0, 1):
        if dice.chance(0.35):
            bends[side] = dice.between(-38, -12)  # forearm back towards the body
    if look.sleeves == "short":
        arms = (dice.between(22, 40), dice.between(22, 40))
    return Pose(arms=arms, bends=(bends[0], bends[1]), stance=dice.between(-10, 16))


def draw_wearer(look: Look, pose: Pose, *, dice: Dice, back: bool) -> Wearer:
    """Draw a person for a garment to be put on.

    Args:
        look: the garment; its category decides what else is worn.
        pose: how limbs lie; the garment must be drawn in the same one.
        dice: decides who it is.
        back: seen from behind.
    """
    skin, hair = dice.pick(_SKIN), dice.pick(_HAIR)
    style = dice.pick(_HAIR_STYLES)
    outfit = _outfit(look, dice)
    legs = _legs_svg(pose, skin, dice.pick(_SHOES))
    arms = "".join(_arm_svg(look, pose, side, skin) for side in (-1, 1))
    torso = (
        '<path d="M-22 -20L-26 -4Q-60 6 -78 24Q-82 60 -68 130L-58 205L-66 300H66L58 205L68 130Q86 60 78 24Q60 6 26 -4'
        f'L22 -20Z" fill="{skin}"/>'
    )
    # Where the garment shows the chest, the other half of the outfit must not.
    clothes = "" if outfit is None else garment_group(outfit, _outfit_pose(outfit, pose), back=back, worn=True)
    # Ids are per drawing: the outfit's own must not meet the garment's, which is drawn in another one.
    head = _head_svg(skin, hair, style, dice, back=back)
    neck = (
        f'<path d="M-21 -52V-12Q-24 2 -38 10H38Q24 2 21 -12V-52Z" fill="{skin}"/><path d="M-21 -26Q0 -6 21 -26V-16Q0 '
        '4 -21 -16Z" opacity=".13"/>'
    )
    hood = "" if back else hood_behind_svg(look, shape_of(look, pose))
    behind = f"{hood}{legs}{torso}{neck}{arms}{clothes}{head}"
    return Wearer(behind=behind, front=_front_svg(hair, style, dice, back=back))


def _outfit(look: Look, dice: Dice) -> Look | None:
    """The other half of the outfit; None where the garment needs none."""
    if look.category == "dress":
        return None
    if look.category in TOPS:
        return sample_look(dice, categories=_UNDER_COATS if look.category == "coat" else _BOTTOMS)
    return sample_look(dice, categories=_TUCKED)


def _outfit_pose(outfit: Look, pose: Pose) -> Pose:
    return pose if outfit.category not in TOPS or outfit.sleeves != "short" else Pose(arms=flat_pose(outfit).arms)


def _arm_svg(look: Look, pose: Pose, side: int, skin: str) -> str:
    """One bare arm; sleeves are drawn over it."""
    number = 0 if side < 0 else 1
    arm, bend = math.radians(pose.arms[number]), math.radians(pose.bends[number])
    if look.sleeves == "short":
        arm *= 0.55
    x0, y0 = 74.0, 58.0
    x1, y1 = x0 + math.sin(arm) * 136, y0 + math.cos(arm) * 136
    x2, y2 = x1 + math.sin(arm + bend) * 136, y1 + math.cos(arm + bend) * 136
    x3, y3 = x2 + math.sin(arm + bend) * 26, y2 + math.cos(arm + bend) * 26
    limb = f"M{at(side * 66, 44)}L{at(side * x0, y0)}L{at(side * x1, y1)}"
    return (
        f'<g fill="none" stroke="{skin}" stroke-linecap="round" stroke-linejoin="round">'
        f'<path d="{limb}" stroke-width="33"/><path d="M{at(side * x1, y1)}L{at(side * x2, y2)}" stroke-width="26"/>'
        f'<path d="M{at(side * x2, y2)}L{at(side * x3, y3)}" stroke-width="27"/>'
        f'<path d="M{at(side * (x2 - 9), y2 + 4)}l{side * -5} 18" stroke-width="9"/></g>'
    )


def _legs_svg(pose: Pose, skin: str, shoe: str) -> str:
    pieces = []
    for side in (-1, 1):
        foot = side * (45 + pose.stance)
        pieces.append(
            f'<path d="M{at(side * 66, 290)}C{at(side * 80, 380)} {at(foot + side * 32, 430)} '
            f"{at(foot + side * 25, 500)}"
            f"C{at(foot + side * 28, 560)} {at(foot + side * 16, 640)} {at(foot + side * 14, 705)}"
            f"L{at(foot - side * 14, 705)}"
            f"C{at(foot - side * 18, 640)} {at(foot - side * 26, 560)} {at(foot - side * 23, 500)}"
            f'L{at(side * 3, 330)}Z" fill="{skin}"/>'
            f'<path d="M{at(foot - 20, 694)}h40q10 24 4 38h-48q-6 -14 4 -38Z" fill="{shoe}"/>'
        )
    return "".join(pieces)


def _head_svg(skin: str, hair: str, style: str, dice: Dice, *, back: bool) -> str:
    face = f'<ellipse cx="0" cy="-86" rx="41" ry="52" fill="{skin}"/>'
    ears = (
        f'<ellipse cx="-41" cy="-84" rx="7" ry="12" fill="{skin}"/><ellipse cx="41" cy="-84" rx="7" ry="12" '
        f'fill="{skin}"/>'
    )
    behind = {
        "long": f'<path d="M-46 -96C-50 -150 50 -150 46 -96Q54 -50 56 40H-56Q-54 -50 -46 -96Z" fill="{hair}"/>',
        "bob": f'<path d="M-46 -92C-50 -152 50 -152 46 -92Q54 -56 48 -34H-48Q-54 -56 -46 -92Z" fill="{hair}"/>',
        "bun": f'<circle cx="0" cy="-146" r="20" fill="{hair}"/>',
    }.get(style, "")
    if back:
        crown = f'<path d="M-43 -74C-48 -152 48 -152 43 -74Q36 -40 0 -38Q-36 -40 -43 -74Z" fill="{hair}"/>'
        return ears + face + (crown if style != "shaved" else "") + behind
    cap = dice.pick(PALETTE).hex
    short = "M-44 -84C-50 -154 50 -154 44 -84Q40 -108 26 -116Q-8 -104 -34 -116Q-42 -104 -44 -84Z"
    fringe = {
        "shaved": "",
        "cap": f'<path d="M-44 -100C-46 -150 46 -150 44 -100Q60 -98 62 -90Q0 -104 -44 -96Z" fill="{cap}"/>',
        "short": f'<path d="{short}" fill="{hair}"/>',
    }.get(style, f'<path d="M-43 -76C-50 -152 50 -152 43 -76Q38 -108 10 -122Q-28 -112 -43 -76Z" fill="{hair}"/>')
    features = (
        '<g fill="#2b211d"><ellipse cx="-15" cy="-88" rx="4" ry="3"/><ellipse cx="15" cy="-88" rx="4" ry="3"/></g>'
        '<path d="M-22 -98q7 -5 14 -1M8 -99q7 -4 14 1" stroke="#2b211d" stroke-width="2.4" fill="none" opacity=".75"/>'
        '<path d="M0 -86q5 14 -1 16" stroke="#000" stroke-opacity=".25" stroke-width="2" fill="none"/>'
        f'<path d="M-11 -58q11 {dice.between(2, 9):.1f} 22 0" stroke="#94463f" stroke-width="3.4" fill="none"/>'
    )
    return behind + ears + face + features + fringe


def _front_svg(hair: str, style: str, dice: Dice, *, back: bool) -> str:
    """What lies over the garment: loose hair, the strap of a bag."""
    pieces = []
    if style == "long" and back:
        pieces.append(f'<path d="M-46 -60Q-58 10 -48 62Q0 78 48 62Q58 10 46 -60Z" fill="{hair}"/>')
    elif style == "long":
        pieces.extend(
            f'<path d="M{at(s * 43, -60)}C{at(s * 58, -20)} {at(s * 52, 20)} {at(s * 47, 52)}Q{at(s * 36, 40)} '
            f"{at(s * 36, 4)}"
            f'Q{at(s * 44, -30)} {at(s * 36, -58)}Z" fill="{hair}"/>'
            for s in (-1, 1)
        )
    if dice.chance(0.18):
        color = dice.pick(PALETTE).shaded(0.8)
        side = 1 if dice.chance(0.5) else -1
        pieces.append(
            f'<path d="M{at(side * 50, 6)}Q{at(side * 10, 110)} {at(-side * 84, WAIST_Y + 40)}" fill="none" '
            f'stroke="{color}" stroke-width="8"/>'
            f'<path d="M{at(-side * 108 - 30, WAIST_Y + 30)}h60q8 0 8 8v42q0 8 -8 8h-60q-8 0 -8 -8v-42q0 -8 8 -8Z" '
            f'fill="{color}"/>'
        )
    return "".join(pieces)


def hanger_svg(look: Look) -> str:
    """What a garment hangs on: shoulders for a top, two clips for what starts at the waist."""
    if look.category in TOPS:
        return (
            '<path d="M0 2V-26q14 -6 12 -20q-3 -13 -16 -12" fill="none" stroke="#8f9296" stroke-width="5"/>'
            '<path d="M-76 26L0 0L76 26" fill="none" stroke="#7a5a3c" stroke-width="11" stroke-linejoin="round"/>'
        )
    y = WAIST_Y - 24
    return (
        f'<path d="M0 {y:.0f}v-22q14 -6 12 -20q-3 -13 -16 -12" fill="none" stroke="#8f9296" stroke-width="5"/>'
        f'<path d="M-66 {y:.0f}H66" stroke="#8f9296" stroke-width="6"/>'
        f'<path d="M-56 {y - 4:.0f}h14v40h-14ZM42 {y - 4:.0f}h14v40h-14Z" fill="#3c3f44"/>'
    )
