"""Galleries ranked for queries with known answers, by every stage and method.

Letters  n queries, m gallery items, k shortlist, E embedding size, R regions, C channels
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from threadmatch.model.data.encoded import EncodedSet
from threadmatch.model.data.pairs import LabelledImage
from threadmatch.model.evaluate.calibration import ScoredQueries
from threadmatch.model.evaluate.metrics import first_hit
from threadmatch.model.inference import Floats
from threadmatch.model.matchers import PairMatcher

STAGE_ONE = "global"
FINAL = "grnet"
EXHAUSTIVE = "grnet_exhaustive"

Order = list[NDArray[np.int64]]
Score = Callable[[Floats, Floats], NDArray[np.float32]]
"""(R, C) of a query and (k, R, C) of items -> (k,), higher is more alike."""


@dataclass(frozen=True, slots=True)
class Scorer:
    """A method with the features it reads.

    Fields:
        score: of one query against items.
        queries, gallery: (n, R, C) and (m, R, C).
        whole: ranks the whole gallery; else the first k of stage one, and leaves the rest as it was.
    """

    score: Score
    queries: Floats
    gallery: Floats
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Rankings:
    """Gallery positions, best first, for each query, by method; and what the final method scored."""

    orders: dict[str, Order]
    gallery: list[LabelledImage]
    queries: list[LabelledImage]
    candidates: int
    scored: ScoredQueries | None = field(default=None, repr=False)

    def ranks(self, method: str) -> NDArray[np.int64]:
        """(n,) first-hit rank from 1, 0 where the product is not found."""
        products = [image.product_id for image in self.gallery]
        return first_hit(self.orders[method], products, [image.product_id for image in self.queries])


def scorer_of(matcher: PairMatcher, queries: Floats, gallery: Floats, *, whole: bool = False) -> Scorer:
    """A matcher of tensors as a scorer of arrays."""

    def score(query: Floats, candidates: Floats) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = matcher.score(torch.from_numpy(query), torch.from_numpy(candidates)).numpy()
        return scores

    return Scorer(score, queries, gallery, whole)


def rank_encoded(
    shop: EncodedSet,
    street: EncodedSet,
    scorers: Mapping[str, Scorer],
    *,
    candidates: int,
    exhaustive: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Rankings:
    """Rank the gallery for every query.

    Args:
        shop, street: gallery and queries; their embeddings make stage one.
        scorers: by name; the one named FINAL is also kept with its scores, for calibration.
        candidates: k.
        exhaustive: let FINAL rank the whole gallery too.
        progress: called with queries done and all.

    Returns:
        STAGE_ONE (the whole gallery), each scorer's, and EXHAUSTIVE where asked. Ties keep stage one's order, and in
        stage one the gallery's.
    """
    orders: dict[str, Order] = {name: [] for name in (STAGE_ONE, *scorers)}
    if exhaustive and FINAL in scorers:
        orders[EXHAUSTIVE] = []
    own = _positions(shop.images)
    products = np.asarray([image.product_id for image in shop.images])
    kept: list[tuple[NDArray[np.float32], NDArray[np.bool_]]] = []
    for n, query in enumerate(street.images):
        order = np.argsort(-(shop.embeddings @ street.embeddings[n]), kind="stable")
        orders[STAGE_ONE].append(order)
        # With the query's own items out of the gallery as many others move up: they are scored too.
        deep = min(candidates + len(own.get(query.product_id, ())), len(order))
        for name, scorer in scorers.items():
            everything = scorer.whole or (name == FINAL and EXHAUSTIVE in orders)
            depth = len(order) if everything else deep if name == FINAL else min(candidates, len(order))
            scores = scorer.score(scorer.queries[n], scorer.gallery[order[:depth]])
            orders[name].append(_reranked(order, scores if scorer.whole else scores[:candidates]))
            if name == FINAL:
                kept.append((scores[:deep], products[order[:deep]] == query.product_id))
                if EXHAUSTIVE in orders:
                    orders[EXHAUSTIVE].append(_reranked(order, scores))
        if progress:
            progress(n + 1, len(street.images))
    scored = None
    if kept:
        wanted = [image.product_id for image in street.images]
        scored = ScoredQueries([s for s, _ in kept], [same for _, same in kept], wanted, len(shop.images), candidates)
    return Rankings(orders, list(shop.images), list(street.images), candidates, scored)


def _positions(images: Sequence[LabelledImage]) -> dict[str, list[int]]:
    """Where each product stands in the gallery."""
    where: dict[str, list[int]] = {}
    for position, image in enumerate(images):
        where.setdefault(image.product_id, []).append(position)
    return where


def _reranked(order: NDArray[np.int64], scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """The first len(scores) positions by score, ties in stage one's order; the others where they were."""
    head = order[: len(scores)][np.argsort(-scores, kind="stable")]
    return np.concatenate([head, order[len(scores) :]])
