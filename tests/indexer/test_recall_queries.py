"""Queries of a measurement: as far from the items as they say, written as loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from threadmatch.indexer.index import VectorIndex
from threadmatch.indexer.index_building import build
from threadmatch.indexer.recall_queries import COSINES, like_queries, unlike_queries

N, E, DIRECTIONS = 900, 48, 6
Array = NDArray[np.float32]


def vectors(count: int, seed: int = 0) -> Array:
    """(count, E) unit vectors that vary in a few directions alone."""
    values = np.zeros((count, E), np.float32)
    values[:, :DIRECTIONS] = np.random.default_rng(seed).standard_normal((count, DIRECTIONS))
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True), np.float32)


def index_of(folder: Path, values: Array) -> VectorIndex:
    ids = np.arange(len(values)) * 3 + 1
    stamp = build(lambda: iter([(ids, values)]), folder / "i", count=len(values), dim=E, seq=1)
    return VectorIndex.read(folder / "i", stamp)


def test_like_queries_are_spread_over_the_cosines_to_their_items(tmp_path: Path) -> None:
    index = index_of(tmp_path, vectors(N))
    queries = like_queries(index, 100)
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-5)
    own = np.random.default_rng(0).integers(0, N, 100)
    for number, query in enumerate(queries):
        asked = COSINES[0] + (COSINES[1] - COSINES[0]) * number / 99
        assert float(vectors(N)[own[number]] @ query) == pytest.approx(asked, abs=1e-4)


def test_of_what_is_not_the_item_half_is_of_the_gallerys_kind(tmp_path: Path) -> None:
    """The gallery has DIRECTIONS of E: a random direction has that share in them."""
    queries = like_queries(index_of(tmp_path, vectors(N)), 400)
    outside = np.square(queries[:, DIRECTIONS:]).sum(axis=1)
    beside = 1 - np.linspace(*COSINES, 400) ** 2
    assert np.median(outside / beside) == pytest.approx(0.5 * (1 - DIRECTIONS / E), abs=0.06)


def test_unlike_queries_have_nothing_to_do_with_the_gallery(tmp_path: Path) -> None:
    queries = unlike_queries(index_of(tmp_path, vectors(N)), 400)
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-5)
    inside = np.square(queries[:, :DIRECTIONS]).sum(axis=1)
    assert inside.mean() == pytest.approx(DIRECTIONS / E, abs=0.02)


def test_they_are_the_same_each_time_and_a_gallery_of_one_item_has_them_too(tmp_path: Path) -> None:
    index = index_of(tmp_path, vectors(1))
    for make in (like_queries, unlike_queries):
        queries = make(index, 5)
        np.testing.assert_array_equal(queries, make(index, 5))
        assert np.isfinite(queries).all()
        assert len(np.unique(queries, axis=0)) == 5
