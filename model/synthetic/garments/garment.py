"""A drawn garment: who it is and what it looks like, as a pure function of (seed, index).

No state and no order: garment 999,999 can be made alone, and workers can split any range. Garments come in blocks of
`BLOCK`; in each block `FAMILY_MEMBERS` of them belong to families of two to four siblings with consecutive indices,
which differ in one small part only (a logo, a collar, a pocket, a trim): telling them apart is what reranking is for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from threadmatch.model.errors import DataError
from threadmatch.model.synthetic.garments.dyes import Dice, contrasting
from threadmatch.model.synthetic.garments.kinds import KINDS, LOGO_SHAPES, garment_name
from threadmatch.model.synthetic.garments.look import Logo, Look
from threadmatch.model.synthetic.garments.sampling import sample_look

BLOCK: Final = 20
FAMILY_MEMBERS: Final = 6
FAMILY_SHARE: Final = FAMILY_MEMBERS / BLOCK
"""Share of garments that have siblings, exact in each whole block."""

_FAMILY_SIZES: Final = ((2, 4), (3, 3), (4, 2), (2, 2, 2))
_LAYOUT, _LOOK, _DIFFERENCE, _PRICE = range(4)  # purposes of the random streams


@dataclass(frozen=True, slots=True)
class Garment:
    """One product of a drawn shop.

    Fields:
        id: e.g. "drawn-000017"; also its product id, as each garment has one shop image.
        seed, index: what it was made from.
        name: e.g. "Striped crew-neck T-shirt".
        look: everything that decides its drawing.
        price: in the shop's currency, siblings cost the same.
        family: e.g. "family-000015" (the index of its first member), None for a garment without siblings.
        differs_in: the one part in which its family's members differ, e.g. "logo"; None without siblings.
    """

    id: str
    seed: int
    index: int
    name: str
    look: Look
    price: float
    family: str | None
    differs_in: str | None

    @property
    def category(self) -> str:
        """A key of `KINDS`, e.g. "t-shirt"."""
        return self.look.category

    @property
    def color(self) -> str:
        """Name of the main colour."""
        return self.look.main.name

    @property
    def attributes(self) -> dict[str, str]:
        """Every visible attribute as text, for filters and metadata."""
        return self.look.attributes()


def garment(seed: int, index: int) -> Garment:
    """Make garment `index` of the shop `seed`.

    Args:
        seed: which shop, 0 or more.
        index: which garment, 0 or more; there is no last one.

    Raises:
        DataError: a negative seed or index.
    """
    if seed < 0 or index < 0:
        raise DataError(f"a drawn garment needs a seed and an index of 0 or more, got seed {seed}, index {index}")
    first, size = _family_of(seed, index)
    look = sample_look(Dice(seed, _LOOK, first))
    differs_in = None
    if size > 1:
        look, differs_in = _sibling(look, Dice(seed, _DIFFERENCE, first), position=index - first, size=size)
    low, high = KINDS[look.category].price
    return Garment(
        id=f"drawn-{index:06d}",
        seed=seed,
        index=index,
        name=garment_name(look),
        look=look,
        price=round(Dice(seed, _PRICE, first).between(low, high)) + 0.95,
        family=f"family-{first:06d}" if size > 1 else None,
        differs_in=differs_in,
    )


def _family_of(seed: int, index: int) -> tuple[int, int]:
    """First index and size of the family that `index` belongs to; (index, 1) without siblings."""
    block = index // BLOCK
    dice = Dice(seed, _LAYOUT, block)
    sizes = dice.shuffled((1,) * (BLOCK - FAMILY_MEMBERS) + dice.pick(_FAMILY_SIZES))
    first = block * BLOCK
    for size in sizes:
        if index < first + size:
            return first, size
        first += size
    raise AssertionError("the sizes of a block sum to BLOCK")


def _sibling(look: Look, dice: Dice, *, position: int, size: int) -> tuple[Look, str]:
    """The member at `position` of a family of `size`, and the part its members differ in."""
    kind = KINDS[look.category]
    words = {"collar": len(set(kind.collars)), "neckline": len(set(kind.necklines) - {"turtleneck"})}
    # Logos, pockets, trims and buttons vary in colour too, so there is always another one.
    part = dice.pick([part for part in kind.varies if words.get(part, size) >= size])
    members: list[Look] = []
    while len(members) < size:
        member = _VARIATIONS[part](look, dice, members)
        if member not in members:
            members.append(member)
    return members[position], part


def _vary_logo(look: Look, dice: Dice, members: list[Look]) -> Look:
    taken = [member.logo for member in members if member.logo]
    shape = dice.pick([s for s in LOGO_SHAPES if s not in {logo.shape for logo in taken}])
    if taken and dice.chance(0.5):  # the same print in another shape
        return replace(look, logo=replace(taken[0], shape=shape))
    place = taken[0].place if taken else dice.pick(KINDS[look.category].logo_places)
    size = taken[0].size if taken else dice.between(1.5, 2.2)
    color = contrasting(dice, *look.body_colors(), *(logo.color for logo in taken))
    return replace(look, logo=Logo(shape, place, color, size))


def _vary_collar(look: Look, dice: Dice, members: list[Look]) -> Look:
    del members
    return replace(look, collar=dice.pick(KINDS[look.category].collars))


def _vary_neckline(look: Look, dice: Dice, members: list[Look]) -> Look:
    del members
    # A turtleneck is not a small part: it covers the whole neck.
    return replace(look, neckline=dice.pick([n for n in KINDS[look.category].necklines if n != "turtleneck"]))


def _vary_pocket(look: Look, dice: Dice, members: list[Look]) -> Look:
    pocket = dice.pick(KINDS[look.category].pockets)
    taken = [member.pocket_color for member in members if member.pocket_color]
    contrasted = pocket != "none" and dice.chance(0.5)
    return replace(look, pocket=pocket, pocket_color=contrasting(dice, look.main, *taken) if contrasted else None)


def _vary_trim(look: Look, dice: Dice, members: list[Look]) -> Look:
    # "none" and "rib" show no trim colour.
    trim = dice.pick([t for t in KINDS[look.category].trims if t not in {"none", "rib"}])
    return replace(look, trim=trim, trim_color=contrasting(dice, look.main, *(m.trim_color for m in members)))


def _vary_buttons(look: Look, dice: Dice, members: list[Look]) -> Look:
    return replace(look, button_color=contrasting(dice, look.main, *(m.button_color for m in members)))


_VARIATIONS: Final = {
    "logo": _vary_logo,
    "collar": _vary_collar,
    "neckline": _vary_neckline,
    "pocket": _vary_pocket,
    "trim": _vary_trim,
    "buttons": _vary_buttons,
}
"""How a family's members come to differ, by part."""
