"""From the shortlist and its scores to the matches of an answer: order, conditions, products.

Letters  N candidates
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from indexer.gallery import Candidate, Item
from model.config import Calibration
from service.results import Match
from service.schemas import SearchOptions


def ranking(count: int, scores: NDArray[np.float32] | None) -> list[int]:
    """Places of the shortlist, best first; equal scores keep the first stage's order.

    Args:
        count: N.
        scores: (N,), higher is better; None keeps the first stage's order.
    """
    if scores is None:
        return list(range(count))
    order = [int(place) for place in np.argsort(-scores, kind="stable")]
    assert sorted(order) == list(range(count)), "reranking must permute the shortlist and touch nothing else"
    return order


def is_no_match(matches: Sequence[Match], probabilities: NDArray[np.float32] | None, calibration: Calibration) -> bool:
    """Whether the gallery probably lacks the garment.

    Args:
        matches: of the answer.
        probabilities: (N,) of the whole shortlist, 0..1; None where the scores are not calibrated.
        calibration: of the model; without a threshold, only an empty answer is no match.
    """
    if not matches:
        return True
    threshold = calibration.no_match_below
    return threshold is not None and probabilities is not None and float(probabilities.max()) < threshold


def pick(
    candidates: Sequence[Candidate],
    items: Sequence[Item],
    *,
    scores: NDArray[np.float32] | None,
    probabilities: NDArray[np.float32] | None,
    options: SearchOptions,
) -> list[Match]:
    """The first top_k of the new order: improbable ones left out, products once if asked.

    Args:
        candidates, items: N of each, in the first stage's order.
        scores: (N,) of the second stage; None without one.
        probabilities: (N,) 0..1; None where the scores are not calibrated.
        options: what was asked for.
    """
    matches: list[Match] = []
    products: set[str] = set()
    for place in ranking(len(candidates), scores):
        probability = None if probabilities is None else float(probabilities[place])
        if options.min_probability is not None and (probability is None or probability < options.min_probability):
            continue
        item = items[place]
        if options.group_by == "product" and item.product_id is not None:
            if item.product_id in products:
                continue
            products.add(item.product_id)
        matches.append(
            Match(
                rank=len(matches) + 1,
                item=item,
                score=None if scores is None else float(scores[place]),
                probability=probability,
                stage1_rank=place + 1,
                distance=candidates[place].distance,
            )
        )
        if len(matches) == options.top_k:
            break
    return matches
