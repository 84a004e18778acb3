"""How a network in training ranks `val`: stage one, greedy matching and GRNet over stage one's shortlist.

Letters  n images, E embedding size, R regions, C channels
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from threadmatch.model.engine import Engine
from threadmatch.model.evaluate.metrics import first_hit, rates
from threadmatch.model.grnet import GRNet, SimilarityHead
from threadmatch.model.similarity import greedy_similarity
from threadmatch.model.train.inputs.feature_sets import PairPools

CANDIDATES = 100
"""Items of stage one that are reranked."""


@dataclass(frozen=True, slots=True)
class Projected:
    """One side after neck and embedding: (n, E) unit vectors, (n, R, C) regions, and the n products."""

    embedding: Tensor
    regions: Tensor
    products: list[str]


@torch.no_grad()
def evaluate_projected(head: SimilarityHead, gallery: Projected, queries: Projected) -> dict[str, float]:
    """top-1 and mean reciprocal rank of each method, and recall of stage one's shortlist.

    Args:
        head: on the CPU, in evaluation mode.
        gallery, queries: both sides.
    """
    order = (queries.embedding @ gallery.embedding.T).topk(min(CANDIDATES, len(gallery.products)), dim=1).indices
    engine = Engine(head)
    by_greedy, by_grnet = [], []
    for query, short in zip(queries.regions, order, strict=True):
        shown = gallery.regions[short]
        by_greedy.append(short[greedy_similarity(query[None], shown, grids=head.config.grids).argsort(descending=True)])
        by_grnet.append(short[engine.score(query, shown).argsort(descending=True)])
    figures = {}
    for name, ranking in (("global", list(order)), ("greedy", by_greedy), ("grnet", by_grnet)):
        ranks = first_hit([positions.numpy() for positions in ranking], gallery.products, queries.products)
        figures[f"{name}_top1"] = rates(ranks)["top1"]
        figures[f"{name}_mrr"] = rates(ranks)["mrr"]
    figures["recall"] = float((ranks > 0).mean())
    return figures


@torch.no_grad()
def evaluate_pools(network: GRNet, pools: PairPools, *, queries: int) -> dict[str, float]:
    """`evaluate_projected` of cached features, on evenly spaced queries; leaves the network in training mode."""
    network.eval()
    at = spaced(len(pools.queries.products), queries)
    gallery = Projected(*pools.gallery.vectors(network), pools.gallery.products)
    asked = Projected(
        *pools.queries.vectors(network, at),
        [pools.queries.products[n] for n in at.tolist()],
    )
    figures = evaluate_projected(network.head, gallery, asked)
    network.train()
    return figures


def spaced(count: int, at_most: int) -> Tensor:
    """Positions of at most so many of `count`, evenly spaced."""
    return torch.linspace(0, count - 1, min(at_most, count)).long()
