"""What publishing says that filtered searches find, against searches with queries that it never saw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.made_up import SIZE, unit
from tests.support.projections import ITEMS, Array, current, files, make_few_many, put
from threadmatch.indexer import index as index_module
from threadmatch.indexer.index import VectorIndex
from threadmatch.indexer.index_building import build as build_index
from threadmatch.indexer.projection import (
    PROJECTED,
    RECALL_LIKE,
    RECALL_UNLIKE,
    WIDE_LIKE,
    Axes,
    Projection,
    Widths,
)
from threadmatch.indexer.store import projected_file, projected_recall
from threadmatch.indexer.store.projected_recall import Measurement


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    make_few_many(monkeypatch)


def fading(rate: float) -> Array:
    """(E,) scales of vectors that vary the less in a direction the later that comes."""
    return np.asarray(rate ** np.arange(SIZE), np.float32)


def found_by(folder: Path, queries: Array, step: int) -> float:
    """Of the 200 best of every `step`-th item the share that a filtered search finds, mean over queries."""
    stamp = current(folder).index
    (path,) = files(folder)
    projection = projected_file.read(path.parent, stamp)
    index = VectorIndex.read(path.with_name("index.faiss"), stamp, projection=projection)
    rows = np.zeros(int(index.ids[-1]) + 1, bool)
    rows[index.ids[::step]] = True
    vectors, choice = index.vectors(index.ids[::step]), index.choice(rows)
    shares = []
    for query in queries:
        best = index.ids[::step][np.argsort(-vectors @ query)[:200]]
        shares.append(np.isin(best, index.scanned(query, 200, choice=choice)[0]).mean())
    return float(np.mean(shares))


def test_queries_that_publishing_never_saw_find_what_the_manifest_says_of_their_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projected_file, "COMPONENTS", (SIZE // 3,))
    monkeypatch.setattr(projected_recall, "WIDTHS", (250,))
    monkeypatch.setattr(projected_file, "RECALL_FLOOR", 0.5)
    folder, scales = tmp_path / "gallery", fading(0.85)
    parameters = put(folder, range(ITEMS), scales=scales).index.parameters
    items = np.concatenate([unit(1, seed=n) * scales for n in range(0, ITEMS, 20)])
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    unlike = unit(len(items), seed=12345)
    like_recall, unlike_recall = float(parameters[RECALL_LIKE]), float(parameters[RECALL_UNLIKE])
    assert 0.85 < unlike_recall < 0.93, "the axes lack much of such queries"
    assert unlike_recall + 0.03 < like_recall < 0.99
    assert found_by(folder, unlike, 2) == pytest.approx(unlike_recall, abs=0.02)
    street = 0.6 * items + 0.8 * (items[::-1] + unlike) / np.sqrt(2)
    street /= np.linalg.norm(street, axis=1, keepdims=True)
    assert found_by(folder, street, 2) == pytest.approx(like_recall, abs=0.02)


def test_components_and_widths_are_the_least_that_reach_the_aims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(projected_file, "COMPONENTS", (2, 12, 22))
    monkeypatch.setattr(projected_recall, "WIDTHS", (210, 400, 800))
    folder = tmp_path / "gallery"
    caplog.set_level("INFO")
    parameters = put(folder, range(ITEMS), scales=fading(0.85)).index.parameters
    assert parameters[PROJECTED] == 12, "2 would not do, 22 need not be"
    assert parameters[WIDE_LIKE] == 400, "210 would not do, 800 need not be"
    assert float(parameters[RECALL_LIKE]) >= 0.999
    assert 0.99 <= float(parameters[RECALL_UNLIKE]) < 1
    assert found_by(folder, unit(100, seed=12345), 2) >= 0.985
    assert "projection measured" in [record.message for record in caplog.records]


def test_more_components_are_taken_where_much_would_have_to_be_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projected_file, "COMPONENTS", (12, 22))
    monkeypatch.setattr(projected_file, "NARROW", 250)
    monkeypatch.setattr(projected_recall, "WIDTHS", (250, 400, 800))
    parameters = put(tmp_path / "gallery", range(ITEMS), scales=fading(0.85)).index.parameters
    assert (parameters[PROJECTED], parameters[WIDE_LIKE]) == (22, 250), "12 would do with 400"


def test_an_aim_that_no_width_reaches_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(projected_file, "COMPONENTS", (8,))
    monkeypatch.setattr(projected_recall, "WIDTHS", (250, 400))
    folder = tmp_path / "gallery"
    parameters = put(folder, range(ITEMS), scales=fading(0.85)).index.parameters
    assert projected_file.RECALL_FLOOR <= float(parameters[RECALL_LIKE]) < projected_recall.LIKE_AIM
    assert float(parameters[RECALL_UNLIKE]) < projected_recall.UNLIKE_AIM
    (said,) = (record for record in caplog.records if "fewer of the best" in record.message)
    assert vars(said)["unlike"] == float(parameters[RECALL_UNLIKE])
    assert len(files(folder)) == 1, "what like queries find is enough"


def test_where_shares_in_the_axes_tell_the_kinds_apart_each_has_a_width_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projected_recall, "WIDTHS", (210, 420, 840))
    scales = np.where(np.arange(128) < 8, 1, 0.1).astype(np.float32)
    values = np.random.default_rng(0).standard_normal((ITEMS, 128), dtype=np.float32) * scales
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    ids = np.arange(ITEMS) + 1
    stamp = build_index(lambda: iter([(ids, values)]), tmp_path / "i", count=ITEMS, dim=128, seq=1, flat_max=500)
    measurement = Measurement(VectorIndex.read(tmp_path / "i", stamp))
    axes = Axes.of(values, 8)
    projection = Projection(axes.weights, [axes.codes(values)], widths=Widths(1))
    found = measurement.of(projection)
    assert found.widths.like < found.widths.unlike
    assert found.like >= 0.999
    assert found.unlike >= 0.99
    tuned = projection.with_widths(found.widths)
    (unlike,) = np.random.default_rng(5).standard_normal((1, 128)).astype(np.float32) / np.sqrt(128, dtype=np.float32)
    assert tuned.wide(200, unlike) == found.widths.unlike
    assert tuned.wide(200, values[3]) == found.widths.like
    monkeypatch.setattr(projected_recall, "WIDTHS", (found.widths.like,))
    assert measurement.of(projection).unlike < 0.99, "what is enough for like queries is not for others"


def test_figures_are_rounded_down_so_that_what_misses_some_is_not_said_to_find_all() -> None:
    assert [projected_recall._down(share) for share in (1.0, 0.99996, 0.9993, 0.97)] == [1.0, 0.9999, 0.9993, 0.97]


def test_recall_counts_equal_items_alike(tmp_path: Path) -> None:
    """A shop may show one photo hundreds of times: which of them are given says nothing of the projection."""
    folder = tmp_path / "gallery"
    put(folder, range(ITEMS))
    stamp = current(folder).index
    index = VectorIndex.read(files(folder)[0].with_name("index.faiss"), stamp)
    (query,) = unit(1, seed=3)
    choice = index.choice(np.arange(ITEMS + 1) % 3 == 0)
    best = index.search(query, projected_recall.RECALL_DEPTH, choice=choice)[1]
    for bound, expected in ((best[-1], 1.0), (best[-1] - 0.1, 1.0), (best[49], 0.25)):
        assert projected_recall._recall(index, query[None], choice, [float(bound)]) == pytest.approx(expected)


def test_recall_is_that_of_the_projection_not_of_the_graph_where_a_search_would_ask_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "SCANNED_ROWS", 0)
    folder = tmp_path / "gallery"
    put(folder, range(ITEMS))
    (path,) = files(folder)
    index = VectorIndex.read(path.with_name("index.faiss"), current(folder).index)
    axes = Axes.of(unit(ITEMS, seed=5), 1)
    of_others = Projection(axes.weights, [axes.codes(unit(ITEMS, seed=5))], widths=Widths(210))
    assert Measurement(index).of(of_others).like < 0.5
