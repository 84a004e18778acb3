"""Fit `certainty` on searches with known answers, and measure what it says of searches whose garment was taken out.

Letters  q searches, k items that the last stage scored, V values a match
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from threadmatch.model.certainty import VALUES, Certainty, probability, says_no_match
from threadmatch.model.convex import logistic
from threadmatch.model.errors import DataError

MIN_OF_EACH = 20
WRONGLY_SAID = 0.05
"""The most searches with their garment in the gallery of which "no match" may be said."""
PAGE = 10
"""Matches of a search that count: those a customer sees."""
BEHIND = 0.1
"""What a match behind the first one counts beside it."""
RANGE = (0.5, 99.5)
"""Percentiles between which a value counts as met."""
PULL = 1e-3
"""Of squared standardised weights: the values say much the same, and a light pull keeps them from fighting."""


@dataclass(frozen=True, slots=True)
class KnownSearch:
    """One search, its matches best first.

    Fields:
        values: (k, V) of `certainty.match_values`.
        same: (k,) whether each is the garment.
        origin: what set it comes from; origins count alike, however many searches they have.
        presence: (k,) what the last stage said of it; None where it tells none.
    """

    values: NDArray[np.float64]
    same: NDArray[np.bool_]
    origin: str = ""
    presence: NDArray[np.float32] | None = None

    @property
    def first_presence(self) -> float | None:
        """Of the first match."""
        return None if self.presence is None or not len(self.presence) else float(self.presence[0])


@dataclass(frozen=True, slots=True)
class Saying:
    """How often "no match" is said: of searches whose garment is there, of those of them whose first match is right,
    and of searches whose garment is not there; 0..1."""

    present: float
    right: float
    absent: float


def fit_certainty(searches: Sequence[KnownSearch], *, wrongly_said: float = WRONGLY_SAID) -> Certainty:
    """Fit weights, ranges, and the threshold of "no match": of presence where all searches have one.

    Args:
        searches: whose garment is in the gallery, of several origins where there are any.
        wrongly_said: the most of them of which "no match" may be said, in the mean over origins.

    Raises:
        DataError: too few right or wrong matches.
    """
    share = _shares(searches)
    values = np.concatenate([s.values[:PAGE] for s in searches]) if searches else np.zeros((0, len(VALUES)))
    same = np.concatenate([s.same[:PAGE] for s in searches]) if searches else np.zeros(0, bool)
    if min(same.sum(), (~same).sum()) < MIN_OF_EACH:
        raise DataError(
            f"{int(same.sum())} right and {int((~same).sum())} wrong matches; a certainty needs {MIN_OF_EACH}"
        )
    weight = np.concatenate(
        [
            own * np.where(np.arange(len(s.same[:PAGE])) == 0, 1.0, BEHIND)
            for s, own in zip(searches, share, strict=True)
        ]
    )
    low, high = np.percentile(values, RANGE, axis=0)
    weights, offset = logistic(np.clip(values, low, high), same, weight / weight.mean(), pull=PULL)
    fitted = Certainty(
        weights=tuple(round(float(w), 6) for w in weights),
        offset=round(offset, 6),
        low=tuple(round(float(v), 6) for v in low),
        high=tuple(round(float(v), 6) for v in high),
    )
    presence = [s.first_presence for s in searches]
    told = np.asarray([value for value in presence if value is not None])
    if len(told) == len(searches):
        return replace(fitted, presence_below=_threshold(told, share, wrongly_said))
    best = best_probabilities(fitted, searches)
    return replace(fitted, no_match_below=min(_threshold(best, share, wrongly_said), 0.999))


def best_probabilities(certainty: Certainty, searches: Sequence[KnownSearch]) -> NDArray[np.float64]:
    """(q,) probability of each search's likeliest match."""
    return np.asarray([float(probability(certainty, s.values).max()) for s in searches])


def how_often_said(certainty: Certainty, present: Sequence[KnownSearch], absent: Sequence[KnownSearch]) -> Saying:
    """Measure the threshold.

    Args:
        present: searches whose garment is there.
        absent: the same with the garment taken out.
    """
    of_present, of_absent = (
        np.asarray([says_no_match(certainty, probability(certainty, s.values), s.first_presence) for s in some])
        for some in (present, absent)
    )
    right = np.asarray([bool(len(s.same) and s.same[0]) for s in present], bool)
    return Saying(_mean(of_present), _mean(of_present[right]), _mean(of_absent))


def _mean(said: NDArray[np.bool_]) -> float:
    return float(said.mean()) if len(said) else 0.0


def _shares(searches: Sequence[KnownSearch]) -> NDArray[np.float64]:
    """(q,) weight of each search, so that every origin counts alike."""
    names, counts = np.unique([s.origin for s in searches], return_counts=True)
    many = dict(zip(names.tolist(), counts.tolist(), strict=True))
    return np.asarray([1 / many[s.origin] for s in searches])


def _threshold(best: NDArray[np.float64], share: NDArray[np.float64], wrongly_said: float) -> float:
    """The value below which so much of the whole share lies."""
    order = np.argsort(best)
    below = np.cumsum(share[order]) / share.sum()
    at = int(np.searchsorted(below, wrongly_said, side="right"))
    return round(float(best[order][min(at, len(best) - 1)]), 6)
