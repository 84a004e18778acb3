"""What the stages of a chain ask for is read once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from threadmatch.indexer.reading.gallery import Candidate, Gallery, Snapshot
from threadmatch.model.coded import Stored
from threadmatch.model.features import EMBEDDING, REGIONS
from threadmatch.service.search.gathering import Gathered


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
