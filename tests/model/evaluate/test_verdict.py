"""The verdict of an evaluation says what its figures say: a good model, a bad one, a small set."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from threadmatch.model.evaluate.report import folded, markdown
from threadmatch.model.evaluate.verdict import verdict, wilson


def _rates(top1: float) -> dict[str, float]:
    return {"top1": top1, "top5": min(1.0, top1 + 0.05), "top20": 1.0, "top50": 1.0, "mrr": top1}


def _gain(mean: float, half: float) -> dict[str, dict[str, float]]:
    own = {"mean": mean, "low": mean - half, "high": mean + half}
    return {"top1": own, "mrr": own}


GOOD: dict[str, Any] = {
    "queries": 400,
    "answerable": 400,
    "candidates": 200,
    "methods": {"global": _rates(0.8), "greedy": _rates(0.85), "grnet": _rates(0.9)},
    "gain_over": {"global": _gain(0.1, 0.03), "greedy": _gain(0.05, 0.02)},
    "shortlist_recall": {"50": 0.97, "100": 0.985, "200": 0.995, "500": 1.0},
    "by_setup": {
        "easy": {"queries": 300, "grnet": _rates(0.93), "global": _rates(0.9), "greedy": _rates(0.9)},
        "hard_view": {"queries": 100, "grnet": _rates(0.81), "global": _rates(0.5), "greedy": _rates(0.7)},
    },
    "by_category": {"hats": {"queries": 4, "grnet": _rates(0.0), "global": _rates(0.0), "greedy": _rates(0.0)}},
    "calibration": {"ece": 0.031},
    "no_match": {"threshold": 0.3, "false_reject": 0.04, "false_accept": 0.25},
}


def _said(**changes: Any) -> str:
    return "\n".join(verdict({**copy.deepcopy(GOOD), **changes}))


def test_a_good_model_is_said_to_be_good() -> None:
    said = _said()
    assert said.startswith("The right item comes first for 90 % of 400 queries [86.7, 92.6], and among the first five")
    assert "adds +10.0 [+7.0, +13.0] points over stage one alone." in said
    assert "adds +5.0 [+3.0, +7.0] points over greedy." in said
    assert "Probabilities hold: stated and found differ by 3.1 points" in said
    assert '"No match" is said of 75 % of the searches whose garment is not there, and wrongly of 4 %' in said
    assert "calibrate" not in said
    assert "Weakest: hard_view, with 81 % of 100 queries." in said, "four hats say nothing"
    assert "few" not in said.replace("fewer", "")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"gain_over": {"global": _gain(0.1, 0.03), "greedy": _gain(0.0, 0.05)}}, "so `matcher=greedy` will do"),
        ({"gain_over": {"global": _gain(-0.1, 0.03)}}, "that is a loss, so take `matcher=global`"),
        ({"calibration": {"ece": 0.15}}, "off by 15 points in the mean: run `threadmatch calibrate`"),
        ({"no_match": {"threshold": 0.3, "false_reject": 0.11, "false_accept": 0.72}}, "no reason to send a customer"),
        ({"no_match": {"threshold": None, "false_reject": 0.0, "false_accept": 1.0}}, "Probabilities hold"),
        ({"shortlist_recall": {"50": 0.6, "100": 0.7, "200": 0.9, "500": 1.0}}, "For 10 % of the queries"),
        ({"answerable": 380}, "20 queries show a product that the gallery does not have"),
        ({"queries": 60, "answerable": 60}, "60 queries are few: rates are known to about 12 points only"),
    ],
)
def test_what_cannot_be_relied_on_is_said(changes: dict[str, Any], expected: str) -> None:
    assert expected in _said(**changes)


def test_an_interval_of_a_share_is_wilsons() -> None:
    low, high = wilson(0.1, 10)  # Wilson's worked form: 1 of 10
    assert [low, high] == pytest.approx([0.01788, 0.40415], abs=1e-4)
    assert wilson(1.0, 5)[1] == 1.0
    assert wilson(0.0, 0) == (0.0, 1.0)


def test_small_groups_are_one_row_with_the_mean_of_their_queries() -> None:
    groups = {
        "large": {"queries": 20, "grnet": _rates(0.5), "shortlist_recall": {"50": 1.0}},
        "a": {"queries": 4, "grnet": _rates(1.0), "shortlist_recall": {"50": 1.0}, "gain": _gain(0.1, 0.1)},
        "b": {"queries": 12, "grnet": _rates(0.0), "shortlist_recall": {"50": 1.0}},
    }
    together = folded(groups)
    assert list(together) == ["large", "2 groups of fewer than 20"]
    assert together["2 groups of fewer than 20"] == {
        "queries": 16,
        "grnet": pytest.approx({**_rates(0.25), "top5": (4 * 1.0 + 12 * 0.05) / 16}),
    }
    few = {name: groups[name] for name in ("a", "b")}
    assert folded(few) == few, "nothing else would be left"
    one = {name: groups[name] for name in ("large", "a")}
    assert folded(one) == one, "one alone keeps its name"


def test_the_report_begins_with_the_verdict() -> None:
    text = markdown(GOOD)
    assert text.startswith("- The right item comes first for 90 %")
    assert text.index("| all | grnet | 400 |") < text.index("| hard_view | grnet | 100 |")
