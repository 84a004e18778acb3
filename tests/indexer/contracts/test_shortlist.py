"""What every body of the `Shortlist` seam must do. Another body joins by a line in `BODIES`.

Letters  N items, E embedding size
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.made_up import build, edit, unit
from threadmatch.indexer.reading.conditions import Condition
from threadmatch.indexer.reading.filters import parse_filter
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.indexer.reading.shortlist import Candidate, FaissShortlist, Shortlist
from threadmatch.indexer.store import generation_index, generations
from threadmatch.indexer.upkeep import verify

N = 400
ITEMS: dict[str, NDArray[np.float32]] = {f"item-{n}": vector for n, vector in enumerate(unit(N))}
ABOUT: dict[str, dict[str, Any]] = {
    name: {"price": n, "color": ("red", "blue", "green")[n % 3]} for n, name in enumerate(ITEMS)
}
Body = Callable[[Path, pytest.MonkeyPatch], Shortlist]
"""Makes a shortlist over ITEMS, with ABOUT as their metadata, in an empty folder."""


def opened(folder: Path) -> Shortlist:
    gallery = Gallery.open(folder)
    with gallery.snapshot() as snapshot:
        return FaissShortlist(gallery._loaded, snapshot.changes)


def part(first: int, last: int) -> dict[str, NDArray[np.float32]]:
    return dict(list(ITEMS.items())[first:last])


def other(count: int) -> dict[str, NDArray[np.float32]]:
    """The first items, as they were before they got the vectors of ITEMS."""
    return dict(zip(ITEMS, unit(count, seed=9), strict=False))


def faiss_exact(folder: Path, _: pytest.MonkeyPatch) -> Shortlist:
    build(folder, ITEMS, metadata=ABOUT)
    return opened(folder)


def faiss_graph(folder: Path, _: pytest.MonkeyPatch) -> Shortlist:
    build(folder, ITEMS, metadata=ABOUT, flat_max=N // 2)
    return opened(folder)


def faiss_with_rows_beside_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Shortlist:
    """An index of other vectors of some items and of some that are gone; the newer rows are compared beside it."""
    monkeypatch.setattr(generation_index, "DELTA_MIN_ITEMS", 10)  # a constant of scale, not the thing under test
    monkeypatch.setattr(generation_index, "DELTA_SHARE", 2.0)
    build(folder, {**part(0, 300), **other(50), "gone": unit(1, seed=8)[0]}, metadata=ABOUT)
    build(folder, {**part(300, N), **part(0, 50)}, metadata=ABOUT, gone=["gone"])
    manifest = generations.read_manifest(folder, "000002")
    assert manifest.index.seq < manifest.seq
    return opened(folder)


def faiss_graph_that_has_grown(folder: Path, _: pytest.MonkeyPatch) -> Shortlist:
    """A graph that holds the former vectors of some items, and items that are gone, beside the new ones."""
    build(folder, {**part(0, 300), **other(30), "gone": unit(1, seed=8)[0]}, metadata=ABOUT, flat_max=200)
    build(folder, {**part(300, N), **part(0, 30)}, metadata=ABOUT, gone=["gone"])
    manifest = generations.read_manifest(folder, "000002")
    assert manifest.index.type == "hnsw"
    assert manifest.index.items == N + 31
    assert verify(folder).problems == []
    return opened(folder)


def faiss_with_edits_on_top(folder: Path, _: pytest.MonkeyPatch) -> Shortlist:
    build(folder, {**part(0, 300), **other(50), "gone": unit(1, seed=8)[0]}, metadata=ABOUT)
    edit(folder, other(70), metadata=ABOUT)
    edit(folder, {**part(300, N), **part(0, 70)}, metadata=ABOUT, gone=["gone"])
    return opened(folder)


def milvus(folder: Path, request: pytest.FixtureRequest) -> Iterator[Shortlist]:
    """A generation with former vectors of some items and items that are gone, edited to be what it should."""
    from tests.support.clusters import address, edit_cluster, fill
    from threadmatch.indexer.cluster.gallery import ClusterGallery

    place = address(request.getfixturevalue("cluster_settings"))
    fill(place, folder, {**part(0, 350), **other(20), "gone": unit(1, seed=8)[0]}, ABOUT)
    gallery = ClusterGallery.open(place)
    edit_cluster(gallery, {**part(350, N), **part(0, 20)}, ABOUT, gone=["gone"])
    yield gallery.current._shortlist
    gallery.close()


BODIES: dict[str, Body] = {
    "faiss, exact": faiss_exact,
    "faiss, a graph": faiss_graph,
    "faiss, a graph that has grown": faiss_graph_that_has_grown,
    "faiss, rows beside it": faiss_with_rows_beside_it,
    "faiss, edits on top": faiss_with_edits_on_top,
}


@pytest.fixture(scope="module", params=[*BODIES, pytest.param("Milvus", marks=pytest.mark.cluster)])
def shortlist(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shortlist]:
    """Made once a body: none ever changes, and making one takes longer than asking it."""
    folder = tmp_path_factory.mktemp("shortlist") / "gallery"
    with pytest.MonkeyPatch.context() as monkeypatch:
        if request.param == "Milvus":
            yield from milvus(folder, request)
        else:
            yield BODIES[request.param](folder, monkeypatch)


def where(expression: str) -> Condition:
    return parse_filter(expression, {"price": "integer", "color": "string"})


def expected(query: NDArray[np.float32], names: list[str], k: int) -> list[str]:
    """By comparing with every item."""
    similarity = {name: float(ITEMS[name] @ query) for name in names}
    return sorted(names, key=lambda name: -similarity[name])[:k]


def overlap(found: list[Candidate], names: list[str]) -> float:
    return len({candidate.id for candidate in found} & set(names)) / max(1, len(names))


@pytest.mark.parametrize("k", [1, 10, 200])
def test_the_closest_items_come_closest_first(shortlist: Shortlist, k: int) -> None:
    shares = []
    for query in unit(10, seed=1):
        found = shortlist.search(query, k)
        assert len(found) == k
        distances = [candidate.distance for candidate in found]
        assert all(first <= second + 1e-3 for first, second in itertools.pairwise(distances))
        np.testing.assert_allclose(distances, [1 - ITEMS[c.id] @ query for c in found], atol=2e-3)
        shares.append(overlap(found, expected(query, list(ITEMS), k)))
    assert np.mean(shares) >= 0.97


def test_every_item_is_found_once_and_none_that_is_gone(shortlist: Shortlist) -> None:
    found = shortlist.search(unit(1, seed=2)[0], 10 * N)
    assert len(found) == N
    assert {candidate.id for candidate in found} == ITEMS.keys()
    assert len({candidate.row for candidate in found}) == N


def test_an_item_is_closest_to_its_own_vector(shortlist: Shortlist) -> None:
    for name in list(ITEMS)[::7]:
        first = shortlist.search(ITEMS[name], 1)[0]
        assert first.id == name
        assert 0 <= first.distance < 1e-3


FILTERS: Mapping[str, Callable[[dict[str, Any]], bool]] = {
    "price < 5": lambda about: about["price"] < 5,
    'color == "red"': lambda about: about["color"] == "red",
    'color != "red" and price >= 30': lambda about: about["color"] != "red" and about["price"] >= 30,
    'id == "item-7"': lambda about: about["price"] == 7,
    "price > 100000": lambda _: False,
}


@pytest.mark.parametrize("expression", FILTERS)
def test_a_filter_narrows_the_gallery_before_the_shortlist_is_cut(shortlist: Shortlist, expression: str) -> None:
    allowed = [name for name in ITEMS if FILTERS[expression](ABOUT[name])]
    for query in unit(5, seed=3):
        for k in (3, N):
            found = shortlist.search(query, k, where=where(expression))
            assert len(found) == min(k, len(allowed))
            assert {candidate.id for candidate in found} <= set(allowed)
            assert overlap(found, expected(query, allowed, k)) >= (0.97 if allowed else 0)


def test_filters_do_not_answer_for_each_other(shortlist: Shortlist) -> None:
    query = unit(1, seed=4)[0]
    for value in (3, 4, 3):
        assert [c.id for c in shortlist.search(query, N, where=where(f"price == {value}"))] == [f"item-{value}"]


def test_the_same_search_has_the_same_answer(shortlist: Shortlist) -> None:
    query = unit(1, seed=5)[0]
    assert shortlist.search(query, 50) == shortlist.search(query, 50)
    assert shortlist.search(query, 50)[:20] == shortlist.search(query, 20)


def test_vectors_are_those_of_the_rows_in_their_order(shortlist: Shortlist) -> None:
    found = shortlist.search(unit(1, seed=6)[0], N)[::-3]
    vectors = shortlist.vectors([candidate.row for candidate in found])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, np.stack([ITEMS[candidate.id] for candidate in found]), atol=1e-3)
    assert shortlist.vectors([]).shape == (0, len(ITEMS["item-0"]))


def test_a_shortlist_of_nothing_is_empty(tmp_path: Path) -> None:
    build(tmp_path, {})
    assert opened(tmp_path).search(unit(1)[0], 5) == []
