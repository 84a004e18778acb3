"""The convex fit of the sparse graph."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from threadmatch.model.errors import DataError
from threadmatch.model.node_inputs import INPUTS
from threadmatch.model.sparse_graph import SparseGraph
from threadmatch.model.sparse_matcher import SparseGraphMatcher
from threadmatch.model.train.inputs.graph_lists import Encoded, Lists, find_shortlists
from threadmatch.model.train.phases.sparse_graph_fit import (
    fit_presence,
    fit_sparse_graph,
    known_searches,
    list_loss,
    mean_cosines,
    presence_of,
    score_lists,
)

GRID = (2, 3)
P, K, E = 6, 16, 4


def _side(count: int, seed: int, products: list[str]) -> Encoded:
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(count, E)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    cells = rng.normal(size=(count, P, K)).astype(np.float32)
    return Encoded(embeddings, cells / np.linalg.norm(cells, axis=-1, keepdims=True), products)


def test_the_loss_is_its_equation_written_as_loops() -> None:
    scores = torch.tensor([[1.0, 0.5, -0.2], [0.3, 0.3, 2.0]])
    same = torch.tensor([[True, False, False], [True, True, False]])
    total = 0.0
    for row, right in zip(scores.tolist(), same.tolist(), strict=True):
        whole = sum(math.exp(score) for score in row)
        total -= math.log(sum(math.exp(score) for score, is_right in zip(row, right, strict=True) if is_right) / whole)
    assert list_loss(scores, same, torch.ones(2)).item() == pytest.approx(total / 2)


def test_lists_hold_the_best_of_the_dense_match_and_where_forced_the_match() -> None:
    gallery = _side(9, 0, [f"p{n}" for n in range(9)])
    queries = _side(4, 1, ["p3", "p0", "p7", "nowhere"])
    lists = find_shortlists("one", gallery, queries, candidates=7).lists(grid=GRID, kept=3, forced=True)
    assert lists.inputs.shape == (4, 3, P, len(INPUTS))
    for n, product in enumerate(queries.products[:3]):
        assert gallery.products[lists.order[n][lists.same[n]][0]] == product
    assert not lists.same[3].any()
    dense = mean_cosines(lists)
    assert (np.diff(dense[3]) <= 1e-3).all()


def test_scores_of_lists_are_those_of_the_matcher() -> None:
    gallery, queries = _side(5, 0, list("abcde")), _side(2, 1, list("ab"))
    lists = find_shortlists("one", gallery, queries).lists(grid=GRID, kept=4)
    graph = SparseGraph(GRID, {"agree:cosine": 2.0, "standing": 0.3}, bias=0.2)
    for n in range(2):
        photo, shown = {"cells": queries.cells[n]}, {"cells": gallery.cells[lists.order[n]]}
        [expected] = SparseGraphMatcher(graph).score_many([photo], [shown])
        np.testing.assert_allclose(score_lists(graph, lists)[n], expected, atol=0.05)  # inputs are float16


def _lists(count: int, seed: int, k: int = 5) -> Lists:
    """Right items are as alike as others, but their cells choose mutually."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(0, 0.1, (count, k, P, len(INPUTS))).astype(np.float16)
    same = np.zeros((count, k), bool)
    same[np.arange(count), rng.integers(0, k, count)] = True
    inputs[..., INPUTS.index("mutual")] = rng.random((count, k, P)) < np.where(same, 0.8, 0.3)[..., None]
    return Lists(
        "made",
        inputs,
        same,
        np.zeros((count, k), np.int64),
        np.zeros((count, k), np.int64),
        np.zeros((count, k), np.float32),
    )


def test_the_fit_finds_what_tells_right_from_wrong() -> None:
    graph = fit_sparse_graph([_lists(200, 1), _lists(100, 2, k=4)], grid=GRID)
    test = _lists(300, 3)
    right = test.same[np.arange(300), score_lists(graph, test).argmax(axis=1)].mean()
    dense = test.same[np.arange(300), mean_cosines(test).argmax(axis=1)].mean()
    assert right > dense + 0.3
    assert graph.weights["mutual"] > 0


