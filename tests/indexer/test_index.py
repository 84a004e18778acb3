from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from threadmatch.indexer.errors import GalleryError
from threadmatch.indexer.index import Blocks, VectorIndex, inner_products
from threadmatch.indexer.index_building import (
    RECALL_LIKE,
    RECALL_UNLIKE,
    build,
    exact_ids,
    grow,
    sample_queries,
    verify_by_search,
)
from threadmatch.indexer.projection import Axes, Projection, Widths
from threadmatch.indexer.stamps import IndexStamp

Array = NDArray[np.float32]
E = 16


def vectors(count: int, seed: int = 0) -> Array:
    values = np.random.default_rng(seed).standard_normal((count, E)).astype(np.float32)
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True), dtype=np.float32)


def in_blocks(values: Array, ids: NDArray[np.int64], size: int = 300) -> Blocks:
    def blocks() -> Iterator[tuple[NDArray[np.int64], Array]]:
        for start in range(0, len(values), size):
            yield ids[start : start + size], values[start : start + size]

    return blocks


@pytest.mark.parametrize(("flat_max", "kind"), [(10_000, "flat"), (500, "hnsw")])
def test_an_index_finds_what_comparing_with_all_finds(tmp_path: Path, flat_max: int, kind: str) -> None:
    values, ids = vectors(2000), np.arange(2000) * 3 + 7
    stamp = build(in_blocks(values, ids), tmp_path / "i", count=2000, dim=E, seq=9999, flat_max=flat_max)
    assert stamp.type == kind
    index = VectorIndex.read(tmp_path / "i", stamp)
    assert stamp.recall_at_200 >= 0.98
    assert (stamp.measured_queries > 0) == (kind == "hnsw")
    verify_by_search(index, ((int(ids[n]), values[n]) for n in range(0, 2000, 50)))
    recall = []
    for query in vectors(20, seed=1):
        expected = ids[np.argsort(-values @ query)[:200]]
        found, similarities = index.search(query, 200)
        recall.append(len(np.intersect1d(found, expected)) / 200)
        assert (np.diff(similarities) <= 1e-3).all()
    assert np.mean(recall) >= (1.0 if kind == "flat" else 0.97)


@pytest.mark.parametrize("flat_max", [10_000, 500])
@pytest.mark.parametrize("share", [0.005, 0.1, 0.5, 0.9])
def test_a_filtered_shortlist_is_full(tmp_path: Path, flat_max: int, share: float) -> None:
    values, ids = vectors(2000), np.arange(2000) + 5
    stamp = build(in_blocks(values, ids), tmp_path / "i", count=2000, dim=E, seq=1, flat_max=flat_max)
    index = VectorIndex.read(tmp_path / "i", stamp)
    random = np.random.default_rng(3)
    allowed = np.sort(random.choice(ids, int(2000 * share), replace=False))
    allowed_and_more = np.append(allowed, [99_999])  # ids that the index lacks are passed over
    rows = np.zeros(100_000, bool)
    rows[allowed_and_more] = True
    dead = allowed[::4]
    left = np.setdiff1d(allowed, dead)
    rows[dead] = False
    choice = index.choice(rows)
    assert choice.count == len(left)
    for query in vectors(5, seed=2):
        found, _ = index.search(query, 100, choice=choice)
        assert len(found) == min(100, len(left))
        assert np.isin(found, left).all()
        best = left[np.argsort(-values[left - 5] @ query)[: len(found)]]
        assert len(np.intersect1d(found, best)) >= 0.97 * len(found)


def test_a_product_is_the_same_whatever_lies_beside_its_row() -> None:
    values, query = np.repeat(vectors(700), 4, axis=1)[:, :61], np.ones(61, np.float32)
    every = inner_products(values, query)
    np.testing.assert_allclose(every, values @ query, atol=1e-5)
    for places in (np.arange(700), np.arange(1, 700, 3), np.array([699]), np.arange(0)):
        np.testing.assert_array_equal(inner_products(values, query, places), every[places])
    shifted = np.zeros(values.nbytes + 2, np.uint8)[2:].view(np.float32).reshape(values.shape)
    shifted[:] = values
    np.testing.assert_array_equal(inner_products(shifted, query), every)


