"""Both sides of a set go through the same change, and what people refused stays with its positions."""

from __future__ import annotations

from threadmatch.model.data.sides import Sides


def test_both_sides_are_changed_alike_and_refusals_stay() -> None:
    sides = Sides(["a", "bb"], ["ccc"], {0: [1]})
    lengths = sides.map(lambda side: [len(name) for name in side])
    assert lengths == Sides([1, 2], [3], {0: [1]})
    assert sides.gallery == ["a", "bb"], "the set itself is as it was"
    assert Sides(1, 2).refused == {}
