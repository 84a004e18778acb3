"""The roles never share a garment."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

from threadmatch.model.synthetic.judging_sets import (
    SETS,
    UNSEEN_PHOTOGRAPHER,
    UNSEEN_SHOP,
    Drawn,
    Photographed,
    Role,
    Worn,
)
from threadmatch.model.synthetic.street.street_set import read_sources


def test_no_two_sets_share_worn_photos_or_drawn_garments() -> None:
    worn = [spec for role in SETS.values() for spec in role.values() if isinstance(spec, Worn)]
    for one, other in combinations(worn, 2):
        assert one.split != other.split or one.share[1] <= other.share[0] or other.share[1] <= one.share[0]
    drawn = [spec.seed for role in SETS.values() for spec in role.values() if isinstance(spec, Drawn)]
    assert len(set(drawn)) == len(drawn)


def test_the_test_role_has_a_maker_that_no_other_role_has() -> None:
    makers = {role: {s.maker for s in sets.values() if isinstance(s, Photographed)} for role, sets in SETS.items()}
    assert not makers["test"] & (makers["fit"] | makers["val"])


def test_no_owner_of_photos_is_in_two_roles(shared_data: Path) -> None:
    owners: dict[Role, set[str]] = {}
    for role, sets in SETS.items():
        for spec in sets.values():
            if isinstance(spec, Photographed):
                photos = [p for p in read_sources(shared_data, spec.sources) if p.split == spec.split]
                unseen = {p.owner for p in photos if p.owner == UNSEEN_PHOTOGRAPHER or p.owner.startswith(UNSEEN_SHOP)}
                owners[role] = unseen if spec.unseen else {p.owner for p in photos} - unseen
    for one, other in combinations(owners, 2):
        assert owners[one]
        assert not owners[one] & owners[other]
    assert not owners["test"] & {
        p.owner for p in read_sources(shared_data, ("clothing", "venia")) if p.split == "train"
    }
