"""Negatives are the nearest items of other products, as many as there are, and what people refused comes first."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from threadmatch.model.data.sides import Sides
from threadmatch.model.errors import DataError
from threadmatch.model.train.inputs.negatives import draw_queries, matches_of, nearest_others

PRODUCTS = Sides(["a", "b", "a", "c", "d", "b"], ["b", "nobody", "a"])
CLOSE = Sides(torch.tensor([[0.9], [0.8], [0.7], [0.6], [0.5], [0.4]]), torch.ones(3, 1))
"""Items are nearer the earlier they stand."""


def test_a_querys_matches_are_the_items_of_its_product() -> None:
    assert matches_of(PRODUCTS) == [[1, 5], [], [0, 2]]


def test_a_shortlist_holds_the_nearest_items_of_other_products_and_no_more_than_all_have() -> None:
    matches = matches_of(PRODUCTS)
    assert nearest_others(CLOSE, PRODUCTS, matches, depth=3).tolist() == [[0, 2, 3], [0, 1, 2], [1, 3, 4]]
    everything = nearest_others(CLOSE, PRODUCTS, matches, depth=60)
    assert everything.tolist() == [[0, 2, 3, 4], [0, 1, 2, 3], [1, 3, 4, 5]], "two products have two items of six"


def test_queries_without_a_match_are_passed_over_and_each_brings_one_match_and_its_negatives() -> None:
    matches = matches_of(PRODUCTS)
    shortlists = nearest_others(CLOSE, PRODUCTS, matches, depth=3)
    for seed in range(20):
        drawn = draw_queries(PRODUCTS, matches, shortlists, queries=9, negatives=2, rng=np.random.default_rng(seed))
        assert sorted(drawn.queries.tolist()) == [0, 2], "nobody shows the second one's product"
        for query, (match, *others) in zip(drawn.queries, drawn.items.tolist(), strict=True):
            assert match in matches[query]
            assert len(set(others)) == 2
            assert set(others) <= set(shortlists[query].tolist())
        for row, query in enumerate(drawn.queries):
            for column, item in enumerate(drawn.items.reshape(-1)):
                shown = PRODUCTS.gallery[item] == PRODUCTS.queries[query]
                assert bool(drawn.same[row, column]) == shown


def test_a_shortlist_that_is_shorter_than_asked_gives_what_it_has() -> None:
    few = Sides(["a", "b", "c"], ["a"])
    embeddings = Sides(torch.ones(3, 1), torch.ones(1, 1))
    shortlists = nearest_others(embeddings, few, matches_of(few), depth=60)
    drawn = draw_queries(few, matches_of(few), shortlists, queries=1, negatives=7, rng=np.random.default_rng(0))
    assert sorted(drawn.items[0].tolist()) == [0, 1, 2]


def test_sets_that_nothing_can_be_learned_from_are_refused() -> None:
    with pytest.raises(DataError, match="no training query has its product"):
        matches_of(Sides(["a", "b"], ["c"]))
    one = Sides(["a", "a"], ["a"])
    with pytest.raises(DataError, match="shows one product only"):
        nearest_others(Sides(torch.ones(2, 1), torch.ones(1, 1)), one, matches_of(one), depth=3)
