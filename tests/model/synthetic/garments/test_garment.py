"""Identity and attributes of drawn garments: pure functions of (seed, index)."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from threadmatch.model.errors import DataError
from threadmatch.model.synthetic.drawn.shading import rasterise
from threadmatch.model.synthetic.drawn.shop_image import draw_shop_image
from threadmatch.model.synthetic.garments.dyes import PALETTE, Dice, contrasting, distance
from threadmatch.model.synthetic.garments.garment import BLOCK, FAMILY_SHARE, Garment, garment
from threadmatch.model.synthetic.garments.kinds import KINDS, LOGO_SHAPES, PATTERN_SCALES, PATTERNS
from threadmatch.model.synthetic.garments.look import Logo, Look
from threadmatch.model.synthetic.garments.outlines import flat_pose, garment_bounds
from threadmatch.model.synthetic.garments.sampling import sample_look
from threadmatch.model.synthetic.garments.svg import garment_group

# The fields of a look that each part may change; everything else must be equal among siblings.
PART_FIELDS = {
    "logo": {"logo"},
    "collar": {"collar"},
    "neckline": {"neckline"},
    "pocket": {"pocket", "pocket_color"},
    "trim": {"trim", "trim_color"},
    "buttons": {"button_color"},
}
FIELDS_OF_WORDS = {
    "necklines": "neckline", "sleeves": "sleeves", "lengths": "length", "fits": "fit", "patterns": "pattern",
    "fabrics": "fabric", "collars": "collar", "closures": "closure", "pockets": "pocket", "trims": "trim",
}  # fmt: skip


def families(seed: int, blocks: int) -> list[list[Garment]]:
    items = [garment(seed, index) for index in range(blocks * BLOCK)]
    return [list(group) for family, group in itertools.groupby(items, key=lambda item: item.family) if family]


def alpha(look: Look, *, back: bool = False) -> np.ndarray:
    group = garment_group(look, flat_pose(look), back=back)
    return rasterise(group, garment_bounds(look, flat_pose(look)), size=(60, 80))


def test_a_garment_is_the_same_whenever_it_is_made() -> None:
    alone = garment(3, 999_999)
    for index in range(5):
        garment(3, index)
    assert garment(3, 999_999) == alone
    assert alone.id == "drawn-999999"
    assert garment(4, 999_999) != alone


def test_garments_differ_from_one_another() -> None:
    looks = [garment(5, index).look for index in range(300)]
    assert len(set(looks)) == 300
    assert {look.category for look in looks} == set(KINDS)


def test_the_stated_share_of_garments_has_siblings() -> None:
    found = families(7, blocks=30)
    assert sum(len(family) for family in found) == FAMILY_SHARE * 30 * BLOCK
    assert {len(family) for family in found} == {2, 3, 4}


def test_siblings_are_neighbours_that_differ_in_one_part() -> None:
    for family in families(11, blocks=40):
        first = family[0]
        assert [item.index for item in family] == list(range(first.index, first.index + len(family)))
        assert first.family == f"family-{first.index:06d}"
        assert len({item.look for item in family}) == len(family)
        assert first.differs_in is not None
        allowed = PART_FIELDS[first.differs_in]
        for item in family[1:]:
            changed = {
                field.name
                for field in dataclasses.fields(Look)
                if getattr(item.look, field.name) != getattr(first.look, field.name)
            }
            assert changed <= allowed
            assert (item.price, item.differs_in) == (first.price, first.differs_in)


def test_every_part_is_varied_by_some_family() -> None:
    assert {family[0].differs_in for family in families(7, blocks=60)} == set(PART_FIELDS)


def test_a_negative_seed_or_index_is_refused() -> None:
    with pytest.raises(DataError, match="index of 0 or more"):
        garment(1, -1)
    with pytest.raises(DataError, match="seed"):
        garment(-1, 1)


@pytest.mark.parametrize("category", sorted(KINDS))
def test_every_word_of_every_attribute_is_drawn(category: str) -> None:
    kind = KINDS[category]
    base = sample_look(Dice(1, 2), categories=[category])
    for words, field in FIELDS_OF_WORDS.items():
        for word in set(getattr(kind, words)):
            look = dataclasses.replace(base, **{field: word})
            for back in (False, True):
                assert (alpha(look, back=back)[..., 3] > 128).mean() > 0.1, (field, word)
    for place in kind.logo_places:
        look = dataclasses.replace(base, logo=None)
        printed = dataclasses.replace(look, logo=Logo("circle", place, contrasting(Dice(1), *look.body_colors()), 1.2))
        assert (alpha(printed) != alpha(look)).any(), place
        assert (alpha(printed, back=True) == alpha(look, back=True)).all(), "a print is on the front"


def test_every_pattern_and_every_print_looks_different() -> None:
    base = dataclasses.replace(sample_look(Dice(1, 2), categories=["t-shirt"]), logo=None, fabric="jersey", trim="none")
    patterns = [dataclasses.replace(base, pattern=p, pattern_scale=s) for p in PATTERNS for s in PATTERN_SCALES]
    prints = [
        dataclasses.replace(base, pattern="plain", logo=Logo(shape, "centre", base.second, 4)) for shape in LOGO_SHAPES
    ]
    pictures = {alpha(look).tobytes() for look in (*patterns, *prints)}
    plain = len(PATTERN_SCALES) - 1  # plain cloth has no scale; colour blocks neither
    assert len(pictures) == len(patterns) + len(prints) - 2 * plain


def test_the_back_shows_none_of_what_is_on_the_front() -> None:
    look = sample_look(Dice(1, 2), categories=["shirt"])
    back = garment_group(look, flat_pose(look), back=True)
    assert look.button_color.hex in garment_group(look, flat_pose(look))
    assert look.button_color.hex not in back


def test_attributes_are_words_and_say_none_for_what_is_not_there() -> None:
    for index in range(60):
        item = garment(2, index)
        assert all(isinstance(value, str) and value for value in item.attributes.values())
        assert (item.attributes["logo"] == "none") == (item.look.logo is None)
        assert item.name[0].isupper()
        assert item.price > 0


def test_a_contrasting_colour_stands_out() -> None:
    for number, color in enumerate(PALETTE):
        assert distance(contrasting(Dice(number), color), color) > 0.25


def test_siblings_pictures_differ_in_a_small_area_only() -> None:
    for family in families(11, blocks=12):
        pictures = [draw_shop_image(item).astype(np.int16) for item in family]
        for one, other in itertools.combinations(pictures, 2):
            share = float((np.abs(one - other).max(axis=2) > 12).mean())
            assert 0.001 < share < 0.12, (family[0].id, family[0].differs_in, share)