@pytest.mark.parametrize("share", [0.4, 1.0])
def test_an_exact_search_makes_no_copy_of_the_mapped_vectors(tmp_path: Path, share: float) -> None:
    values, ids = vectors(20_000), np.arange(20_000)
    index = VectorIndex.read(tmp_path / "i", build(in_blocks(values, ids), tmp_path / "i", count=20_000, dim=E, seq=1))
    choice = index.choice(np.arange(20_000) < share * 20_000) if share < 1 else None
    tracemalloc.start()
    index.search(vectors(1, seed=1)[0], 10, choice=choice)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < share * values.nbytes / 2


def test_an_empty_index_answers_with_nothing(tmp_path: Path) -> None:
    stamp = build(in_blocks(vectors(0), np.arange(0)), tmp_path / "i", count=0, dim=E, seq=0)
    found, similarities = VectorIndex.read(tmp_path / "i", stamp).search(vectors(1)[0], 5)
    assert (len(found), len(similarities)) == (0, 0)


def test_a_graph_says_what_queries_find_that_are_not_near_its_items(tmp_path: Path) -> None:
    values, ids = vectors(6000) * 0.7 ** np.arange(E, dtype=np.float32), np.arange(6000)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    stamp = build(in_blocks(values, ids), tmp_path / "i", count=6000, dim=E, seq=1, flat_max=500)
    index = VectorIndex.read(tmp_path / "i", stamp)
    unlike = vectors(100, seed=77)
    exact = exact_ids(unlike, in_blocks(values, ids), 200)
    found = [index.search(query, 200)[0] for query in unlike]
    recall = np.mean([len(np.intersect1d(one, best)) / 200 for one, best in zip(found, exact, strict=True)])
    recorded = float(stamp.parameters[RECALL_UNLIKE])
    assert recorded == pytest.approx(recall, abs=0.01)
    assert recorded < float(stamp.parameters[RECALL_LIKE]) < stamp.recall_at_200 < 1


def test_exact_ids_is_the_same_in_blocks_of_any_size() -> None:
    values, ids, queries = vectors(500), np.arange(500), vectors(4, seed=5)
    whole = exact_ids(queries, in_blocks(values, ids, 500), 20)
    for n, query in enumerate(queries):
        assert set(whole[n]) == set(np.argsort(-values @ query)[:20])
    for found, expected in zip(exact_ids(queries, in_blocks(values, ids, 37), 20), whole, strict=True):
        assert set(found) == set(expected)


def test_verification_notices_an_index_of_other_vectors(tmp_path: Path) -> None:
    stamp = build(in_blocks(vectors(50), np.arange(50)), tmp_path / "i", count=50, dim=E, seq=1)
    index = VectorIndex.read(tmp_path / "i", stamp)
    with pytest.raises(GalleryError, match="not published"):
        verify_by_search(index, iter([(3, vectors(1, seed=9)[0])]))
    with pytest.raises(GalleryError, match="not published"):
        verify_by_search(index, iter([(3, vectors(50)[4])]))


def test_sample_queries_are_unit_vectors_and_the_same_each_time(tmp_path: Path) -> None:
    stamp = build(in_blocks(vectors(50), np.arange(50)), tmp_path / "i", count=50, dim=E, seq=1)
    index = VectorIndex.read(tmp_path / "i", stamp)
    queries = sample_queries(index, 10)
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(queries, sample_queries(index, 10))


def test_a_graph_grows_by_what_is_new_and_is_built_anew_when_it_has_changed_too_much(tmp_path: Path) -> None:
    values, ids = vectors(1400), np.arange(1400) * 2 + 1
    first = build(in_blocks(values[:1000], ids[:1000]), tmp_path / "i", count=1000, dim=E, seq=2000, flat_max=500)
    more = in_blocks(values[1000:], ids[1000:])

    def grown(source: str, target: str, alive: int) -> IndexStamp | None:
        return grow(tmp_path / source, first, tmp_path / target, blocks=more(), seq=2800, alive=alive)

    stamp = grown("i", "grown", 1300)
    assert stamp is not None
    assert (stamp.items, stamp.seq, stamp.recall_at_200) == (1400, 2800, first.recall_at_200)
    index = VectorIndex.read(tmp_path / "grown", stamp)
    assert index.ids.tolist() == ids.tolist()
    recall = []
    for query in vectors(20, seed=1):
        expected = ids[np.argsort(-values @ query)[:200]]
        recall.append(len(np.intersect1d(index.search(query, 200)[0], expected)) / 200)
    assert np.mean(recall) >= 0.97
    again = grow(tmp_path / "grown", stamp, tmp_path / "again", blocks=iter([]), seq=2801, alive=1300)
    assert again is not None
    assert again.parameters["measuredItems"] == 1000, "growth counts from where recall was measured"
    assert grown("i", "dead", 1000) is None, "too many of its vectors are dead"
    assert grown("i", "large", 1501) is None, "recall was measured on far fewer"
    flat = build(in_blocks(values, ids), tmp_path / "flat", count=1400, dim=E, seq=2800)
    assert grow(tmp_path / "flat", flat, tmp_path / "x", blocks=iter([]), seq=2800, alive=1400) is None
    (tmp_path / "i").write_bytes(b"torn")
    with pytest.raises(GalleryError, match="does not match"):
        grown("i", "torn", 1300)