def test_a_strong_pull_leaves_the_dense_match() -> None:
    graph, test = fit_sparse_graph([_lists(200, 1)], grid=GRID, pull=1e6), _lists(50, 3)
    np.testing.assert_array_equal(score_lists(graph, test).argmax(axis=1), mean_cosines(test).argmax(axis=1))


def _absent(count: int, seed: int, k: int = 5) -> Lists:
    """The likest items choose the photo's cells as often as wrong ones do."""
    lists = _lists(count, seed, k)
    inputs = lists.inputs.copy()
    inputs[..., INPUTS.index("mutual")] = np.random.default_rng(seed + 99).random((count, k, P)) < 0.3
    return replace(lists, inputs=inputs, same=np.zeros_like(lists.same))


def test_presence_tells_what_is_there_from_what_is_not_and_leaves_the_scores() -> None:
    graph = fit_sparse_graph([_lists(200, 1)], grid=GRID)
    told = fit_presence(graph, [_lists(200, 1)], [_absent(200, 1)])
    there, gone = _lists(300, 3), _absent(300, 3)
    np.testing.assert_array_equal(score_lists(told, there), score_lists(graph, there))
    assert presence_of(graph, there) is None
    first = [[search.first_presence for search in known_searches(told, lists)] for lists in (there, gone)]
    assert np.mean(first[0]) > 0.7
    assert np.mean(first[1]) < 0.3
    for n, search in enumerate(known_searches(told, there)):
        presence = presence_of(told, there)
        assert presence is not None
        assert search.first_presence == pytest.approx(float(presence[n][score_lists(told, there)[n].argmax()]))


def test_presence_of_too_few_searches_is_refused() -> None:
    graph = fit_sparse_graph([_lists(60, 1)], grid=GRID)
    with pytest.raises(DataError, match="50 searches"):
        fit_presence(graph, [_lists(60, 1)], [_absent(20, 1)])


def test_presence_of_lists_is_that_of_the_matcher() -> None:
    gallery, queries = _side(5, 0, list("abcde")), _side(2, 1, list("ab"))
    lists = find_shortlists("one", gallery, queries).lists(grid=GRID, kept=4)
    graph = SparseGraph(GRID, {"agree:cosine": 2.0}, presence={"cosine": 3.0, "best_half": -1.0}, presence_bias=0.2)
    found = presence_of(graph, lists)
    assert found is not None
    for n in range(2):
        photo, shown = {"cells": queries.cells[n]}, {"cells": gallery.cells[lists.order[n]]}
        [told] = SparseGraphMatcher(graph).tell_many([photo], [shown])
        assert told.presence is not None
        np.testing.assert_allclose(found[n], told.presence, atol=0.01)  # inputs are float16


def test_too_few_queries_are_refused() -> None:
    with pytest.raises(DataError, match="needs 50"):
        fit_sparse_graph([_lists(20, 1)], grid=GRID)


def test_a_product_taken_out_is_in_no_list() -> None:
    gallery, queries = _side(9, 0, list("aabcdefgh")), _side(3, 1, list("abz"))
    lists = find_shortlists("one", gallery, queries).lists(grid=GRID, kept=20, taken_out=True)
    assert lists.order.shape == (3, 7)
    assert not lists.same.any()
    for n, product in enumerate("abz"):
        assert product not in {gallery.products[place] for place in lists.order[n]}


def test_places_are_those_of_stage_one() -> None:
    gallery, queries = _side(9, 0, list("abcdefghi")), _side(3, 1, list("abc"))
    lists = find_shortlists("one", gallery, queries, candidates=6).lists(grid=GRID, kept=4)
    for n in range(3):
        short = np.argsort(-(gallery.embeddings @ queries.embeddings[n]), kind="stable")
        assert [short[place] for place in lists.place[n]] == lists.order[n].tolist()
        assert (np.diff(lists.dense[n]) <= 0).all()


def test_known_searches_come_best_first() -> None:
    lists = _lists(40, 4)
    graph = SparseGraph(GRID, {"mutual": 9.0})
    scores = score_lists(graph, lists)
    for n, search in enumerate(known_searches(graph, lists)):
        assert search.origin == "made"
        assert search.same.tolist() == lists.same[n][np.argsort(-scores[n], kind="stable")].tolist()
        assert (np.diff(search.values[:, 0]) <= 1e-6).all()
