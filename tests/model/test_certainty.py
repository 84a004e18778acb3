"""Certainty of matches: its values against loops, and what strangeness does."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from threadmatch.model.certainty import VALUES, Certainty, match_values, probability, says_no_match
from threadmatch.model.errors import ConfigError, DataError
from threadmatch.model.evaluate.certainty_fit import KnownSearch, best_probabilities, fit_certainty, how_often_said


def _certainty() -> Certainty:
    v = len(VALUES)
    return Certainty(weights=(1.0,) * v, offset=-1.0, low=(-2.0,) * v, high=(2.0,) * v, no_match_below=0.3)


def test_values_are_what_loops_find() -> None:
    rng = np.random.default_rng(0)
    last, dense, place = rng.normal(size=4), np.sort(rng.random(9))[::-1], np.array([3, 0, 7, 1])
    actual = match_values(last, dense, place)
    assert actual.shape == (4, len(VALUES))
    for i in range(4):
        rest = [last[j] for j in range(4) if j != i]
        share = math.exp(last[i]) / sum(math.exp(score) for score in last)
        mean = sum(dense) / 9
        deviation = math.sqrt(sum((value - mean) ** 2 for value in dense) / 9)
        expected = [
            last[i] - max(rest),
            math.log(share / (1 - share)),
            dense[i],
            (dense[i] - mean) / (deviation + 1e-3),
            math.log(1 + i),
            math.log(1 + place[i]),
        ]
        assert actual[i] == pytest.approx(expected, abs=1e-6)


def test_one_match_and_none_have_values_too() -> None:
    assert np.isfinite(match_values(np.array([2.0]), np.array([0.4]), np.array([0]))).all()
    assert match_values(np.zeros(0), np.zeros(0), np.zeros(0, np.int64)).shape == (0, len(VALUES))


def test_what_is_strange_moves_towards_one_half_and_never_beyond() -> None:
    sure_no = np.full((1, len(VALUES)), -2.0)
    stranger = sure_no.copy()
    before, last = float(probability(_certainty(), sure_no)[0]), 0.0
    for much in (1.0, 10.0, 100.0):
        stranger[0, 0] = -2.0 - much
        now = float(probability(_certainty(), stranger)[0])
        assert before < now < 0.5
        assert now > last
        last = now


def test_nothing_found_is_no_match() -> None:
    assert says_no_match(_certainty(), np.zeros(0, np.float32))
    assert says_no_match(_certainty(), np.array([0.1, 0.29], np.float32))
    assert not says_no_match(_certainty(), np.array([0.1, 0.31], np.float32))


def test_a_certainty_comes_back_from_json() -> None:
    assert Certainty.from_dict(json.loads(json.dumps(_certainty().to_dict()))) == _certainty()


@pytest.mark.parametrize(
    "wrong", [{"weights": [1.0]}, {"nonsense": 1}, {"no_match_below": 1.5}, {"presence_below": -1}]
)
def test_a_damaged_certainty_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Certainty.from_dict(_certainty().to_dict() | wrong)


def _searches(count: int, *, there: bool, seed: int) -> list[KnownSearch]:
    """The right one, where it is there, is three above the others in the first value."""
    rng = np.random.default_rng(seed)
    found = []
    for n in range(count):
        values, same = rng.normal(size=(5, len(VALUES))), np.zeros(5, bool)
        if there:
            same[0], values[0, 0] = True, values[0, 0] + 5
        found.append(KnownSearch(values, same, "ab"[n % 2]))
    return found


def test_fitting_finds_what_tells_right_from_wrong() -> None:
    fitted = fit_certainty(_searches(300, there=True, seed=1), wrongly_said=0.04)
    said = how_often_said(fitted, _searches(400, there=True, seed=3), _searches(400, there=False, seed=4))
    assert said.present < 0.1
    assert said.absent > 0.9
    assert fitted.weights[0] > 5 * max(abs(weight) for weight in fitted.weights[1:])


def test_stated_probabilities_are_those_found() -> None:
    fitted = fit_certainty(_searches(500, there=True, seed=1) + _searches(500, there=False, seed=2))
    test = _searches(500, there=True, seed=5) + _searches(500, there=False, seed=6)
    first = np.array([probability(fitted, s.values)[0] for s in test])
    assert first.mean() == pytest.approx(np.mean([s.same[0] for s in test]), abs=0.05)


def test_the_threshold_keeps_its_promise_on_what_it_was_fitted_on() -> None:
    present = _searches(500, there=True, seed=1)
    fitted = fit_certainty(present, wrongly_said=0.05)
    assert (best_probabilities(fitted, present) < fitted.no_match_below).mean() <= 0.05


def test_a_small_origin_counts_as_much_as_a_large_one() -> None:
    """One in ten searches of `b` is hopeless, none of `a`: said of half as many in the mean, however few `b` has."""
    hopeless = [KnownSearch(s.values - 3, s.same, "b") for s in _searches(10, there=False, seed=1)]
    large = [KnownSearch(s.values, s.same, "a") for s in _searches(900, there=True, seed=2)]
    small = [KnownSearch(s.values, s.same, "b") for s in _searches(90, there=True, seed=3)]
    fitted = fit_certainty([*large, *small, *hopeless], wrongly_said=0.049)
    assert (best_probabilities(fitted, hopeless) < fitted.no_match_below).mean() > 0.8
    assert (best_probabilities(fitted, large) < fitted.no_match_below).mean() < 0.03


def _telling(searches: list[KnownSearch], presence: float, seed: int) -> list[KnownSearch]:
    told = np.random.default_rng(seed).uniform(presence - 0.2, presence + 0.2, (len(searches), 5)).astype(np.float32)
    return [replace(search, presence=own) for search, own in zip(searches, told, strict=True)]


def test_the_threshold_is_of_presence_where_every_search_tells_one() -> None:
    there = _telling(_searches(400, there=True, seed=1), 0.7, 1)
    gone = _telling(_searches(400, there=False, seed=2), 0.4, 2)
    fitted = fit_certainty(there, wrongly_said=0.05)
    assert fitted.no_match_below == 0
    assert fitted.threshold == fitted.presence_below == pytest.approx(0.52, abs=0.01)
    said = how_often_said(fitted, there, gone)
    assert 0.03 < said.present <= 0.05
    assert said.absent == pytest.approx(0.8, abs=0.05)
    assert Certainty.from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted
    mixed = fit_certainty([*there, *_searches(100, there=True, seed=3)])
    assert mixed.presence_below is None
    assert mixed.threshold == mixed.no_match_below > 0


def test_presence_says_no_match_whatever_the_probabilities() -> None:
    sure = replace(_certainty(), presence_below=0.4)
    likely, unlikely = np.array([0.9], np.float32), np.array([0.1], np.float32)
    assert says_no_match(sure, likely, 0.39)
    assert not says_no_match(sure, unlikely, 0.41)
    assert says_no_match(sure, unlikely), "a chain that tells none is judged by its probabilities"
    assert says_no_match(sure, np.zeros(0, np.float32), None)


def test_too_few_searches_are_refused() -> None:
    with pytest.raises(DataError, match="needs 20"):
        fit_certainty(_searches(5, there=True, seed=1))
    with pytest.raises(DataError, match="needs 20"):
        fit_certainty([])
