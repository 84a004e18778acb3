"""From scores to an answer: order, products with their views, photos held twice, and what is too improbable.

Every test says its shortlist as a table: an item a line, in the first stage's order, with its product and its photo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadmatch.indexer.reading.gallery import Candidate, Item
from threadmatch.model.chain import Ranking
from threadmatch.model.images import Box
from threadmatch.service.http.schemas.search import SearchOptions
from threadmatch.service.search.picking import pick
from threadmatch.service.search.results import Match


@dataclass(frozen=True, slots=True)
class Row:
    """An item of the shortlist; two rows with one `photo` show the same picture. NaN: no calibrated stage scored it."""

    id: str
    product: str | None
    photo: str
    probability: float


SHORTLIST = [
    Row("shirt-front", "shirt", "p1", 0.30),
    Row("shirt-back", "shirt", "p2", 0.90),
    Row("relisted", "other", "p1", 0.80),
    Row("shirt-side", "shirt", "p3", 0.20),
    Row("lonely", None, "p4", 0.70),
    Row("lonely-again", None, "p4", 0.60),
    Row("last", "last", "p5", 0.10),
]


def picked(rows: Sequence[Row], *, twins: bool = True, **asked: object) -> list[Match]:
    """What `pick` makes of a table that a stage ordered by its probabilities."""
    values = np.array([row.probability for row in rows], np.float32)
    ranking = Ranking(len(rows))
    ranking.rerank("grnet", values * 9)
    candidates = [Candidate(row.id, n, n / 10) for n, row in enumerate(rows)]
    items = [Item(row.id, row.product, "{}", 10, 10, Box(0, 0, 10, 10)) for row in rows]

    def twin(place: int, shown: Sequence[int]) -> int | None:
        return next((one for one in shown if rows[one].photo == rows[place].photo), None)

    options = SearchOptions.model_validate(asked)
    found = twin if twins else None
    return pick(candidates, items, ranking=ranking, probabilities=values, options=options, twin=found)


def told(matches: Sequence[Match]) -> list[tuple[str, list[str], list[str]]]:
    """Of each match its id, its views and its duplicates."""
    return [
        (match.item.id, [view.item.id for view in match.views or []], [same.item.id for same in match.duplicates])
        for match in matches
    ]


def test_items_come_by_score_and_say_where_they_were() -> None:
    matches = picked(SHORTLIST, twins=False, top_k=3)
    assert [(match.rank, match.item.id, match.stage1_rank) for match in matches] == [
        (1, "shirt-back", 2), (2, "relisted", 3), (3, "lonely", 5),
    ]  # fmt: skip
    assert matches[0].score == pytest.approx(8.1)
    assert matches[0].probability == pytest.approx(0.9)
    assert matches[0].distance == pytest.approx(0.1)
    assert all(match.views is None for match in matches)


@pytest.mark.parametrize(
    ("group_by", "twins", "min_probability", "expected"),
    [
        ("item", False, None, [
            ("shirt-back", [], []), ("relisted", [], []), ("lonely", [], []), ("lonely-again", [], []),
            ("shirt-front", [], []), ("shirt-side", [], []), ("last", [], []),
        ]),
        ("item", False, 0.65, [("shirt-back", [], []), ("relisted", [], []), ("lonely", [], [])]),
        ("item", True, None, [
            ("shirt-back", [], []), ("relisted", [], ["shirt-front"]), ("lonely", [], ["lonely-again"]),
            ("shirt-side", [], []), ("last", [], []),
        ]),
        # too improbable to be a match, yet named as what repeats one
        ("item", True, 0.65, [
            ("shirt-back", [], []), ("relisted", [], ["shirt-front"]), ("lonely", [], ["lonely-again"]),
        ]),
        ("product", False, None, [
            ("shirt-back", ["shirt-front", "shirt-side"], []), ("relisted", [], []), ("lonely", [], []),
            ("lonely-again", [], []), ("last", [], []),
        ]),
        # a view may be improbable where the product's best item is not
        ("product", False, 0.65, [
            ("shirt-back", ["shirt-front", "shirt-side"], []), ("relisted", [], []), ("lonely", [], []),
        ]),
        # shirt-front shows what `relisted` shows already, so it is no further view of the shirt
        ("product", True, None, [
            ("shirt-back", ["shirt-side"], []), ("relisted", [], ["shirt-front"]), ("lonely", [], ["lonely-again"]),
            ("last", [], []),
        ]),
        ("product", True, 0.85, [("shirt-back", ["shirt-front", "shirt-side"], [])]),
        ("product", True, 0.95, []),
    ],
)  # fmt: skip
def test_products_duplicates_and_the_least_probability_meet(
    group_by: str, twins: bool, min_probability: float | None, expected: list[tuple[str, list[str], list[str]]]
) -> None:
    asked = {"group_by": group_by, "min_probability": min_probability}
    assert told(picked(SHORTLIST, twins=twins, **asked)) == expected


def test_an_item_that_no_calibrated_stage_scored_is_left_out_only_where_that_is_asked() -> None:
    rows = [Row("sure", "a", "p1", 0.9), Row("unknown", "b", "p2", np.nan), Row("unknown-view", "a", "p3", np.nan)]
    assert [match.probability for match in picked(rows)] == [pytest.approx(0.9), None, None]
    assert told(picked(rows, min_probability=0.0)) == [("sure", [], [])]
    assert told(picked(rows, group_by="product", min_probability=0.5)) == [("sure", ["unknown-view"], [])]


def test_what_repeats_the_photo_of_a_view_belongs_to_the_views_match() -> None:
    rows = [Row("a-front", "a", "p1", 0.9), Row("a-back", "a", "p2", 0.8), Row("b", "b", "p2", 0.7)]
    assert told(picked(rows, group_by="product")) == [("a-front", ["a-back"], ["b"])]


def test_a_full_answer_still_names_views_and_duplicates_that_come_behind_it() -> None:
    rows = [
        Row("a", "a", "p1", 0.9), Row("b", "b", "p2", 0.8), Row("a-back", "a", "p3", 0.7), Row("again", "c", "p1", 0.6),
    ]  # fmt: skip
    assert told(picked(rows, group_by="product", top_k=1)) == [("a", ["a-back"], ["again"])]


def test_the_photo_of_an_item_that_is_left_out_folds_nothing() -> None:
    rows = [Row("a", "a", "p1", 0.9), Row("beyond", "b", "p2", 0.8), Row("repeats-it", "a", "p2", 0.7)]
    assert told(picked(rows, group_by="product", top_k=1)) == [("a", ["repeats-it"], [])]


def test_views_are_ranked_behind_their_match() -> None:
    (match, *_) = picked(SHORTLIST, twins=False, group_by="product")
    assert [(view.rank, view.stage1_rank) for view in match.views or []] == [(2, 1), (3, 4)]


ROWS = st.lists(
    st.tuples(st.sampled_from([None, "x", "y", "z"]), st.sampled_from("abcde"), st.sampled_from([0.1, 0.4, 0.5, 0.9])),
    max_size=12,
).map(lambda table: [Row(f"item-{n}", *row) for n, row in enumerate(table)])


@given(ROWS, st.integers(1, 4), st.sampled_from(["item", "product"]), st.booleans(), st.sampled_from([None, 0.45, 0.9]))
def test_whatever_the_shortlist_each_item_is_shown_once_and_each_photo_once(
    rows: list[Row], top_k: int, group_by: str, twins: bool, least: float | None
) -> None:
    matches = picked(rows, twins=twins, top_k=top_k, group_by=group_by, min_probability=least)
    by_id = {row.id: row for row in rows}
    heads = [by_id[match.item.id] for match in matches]
    assert [match.rank for match in matches] == list(range(1, len(matches) + 1))
    assert len(matches) <= top_k
    assert [row.probability for row in heads] == sorted((row.probability for row in heads), reverse=True)
    assert all(row.probability >= np.float32(least or 0) for row in heads)
    shown = [*heads, *(by_id[view.item.id] for match in matches for view in match.views or [])]
    folded = [by_id[same.item.id] for match in matches for same in match.duplicates]
    assert len({row.id for row in [*shown, *folded]}) == len(shown) + len(folded)
    if twins:
        assert len({row.photo for row in shown}) == len(shown)
        assert {row.photo for row in folded} <= {row.photo for row in shown}
    if group_by == "product":
        named = [row.product for row in heads if row.product is not None]
        assert len(set(named)) == len(named)
        for match in matches:
            assert all(by_id[view.item.id].product == by_id[match.item.id].product for view in match.views or [])
    missing = [row for row in rows if row not in shown and row not in folded]
    if len(matches) < top_k and least is None:
        assert missing == [], "nothing is left out while there is room"