def with_projection(index: VectorIndex, values: Array, *, wrong: bool = False) -> VectorIndex:
    """The index with a projection of its vectors, or with one that proposes the farthest."""
    axes = Axes.of(values, E)
    weights = -axes.weights if wrong else axes.weights
    return index.with_projection(Projection(weights, [axes.codes(values)], widths=Widths(250)))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.3, 0.39, 0.5, 1.0])
def test_with_a_projection_a_filtered_search_gives_the_scores_of_comparing_with_all(
    tmp_path: Path, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("threadmatch.indexer.index.EXACT_ROWS", 100)  # of scale, so that few vectors are many
    monkeypatch.setattr("threadmatch.indexer.index.EXACT_TIMES", 1)
    monkeypatch.setattr("threadmatch.indexer.index.SCANNED_ROWS", 640)  # two fifths of 4,000
    values, ids = vectors(4000), np.arange(4000) * 2 + 5
    stamp = build(in_blocks(values, ids), tmp_path / "i", count=4000, dim=E, seq=1, flat_max=500)
    index = VectorIndex.read(tmp_path / "i", stamp)
    projected = with_projection(index, values)
    allowed = np.sort(np.random.default_rng(3).choice(ids, int(4000 * share), replace=False))
    rows = np.zeros(9000, bool)
    rows[allowed] = True
    choice = projected.choice(rows)
    half = index.vectors(ids)  # as a graph has them
    recall = []
    for query in vectors(10, seed=2):
        found, similarities = projected.search(query, 100, choice=choice)
        assert len(found) == min(100, len(allowed))
        assert np.isin(found, allowed).all()
        np.testing.assert_allclose(similarities, half[(found - 5) // 2] @ query, atol=1e-6)
        assert (np.diff(similarities) <= 0).all()
        best = np.sort(half[(allowed - 5) // 2] @ query)[::-1][:100]
        recall.append(np.mean(similarities >= best[-1] - 1e-6) if len(best) else 1.0)
    assert np.mean(recall) >= (0.999 if share < 0.4 else 0.97)  # from there on a graph's


@pytest.mark.parametrize("times", [1, 2])
def test_the_projection_chooses_where_many_are_allowed_but_not_so_many_that_a_graph_is_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    monkeypatch.setattr("threadmatch.indexer.index.EXACT_ROWS", 100)
    monkeypatch.setattr("threadmatch.indexer.index.EXACT_TIMES", times)
    monkeypatch.setattr("threadmatch.indexer.index.SCANNED_ROWS", 640)
    values, ids = vectors(4000), np.arange(4000)
    stamp = build(in_blocks(values, ids), tmp_path / "i", count=4000, dim=E, seq=1, flat_max=500)
    index = VectorIndex.read(tmp_path / "i", stamp)
    wrong = with_projection(index, values, wrong=True)
    (query,) = vectors(1, seed=2)

    def same(step: int, choice: bool = True) -> bool:
        chosen = index.choice(ids % step == 0) if choice else None
        return bool(np.isin(wrong.search(query, 50, choice=chosen)[0], index.search(query, 50, choice=chosen)[0]).all())

    assert same(20), "200: all are compared"
    assert same(10) == (times == 2), "400, of which 250 would be compared"
    assert not same(3), "1333"
    assert same(2), "half of all: the graph is asked"
    assert same(1, choice=False)


def test_blocks_of_an_index_are_its_vectors_in_their_order(tmp_path: Path) -> None:
    values, ids = vectors(700), np.arange(700) + 3
    for flat_max, tolerance in ((1000, 0.0), (500, 1e-3)):
        path = tmp_path / str(flat_max)
        stamp = build(in_blocks(values, ids), path, count=700, dim=E, seq=1, flat_max=flat_max)
        index = VectorIndex.read(path, stamp)
        np.testing.assert_allclose(index.block(100, 50), values[100:150], atol=tolerance)
        assert index.block(650, 99).shape == (50, E)
