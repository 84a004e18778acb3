"""From the shortlist and its scores to the matches of an answer: order, conditions, products, duplicates.

Letters  N candidates
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from threadmatch.indexer.reading.gallery import Candidate, Item
from threadmatch.model.chain import Ranking
from threadmatch.service.http.schemas.search import SearchOptions
from threadmatch.service.search.results import DIGITS, Duplicate, Match


@dataclass(slots=True)
class _Entry:
    place: int
    views: list[int] = field(default_factory=list)
    duplicates: list[int] = field(default_factory=list)


def pick(
    candidates: Sequence[Candidate],
    items: Sequence[Item],
    *,
    ranking: Ranking,
    probabilities: NDArray[np.float32] | NDArray[np.float64],
    options: SearchOptions,
    twin: Callable[[int, Collection[int]], int | None] | None = None,
) -> list[Match]:
    """The first top_k entries of the new order: improbable ones left out, products once if asked, no photo twice.

    The whole order is walked, so that a match also names the views and duplicates that come far behind it.

    Args:
        candidates, items: N of each, in the first stage's order.
        ranking: of the N, after the chain.
        probabilities: (N,) 0..1 by place; NaN where no calibrated matcher scored the item, which is left out where
            `min_probability` is asked for: nobody knows.
        options: what was asked for.
        twin: which of the places shown already has the photo of a place, None for none; None folds nothing.
    """

    def match(place: int, rank: int, views: list[Match] | None = None, duplicates: Sequence[int] = ()) -> Match:
        return Match(
            rank=rank,
            item=items[place],
            score=_known(ranking.scores[place]),
            stage=ranking.scored_by[place],
            probability=_known(told[place]),
            stage1_rank=place + 1,
            distance=candidates[place].distance,
            views=views,
            duplicates=[Duplicate(items[same], same + 1) for same in duplicates],
        )

    # As the answer will have them: what it says can be asked for.
    told = np.round(probabilities.astype(np.float64), DIGITS)
    order = [int(place) for place in ranking.order]
    improbable = set()
    if options.min_probability is not None:
        improbable = {place for place in order if not told[place] >= options.min_probability}
    grouped = options.group_by == "product"
    return [
        match(
            entry.place,
            rank,
            [match(place, behind) for behind, place in enumerate(entry.views, 2)] if grouped else None,
            entry.duplicates,
        )
        for rank, entry in enumerate(_entries(order, items, improbable, options, twin), 1)
    ]


def _known(value: np.floating) -> float | None:
    return None if np.isnan(value) else float(value)


def _entries(
    order: Sequence[int],
    items: Sequence[Item],
    improbable: set[int],
    options: SearchOptions,
    twin: Callable[[int, Collection[int]], int | None] | None,
) -> list[_Entry]:
    """Walk the order: what opens an entry, what is a further view of one, what repeats a photo shown already."""
    entries: list[_Entry] = []
    products: dict[str, _Entry] = {}
    shown: dict[int, _Entry] = {}  # places whose photos the answer shows
    for place in order:
        product = items[place].product_id if options.group_by == "product" else None
        entry = products.get(product) if product is not None else None
        same = None if twin is None else twin(place, shown)
        if same is not None:
            shown[same].duplicates.append(place)
            continue
        if entry is not None:
            entry.views.append(place)
        elif len(entries) < options.top_k and place not in improbable:
            entry = _Entry(place)
            entries.append(entry)
            if product is not None:
                products[product] = entry
        else:
            continue
        shown[place] = entry
    return entries
