"""What the stages of a chain ask for is read once, and which of them take one turn."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from threadmatch.indexer.reading.gallery import Candidate, Gallery, Snapshot
from threadmatch.model.chain import Stage
from threadmatch.model.coded import Stored
from threadmatch.model.color import ColorMatcher
from threadmatch.model.dense import DenseMatcher
from threadmatch.model.features import CELLS, EMBEDDING, REGIONS, TINTS, FeatureSpec
from threadmatch.model.sparse_graph import SparseGraph
from threadmatch.model.sparse_matcher import SparseGraphMatcher
from threadmatch.service.queues.served_model import ServedModel
from threadmatch.service.search.gathering import SMALL_BYTES, Gathered, in_one_go


class Counting:
    """A snapshot that remembers what was read of it."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self.read: list[tuple[str, int]] = []

    def stored_features(self, name: str, candidates: Sequence[Candidate]) -> Stored:
        self.read.append((name, len(candidates)))
        return self._snapshot.stored_features(name, candidates)


@pytest.fixture
def counting(gallery: Gallery) -> Counting:
    return Counting(gallery.current)


def shortlist(gallery: Gallery) -> list[Candidate]:
    side = next(spec for spec in gallery.current.manifest.features if spec.name == EMBEDDING).shape[0]
    return gallery.current.shortlist(np.eye(1, side, dtype=np.float32)[0], 6, filter=None)


def test_a_later_stage_takes_its_items_from_what_was_read(gallery: Gallery, counting: Counting) -> None:
    candidates = shortlist(gallery)
    gathered = Gathered(counting, candidates)  # type: ignore[arg-type]
    wide, narrow = np.array([4, 2, 0, 1, 5]), np.array([5, 0, 2])
    assert not gathered.has(wide, [REGIONS])
    gathered.read(wide, [REGIONS])
    assert gathered.has(narrow, [REGIONS])
    gathered.read(narrow, [REGIONS])
    for places in (wide, narrow):
        expected = gallery.current.features(REGIONS, [candidates[place] for place in places])
        np.testing.assert_array_equal(gathered.at(places, [REGIONS])[REGIONS], expected)
    assert counting.read == [(REGIONS, 5)]


def test_what_was_not_read_is_read_then(gallery: Gallery, counting: Counting) -> None:
    candidates = shortlist(gallery)
    gathered = Gathered(counting, candidates)  # type: ignore[arg-type]
    gathered.read(np.array([0, 1]), [REGIONS])
    for places in (np.array([2, 0]), np.array([1])):
        assert not gathered.has(places, [REGIONS])
        gathered.read(places, [REGIONS])
        expected = gallery.current.features(REGIONS, [candidates[place] for place in places])
        np.testing.assert_array_equal(gathered.at(places, [REGIONS])[REGIONS], expected)
    assert not gathered.has(np.array([1]), [REGIONS, EMBEDDING])


MATCHERS = {
    "dense": DenseMatcher(lambda: (7, 7)),
    "sparse": SparseGraphMatcher(SparseGraph(weights={"agree": 1.0})),
    "tinted": SparseGraphMatcher(SparseGraph(weights={"tint": -1.0})),
    "color": ColorMatcher(),
}
SPECS = (
    FeatureSpec(CELLS, (49, 256), "int4"),
    FeatureSpec(TINTS, (3, 49), "int8"),
    FeatureSpec("color", (1, 1024)),
)
MODEL = cast("ServedModel", SimpleNamespace(matchers=MATCHERS, features=SPECS))


@pytest.mark.parametrize(
    ("stages", "together", "needs"),
    [
        ([("dense", 200), ("sparse", 16)], 2, {CELLS}),
        ([("dense", 200), ("tinted", 16)], 2, {CELLS, TINTS}),
        ([("dense", 200), ("color", 16)], 1, {CELLS}),
        ([("dense", 200), ("tinted", 16), ("color", 8)], 2, {CELLS, TINTS}),
        ([("dense", 16), ("tinted", 40)], 1, {CELLS}),
        ([("tinted", 16)], 1, {CELLS, TINTS}),
    ],
)
def test_stages_whose_further_features_are_small_take_one_turn(
    stages: list[tuple[str, int]], together: int, needs: set[str]
) -> None:
    chain = tuple(Stage(matcher, items) for matcher, items in stages)
    assert in_one_go(chain, 200, MODEL) == (chain[:together], frozenset(needs))
    assert SPECS[1].size_bytes <= SMALL_BYTES < SPECS[2].size_bytes
