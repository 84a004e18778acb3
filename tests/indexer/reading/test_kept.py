"""What was read lately is given again, and there is a bound on it."""

from __future__ import annotations

from threadmatch.indexer.reading.kept import Kept


def test_the_half_read_first_is_forgotten_where_there_are_too_many() -> None:
    kept: Kept[str] = Kept(4)
    kept.put({1: "a", 2: "b", 3: "c"})
    assert kept.get([1, 3, 9]) == {1: "a", 3: "c"}
    kept.put({4: "d", 5: "e"})
    assert kept.get(range(10)) == {2: "b", 3: "c", 4: "d", 5: "e"}
    kept.put(dict.fromkeys(range(10, 30), "many"))
    assert kept.get([28, 29]) == {28: "many", 29: "many"}
    assert len(kept) <= 4
