"""How a network in training ranks `val`: stage one, greedy matching and GRNet over stage one's shortlist.

Letters  n images, E embedding size, R regions, C channels
"""

from __future__ import annotations

import torch
from torch import Tensor

from threadmatch.model.data.sides import Sides
from threadmatch.model.engine import Engine
from threadmatch.model.evaluate.metrics import first_hit, rates
from threadmatch.model.grnet import GRNet, SimilarityHead
from threadmatch.model.progress import Progress, unheard
from threadmatch.model.similarity import greedy_similarity
from threadmatch.model.train.inputs.feature_sets import FeatureSet

CANDIDATES = 100
"""Items of stage one that are reranked."""

RANKING = "ranking val"
"""The stage that `progress` hears."""


@torch.no_grad()
def evaluate_projected(
    head: SimilarityHead, val: Sides[FeatureSet], *, progress: Progress = unheard
) -> dict[str, float]:
    """top-1 and mean reciprocal rank of each method, and recall of stage one's shortlist.

    Args:
        head: on the CPU, in evaluation mode.
        val: both sides, projected.
        progress: hears how many queries are ranked.
    """
    gallery, queries = val.gallery, val.queries
    order = (queries.pooled @ gallery.pooled.T).topk(min(CANDIDATES, len(gallery.products)), dim=1).indices
    engine = Engine(head)
    by_greedy, by_grnet = [], []
    for n, (query, short) in enumerate(zip(queries.regions, order, strict=True)):
        shown = gallery.regions[short]
        by_greedy.append(short[greedy_similarity(query[None], shown, grids=head.config.grids).argsort(descending=True)])
        by_grnet.append(short[engine.score(query, shown).argsort(descending=True)])
        progress(RANKING, n + 1, len(order))
    figures = {}
    for name, ranking in (("global", list(order)), ("greedy", by_greedy), ("grnet", by_grnet)):
        ranks = first_hit([positions.numpy() for positions in ranking], gallery.products, queries.products)
        figures[f"{name}_top1"] = rates(ranks)["top1"]
        figures[f"{name}_mrr"] = rates(ranks)["mrr"]
    figures["recall"] = float((ranks > 0).mean())
    return figures


@torch.no_grad()
def evaluate_features(
    network: GRNet, val: Sides[FeatureSet], *, queries: int, progress: Progress = unheard
) -> dict[str, float]:
    """`evaluate_projected` of cached features, on evenly spaced queries; leaves the network in evaluation mode."""
    network.eval()
    at = spaced(len(val.queries.products), queries)
    asked = [val.queries.products[n] for n in at.tolist()]
    projected = Sides(
        FeatureSet(*val.gallery.vectors(network), val.gallery.products, projected=True),
        FeatureSet(*val.queries.vectors(network, at), asked, projected=True),
    )
    return evaluate_projected(network.head, projected, progress=progress)


def spaced(count: int, at_most: int) -> Tensor:
    """Positions of at most so many of `count`, evenly spaced."""
    return torch.linspace(0, count - 1, min(at_most, count)).long()
