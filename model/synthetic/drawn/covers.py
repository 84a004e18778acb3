"""What stands between the camera and a garment. A cover is drawn around (0, 0), so that scaling it hides more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from threadmatch.model.synthetic.drawn.places import rect
from threadmatch.model.synthetic.garments.dyes import PALETTE, Dice

_SKIN: Final = ("#e8bb98", "#d9a27c", "#b97f57", "#8e5b3c")
_LEAVES: Final = ("#3f6b3a", "#4f7a3f", "#2f5438", "#6f9149")


def _bag(dice: Dice) -> str:
    color = dice.pick(PALETTE)
    return (
        f'<path d="M-26 -50C-26 -104 26 -104 26 -50" fill="none" stroke="{color.shaded(0.6)}" stroke-width="7"/>'
        f'<path d="M-58 -50H58L66 66H-66Z" fill="{color.hex}"/><path d="M-58 -50H58L59 -36H-59Z" '
        f'fill="{color.shaded(0.85)}"/>'
        f'<circle cx="0" cy="14" r="20" fill="{dice.pick(PALETTE).hex}"/>'
    )


def _paper(dice: Dice) -> str:
    """A magazine or folder held up."""
    page = rect(-58, -78, 116, 156, dice.pick(("#f5f2ea", "#dde4e8", "#f3d9b1")))
    lines = "".join(f"M-44 {-30 + 13 * k}h{88 if k % 4 else 52}" for k in range(8))
    return (
        f'<g transform="rotate({dice.between(-16, 16):.0f})">{page}'
        f'{rect(-46, -66, 92, 24, dice.pick(PALETTE).hex)}<path d="{lines}" stroke="#6b6b6b" stroke-width="4"/></g>'
        f'<ellipse cx="58" cy="40" rx="20" ry="14" fill="{dice.pick(_SKIN)}"/>'
    )


def _coat(dice: Dice) -> str:
    """A coat carried over an arm."""
    color = dice.pick(PALETTE)
    folds = "M-52 -34Q-44 30 -52 86M-14 -44Q-6 20 -16 84M26 -46Q30 30 22 92M56 -40Q62 10 56 66"
    return (
        '<path d="M-84 -34Q0 -72 84 -34Q92 20 78 82Q52 66 30 98Q2 78 -24 96Q-50 84 -86 92Q-92 20 -84 -34Z" '
        f'fill="{color.hex}"/>'
        f'<path d="{folds}" fill="none" stroke="{color.shaded(0.7)}" stroke-width="7" stroke-linecap="round"/>'
        f'<path d="M-84 -34Q0 -72 84 -34Q40 -26 0 -28Q-44 -28 -84 -34Z" fill="{color.shaded(0.82)}"/>'
        f'<ellipse cx="62" cy="-26" rx="24" ry="15" fill="{dice.pick(_SKIN)}"/>'
    )


def _plant(dice: Dice) -> str:
    leaves = "".join(
        f'<path d="M0 0C-26 -50 -20 -110 0 -150C20 -110 26 -50 0 0Z" fill="{dice.pick(_LEAVES)}" '
        f'transform="translate({dice.between(-34, 34):.0f} 84)rotate({dice.between(-66, 66):.0f})"/>'
        for _ in range(13)
    )
    return leaves + f'<path d="M-40 74h80l-10 80h-60Z" fill="{dice.pick(("#b5653f", "#e6e2da", "#57606a"))}"/>'


def _post(dice: Dice) -> str:
    color = dice.pick(("#5b4636", "#4b5257", "#8d8f92", "#2f4a3c"))
    return (
        rect(-36, -900, 72, 1800, color)
        + rect(-36, -900, 16, 1800, "#fff", 'opacity=".14"')
        + rect(14, -900, 22, 1800, "#000", 'opacity=".2"')
    )


def _passer(dice: Dice) -> str:
    """The back of somebody walking through the picture."""
    coat, hair = dice.pick(PALETTE), dice.pick(("#1d1815", "#5a3a22", "#c79b5a", "#8c8a88"))
    return (
        f'<path d="M-96 260C-112 60 -92 6 -34 -8H34C92 6 112 60 96 260Z" fill="{coat.hex}"/>'
        f'<path d="M0 -6V260" stroke="{coat.shaded(0.7)}" stroke-width="4"/><ellipse cx="0" cy="-52" rx="40" ry="50" '
        f'fill="{hair}"/>'
        f'<path d="M-20 -20H20V4H-20Z" fill="{dice.pick(_SKIN)}"/><ellipse cx="0" cy="-56" rx="42" ry="48" '
        f'fill="{hair}"/>'
    )


def _umbrella(dice: Dice) -> str:
    color = dice.pick(PALETTE)
    return (
        f'<g transform="rotate({dice.between(-30, 30):.0f})"><path d="M-110 20C-110 -100 110 -100 110 20Q82 0 55 20'
        'Q28 0 0 20Q-28 0 -55 20Q-82 0 -110 20Z" '
        f'fill="{color.hex}"/><path d="M0 -70Q-44 -50 -55 20M0 -70Q44 -50 55 20M0 -70V130" fill="none" '
        f'stroke="{color.shaded(0.65)}" stroke-width="4"/></g>'
    )


def _box(dice: Dice) -> str:
    """A parcel carried in both hands."""
    color, skin = dice.pick(("#c19a6b", "#b48a5a", "#e8e3da", "#5c6b7a")), dice.pick(_SKIN)
    carton = rect(-84, -52, 168, 110, color, 'rx="4"') + rect(-12, -52, 24, 110, "#000", 'opacity=".12"')
    hands = "".join(f'<ellipse cx="{x}" cy="30" rx="14" ry="22" fill="{skin}"/>' for x in (-84, 84))
    return carton + rect(28, -36, 42, 28, "#f4f1ea") + hands


COVERS: Final[dict[str, Callable[[Dice], str]]] = {
    "bag": _bag,
    "paper": _paper,
    "coat": _coat,
    "plant": _plant,
    "post": _post,
    "passer": _passer,
    "umbrella": _umbrella,
    "box": _box,
}
"""Drawers of a cover around (0, 0), about 150 wide."""
