"""The chain of a search: what a request makes of it, and that no stage touches more than its head."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadmatch.model.chain import DEFAULT_CHAIN, Ranking, Stage, asked_chain, chain_from
from threadmatch.model.errors import ConfigError

CHAIN = (Stage("dense"), Stage("grnet", 16))


def test_a_request_cuts_the_chain_replaces_it_or_sets_its_depth() -> None:
    assert asked_chain(CHAIN) == CHAIN
    assert asked_chain(CHAIN, matcher="grnet") == CHAIN
    assert asked_chain(CHAIN, matcher="dense") == (Stage("dense"),)
    assert asked_chain(CHAIN, matcher="greedy") == (Stage("greedy"),)
    assert asked_chain(CHAIN, matcher="global") == ()
    assert asked_chain(CHAIN, depth=4) == (Stage("dense"), Stage("grnet", 4))
    assert asked_chain(CHAIN, matcher="dense", depth=9) == (Stage("dense", 9),)
    assert asked_chain(CHAIN, matcher="global", depth=9) == ()


def test_a_chain_survives_json_and_nonsense_is_named() -> None:
    assert chain_from([stage.to_dict() for stage in CHAIN]) == CHAIN
    assert chain_from([stage.to_dict() for stage in DEFAULT_CHAIN]) == DEFAULT_CHAIN
    with pytest.raises(ConfigError, match="a chain is a list of stages"):
        chain_from([{"name": "grnet"}])
    with pytest.raises(ConfigError, match="whole number"):
        chain_from([{"matcher": "grnet", "items": 1.5}])
    with pytest.raises(ConfigError, match="at least 1"):
        chain_from([{"matcher": "grnet", "items": 0}])


def test_equal_scores_keep_the_order_before() -> None:
    ranking = Ranking(5)
    ranking.rerank("one", np.asarray([1, 2, 1, 2, 0], np.float32))
    assert ranking.order.tolist() == [1, 3, 0, 2, 4]


def test_items_behind_the_depth_keep_the_stage_before_and_say_so() -> None:
    ranking = Ranking(4)
    ranking.rerank("dense", np.asarray([0.1, 0.4, 0.3], np.float32))
    assert ranking.order.tolist() == [1, 2, 0, 3]
    ranking.rerank("grnet", np.asarray([-1, 5], np.float32))  # of places 1 and 2, as they stand
    assert ranking.order.tolist() == [2, 1, 0, 3]
    assert ranking.scored_by == ["dense", "grnet", "grnet", None]
    np.testing.assert_array_equal(ranking.scores, np.asarray([0.1, -1, 5, np.nan], np.float32))


@given(st.integers(0, 30), st.lists(st.lists(st.integers(-3, 3), max_size=30), max_size=4))
def test_whatever_the_stages_say_the_tail_stays_and_nothing_is_lost(count: int, stages: list[list[int]]) -> None:
    ranking = Ranking(count)
    for number, given_scores in enumerate(stages):
        before, scores = ranking.order.copy(), np.asarray(given_scores[:count], np.float32)
        ranking.rerank(str(number), scores)
        assert sorted(ranking.order.tolist()) == list(range(count))
        np.testing.assert_array_equal(ranking.order[len(scores) :], before[len(scores) :])
        head = ranking.scores[ranking.order[: len(scores)]]
        assert (np.diff(head) <= 0).all()
