"""Score to probability: a logistic of the score, fitted on the best matches of held-out queries; and the probability
below which a search is said to have found nothing.

Letters  n values, q queries, m gallery items
Paper    Platt, 1999; expected calibration error as in Guo et al., ICML 2017 (equal-width bins)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from threadmatch.model.config import Calibration
from threadmatch.model.convex import minimise
from threadmatch.model.errors import DataError
from threadmatch.model.inference import calibrated

BINS = 15
CALIBRATION_DEPTH = 10
"""Matches a query that calibration looks at: those of a first page."""
SIZE_SHARES = (0.5, 0.25, 0.125)
"""Parts of the gallery that the effect of its size is measured on."""
FOLDS = 5
MIN_OF_EACH = 20
"""Right and wrong matches, and products, that a calibration needs at least."""

Floats = NDArray[np.float32] | NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ScoredQueries:
    """What reranking said of each query's nearest items, in stage one's order.

    Fields:
        scores: for each query (k,) float32.
        same: for each query (k,) bool, whether the item is its product.
        products: the queries' products; queries of one never stand on both sides of a fold.
        gallery_items: m.
        candidates: how many a search reranks. Each list goes on by as many items as it has of the query's product, so
            that the same search can be seen with these taken out of the gallery.
    """

    scores: list[NDArray[np.float32]]
    same: list[NDArray[np.bool_]]
    products: list[str]
    gallery_items: int
    candidates: int

    def part(self, chosen: Sequence[int]) -> ScoredQueries:
        """These queries alone."""
        return replace(
            self,
            scores=[self.scores[n] for n in chosen],
            same=[self.same[n] for n in chosen],
            products=[self.products[n] for n in chosen],
        )

    def thinned(self, share: float, *, seed: int = 0) -> ScoredQueries:
        """As in a smaller gallery: this share of the other products' items stays, and every one of the query's."""
        rng = np.random.default_rng(seed)
        kept = [same | (rng.random(len(same)) < share) for same in self.same]
        return replace(
            self,
            scores=[scores[keep] for scores, keep in zip(self.scores, kept, strict=True)],
            same=[same[keep] for same, keep in zip(self.same, kept, strict=True)],
            gallery_items=max(1, round(self.gallery_items * share)),
        )

    def first_pages(self, depth: int = CALIBRATION_DEPTH) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """(n,) scores of every query's best matches, and whether each is right."""
        scores, same = [], []
        for own_scores, own_same in zip(self.scores, self.same, strict=True):
            shown = own_scores[: self.candidates]
            best = np.argsort(-shown, kind="stable")[:depth]
            scores.append(shown[best])
            same.append(own_same[best])
        return np.concatenate(scores), np.concatenate(same)

    def best_scores(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Best score of each search with its product in the gallery (queries that have one there), and (q,) without."""
        present, absent = [], []
        for scores, same in zip(self.scores, self.same, strict=True):
            others = scores[~same][: self.candidates]
            absent.append(others.max() if len(others) else -np.inf)
            if same.any():
                present.append(scores[: self.candidates].max())
        return np.asarray(present, np.float32), np.asarray(absent, np.float32)


@dataclass(frozen=True, slots=True)
class NoMatchRates:
    """How often "no match in this gallery" is wrong.

    Fields:
        threshold: probability of the best match, or presence of the first, below which it is said; None: never said.
        false_accept: share of searches without their product in the gallery for which it is not said.
        false_reject: share of searches with their product in the gallery for which it is said.
        present, absent: searches of either kind.
        false_reject_right: `false_reject` of those alone whose first match is the product; None: not measured.
    """

    threshold: float | None
    false_accept: float
    false_reject: float
    present: int
    absent: int
    false_reject_right: float | None = None


def calibrate(scored: ScoredQueries, *, max_false_reject: float | None = None) -> Calibration:
    """Fit the logistic, the effect of the gallery's size, and the threshold of "no match".

    Args:
        scored: held-out queries.
        max_false_reject: 0..1, the most searches with their product in the gallery that "no match" may be said of;
            None weighs both errors alike and takes the threshold with the least sum.

    Returns:
        Its false_accept and false_reject are measured by FOLDS folds over products, so on queries that neither the
        logistic nor the threshold was fitted on.

    Raises:
        DataError: fewer than MIN_OF_EACH right matches, wrong matches or products.
    """
    _, same = scored.first_pages()
    found = (int(same.sum()), int((~same).sum()), len(set(scored.products)))
    if min(found) < MIN_OF_EACH:
        raise DataError(
            f"{found[0]} right and {found[1]} wrong first-page matches of {found[2]} products; "
            f"a calibration needs at least {MIN_OF_EACH} of each"
        )
    fitted = _fit_whole(scored, max_false_reject)
    present, absent = [], []
    for rest, fold in _folds(scored):
        own = _fit_whole(rest, max_false_reject)
        rates = no_match_rates(own, fold, items=None)
        present.append((rates.false_reject, rates.present))
        absent.append((rates.false_accept, rates.absent))
    return replace(fitted, false_accept=_weighted(absent), false_reject=_weighted(present))


def _fit_whole(scored: ScoredQueries, max_false_reject: float | None) -> Calibration:
    logistic = fit_calibration(*scored.first_pages())
    sized = replace(logistic, gallery_items=scored.gallery_items)
    sized = replace(sized, size_slope=_fit_size_slope(sized, scored))
    return replace(sized, no_match_below=_choose_threshold(sized, scored, max_false_reject))


def fit_calibration(scores: Floats, same: NDArray[np.bool_]) -> Calibration:
    """Fit sigmoid(scale * score + offset) by maximum likelihood.

    Args:
        scores: (n,) of the matches that users would see.
        same: (n,) whether each is the query's product.
    """
    x, y = torch.from_numpy(scores).double(), torch.from_numpy(same).double()
    spread = float(x.std()) or 1.0
    weights = _maximise(torch.stack([x / spread, torch.ones_like(x)], dim=1), y, torch.zeros_like(x), start=[1.0, 0.0])
    return Calibration(scale=round(weights[0] / spread, 6), offset=round(weights[1], 6))


def _fit_size_slope(calibration: Calibration, scored: ScoredQueries) -> float:
    """d logit / d log m, with scale and offset as they are, from the same queries in smaller galleries; at most 0."""
    columns, known, right = [], [], []
    for seed, share in enumerate(SIZE_SHARES):
        if scored.candidates * share < 2 * CALIBRATION_DEPTH or scored.gallery_items * share < 2 * CALIBRATION_DEPTH:
            continue
        scores, same = scored.thinned(share, seed=seed).first_pages()
        columns.append(np.full(len(scores), math.log(share)))
        known.append(calibration.scale * scores.astype(np.float64) + calibration.offset)
        right.append(same)
    if not columns:
        return 0.0
    x, base, y = (torch.from_numpy(np.concatenate(parts)).double() for parts in (columns, known, right))
    return min(0.0, round(_maximise(x[:, None], y, base, start=[0.0])[0], 6))


def _maximise(x: Tensor, y: Tensor, base: Tensor, *, start: list[float]) -> list[float]:
    """Weights w of the likeliest sigmoid(base + x w): (n, k), (n,), (n,) -> k numbers."""
    found: list[float] = minimise(
        lambda weights: F.binary_cross_entropy_with_logits(base + x @ weights, y), torch.tensor(start).double()
    ).tolist()
    return found


def _choose_threshold(calibration: Calibration, scored: ScoredQueries, max_false_reject: float | None) -> float:
    """The probability that errs least in sum, or the highest that keeps false rejects within the bound."""
    present, absent = (np.sort(calibrated(calibration, best)) for best in scored.best_scores())
    values = np.unique(np.concatenate([present, absent, [0.0, 1.0]]).astype(np.float64))
    thresholds = np.concatenate([[0.0], (values[1:] + values[:-1]) / 2])
    reject = np.searchsorted(present, thresholds, side="left") / max(1, len(present))
    accept = 1 - np.searchsorted(absent, thresholds, side="left") / max(1, len(absent))
    if max_false_reject is None:
        return round(float(thresholds[np.argmin(accept + reject)]), 6)
    return round(float(thresholds[reject <= max_false_reject][-1]), 6)  # 0.0 rejects nobody, so one is always there


def no_match_rates(calibration: Calibration, scored: ScoredQueries, *, items: int | None) -> NoMatchRates:
    """Measure the threshold on these queries, each once with its product and once with it taken out of the gallery.

    Args:
        items: gallery size handed to the calibration; None: as the one it was fitted on.
    """
    present, absent = scored.best_scores()
    below = calibration.no_match_below
    if below is None:
        return NoMatchRates(None, 1.0, 0.0, len(present), len(absent))
    said = [calibrated(calibration, best, items=items) < below for best in (present, absent)]
    return NoMatchRates(
        threshold=below,
        false_accept=float((~said[1]).mean()) if len(absent) else 0.0,
        false_reject=float(said[0].mean()) if len(present) else 0.0,
        present=len(present),
        absent=len(absent),
    )


def held_out_error(scored: ScoredQueries) -> float:
    """Expected calibration error of a logistic fitted on the other folds' queries, 0..1."""
    probabilities, right = [], []
    for rest, fold in _folds(scored):
        scores, same = fold.first_pages()
        probabilities.append(calibrated(fit_calibration(*rest.first_pages()), scores))
        right.append(same)
    return expected_calibration_error(np.concatenate(probabilities), np.concatenate(right))


def _folds(scored: ScoredQueries) -> list[tuple[ScoredQueries, ScoredQueries]]:
    """(the other queries, the fold's), split by product."""
    names = sorted(set(scored.products))
    place = dict(zip(np.random.default_rng(0).permutation(names).tolist(), range(len(names)), strict=True))
    fold = np.asarray([place[product] % FOLDS for product in scored.products])
    return [
        (scored.part(np.flatnonzero(fold != f).tolist()), scored.part(np.flatnonzero(fold == f).tolist()))
        for f in range(FOLDS)
        if (fold == f).any()
    ]


def _weighted(rates: list[tuple[float, int]]) -> float:
    total = sum(count for _, count in rates)
    return round(sum(rate * count for rate, count in rates) / max(1, total), 6)


def reliability(probability: NDArray[np.float32], same: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Stated against found: for each of BINS equal bins that holds something its borders, count, mean and share right.

    Args:
        probability: (n,) 0..1. same: (n,) whether the match was right.
    """
    place = np.minimum((probability * BINS).astype(int), BINS - 1)
    return [
        {
            "low": round(int(b) / BINS, 6),
            "high": round((int(b) + 1) / BINS, 6),
            "matches": int((place == b).sum()),
            "stated": float(probability[place == b].mean()),
            "found": float(same[place == b].mean()),
        }
        for b in np.unique(place)
    ]


def expected_calibration_error(probability: NDArray[np.float32], same: NDArray[np.bool_]) -> float:
    """Mean gap between stated and found probability over BINS equal bins, weighted by their size; 0..1."""
    bins = reliability(probability, same)
    gaps = [part["matches"] * abs(part["stated"] - part["found"]) for part in bins]
    return float(sum(gaps)) / max(1, len(probability))
