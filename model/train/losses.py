"""The losses of training, each a function of what a network made of a step.

A phase says in `weights` of its settings which of LOSSES it takes and how much of each. A new loss is a function and
its line in LOSSES here, and a setting there that weighs it.

Letters  q queries and n items of a step, E embedding size, R regions, P cells, C channels, H heads
         K slots and P positions of an aggregator
Paper    Kuang et al., ICCV 2019, Eq. 1 to 3 and sec. 3.2: what is compared; Shen et al., CVPR 2018: `same_or_different`
         `both_ways`, `overlap` and `disagreement` are ours, for Zhu et al., arXiv 2302.08902: its losses are not public
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from threadmatch.model.dense import dense_similarity_across
from threadmatch.model.similarity import Grid, greedy_similarity_across


@dataclass(frozen=True, slots=True)
class Targets:
    """What is right in a step.

    Fields:
        own: (q,) int64, the item that is each query's match.
        same: (q, n) bool, whether an item shows the query's product, the match among them.
    """

    own: Tensor
    same: Tensor

    @classmethod
    def diagonal(cls, same: Tensor) -> Targets:
        """Of (b, b) pairs in which item n is query n's match."""
        return cls(torch.arange(len(same), device=same.device), same)

    @classmethod
    def first(cls, queries: int, items: int) -> Targets:
        """Of queries with items of their own, (q, k), of which the first alone is the match."""
        same = torch.zeros(queries, items, dtype=torch.bool)
        same[:, 0] = True
        return cls(torch.zeros(queries, dtype=torch.long), same)

    def other_views(self) -> Tensor:
        """(q, n) bool: items of the query's product beside its match; they count neither way."""
        return self.same.scatter(1, self.own[:, None], value=False)


class Vectors(NamedTuple):
    """One side of a step: (n, E) unit embeddings, (n, R, C) regions and, where they are compared, (n, P, C) cells."""

    embedding: Tensor
    regions: Tensor
    cells: Tensor | None = None


class Aligned(NamedTuple):
    """What a multi-granular alignment made of q queries and n items, the first q of which are their matches.

    Fields:
        levels: (g, q, n) similarities of each granularity.
        score, fused: (q, n) of all together, and of the one vector a photo.
        attention: (B, K, P) where the slots look, of both sides' photos.
        spans: first slot and the one behind the last of each granularity.
    """

    levels: Tensor
    score: Tensor
    fused: Tensor
    attention: Tensor
    spans: Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What a network made of a step, and what is right.

    Fields:
        targets: of these queries and items.
        score: (q, n) logits of "same garment"; None where the phase scores no pairs.
        queries, items: vectors of q and n images; None where no loss reads them.
        aligned: of a phase that trains an alignment.
        grids: of the regions.
        temperature: of the softmaxes over `queries` and `items`.
        match_weight, other_weight: of the pairs that match and of the others.
    """

    targets: Targets
    score: Tensor | None = None
    queries: Vectors | None = None
    items: Vectors | None = None
    aligned: Aligned | None = None
    grids: Sequence[Grid] = ()
    temperature: float = 1.0
    match_weight: float = 1.0
    other_weight: float = 1.0


def own_item(similar: Tensor, targets: Targets, temperature: float = 1.0) -> Tensor:
    """Softmax of each query over the items of its step: how unlikely its own is, as a mean.

        -mean_q log( exp(s_q,own / t) / sum_n exp(s_qn / t) ),  n over all but other views of the query's product

    Args:
        similar: (q, n), higher is more alike.
        targets: which item is whose.
        temperature: t.
    """
    return F.cross_entropy((similar / temperature).masked_fill(targets.other_views(), float("-inf")), targets.own)


def pairs(score: Tensor, targets: Targets, *, match_weight: float = 1.0, other_weight: float = 1.0) -> Tensor:
    """Cross-entropy of "same" and "different" over all pairs, as a mean; of two logits it is that of their difference.

        mean_qn w_qn log(1 + exp(-s_qn)) where the item shows the query's product, else w_qn log(1 + exp(s_qn))

    Args:
        score: (q, n) logits of "same garment".
        targets: which pairs are.
        match_weight, other_weight: w of those and of the others.
    """
    weight = torch.where(targets.same, match_weight, other_weight)
    return F.binary_cross_entropy_with_logits(score, targets.same.float(), weight=weight)


def same_or_different(logits: Tensor, targets: Targets) -> Tensor:
    """Cross-entropy of two logits by every head; pairs that match and the others weigh alike, however many they are.

    Args:
        logits: (H, q * n, 2), "different" and "same", the items of a query side by side.
        targets: which pairs are.
    """
    wanted = targets.same.long().flatten().expand(len(logits), -1).reshape(-1)  # (H * q * n,)
    each = F.cross_entropy(logits.flatten(0, 1), wanted, reduction="none")
    return each[wanted == 1].mean() + each[wanted == 0].mean()


def both_ways(similar: Tensor, targets: Targets, temperature: float = 1.0) -> Tensor:
    """`own_item` of the queries over all items, and of the queries' items over the queries: their mean.

    Args:
        similar: (q, n), of which the first q items are the matches of the q queries, in their order.
        targets: which item is whose.
        temperature: t.
    """
    q = len(similar)
    back = own_item(similar[:, :q].T, Targets.diagonal(targets.same[:, :q].T), temperature)
    return (own_item(similar, targets, temperature) + back) / 2


def overlap(attention: Tensor, spans: Sequence[tuple[int, int]]) -> Tensor:
    """How much slots of a granularity look at the same places: 0 where no two share a position.

        mean_g | A_g A_g^T / (|a_i| |a_j|) - I |_F^2,  as a mean over photos

    Args:
        attention: (B, K, P) A, 0 or more.
        spans: of each granularity.
    """
    unit = F.normalize(attention, dim=-1)
    shared = [unit[:, start:end] @ unit[:, start:end].transpose(1, 2) for start, end in spans]
    own = [one - torch.eye(one.shape[1], device=one.device) for one in shared]
    return torch.stack([one.square().sum(dim=(1, 2)).mean() for one in own]).mean()


def disagreement(fast: Tensor, slow: Tensor, temperature: float = 1.0) -> Tensor:
    """How far the order of a fast score is from that of a slow one, which does not learn from it.

        mean_q KL( softmax_n(slow_q / t) || softmax_n(fast_q / t) )

    Args:
        fast, slow: (q, n).
        temperature: t.
    """
    taught, teacher = (fast / temperature).log_softmax(dim=1), (slow.detach() / temperature).log_softmax(dim=1)
    return F.kl_div(taught, teacher, reduction="batchmean", log_target=True)


def _scored(step: Compared) -> Tensor:
    assert step.score is not None, "this phase scores no pairs"
    return step.score


def _vectors(step: Compared) -> tuple[Vectors, Vectors]:
    assert step.queries is not None, "this phase hands no vectors on"
    assert step.items is not None
    return step.queries, step.items


def _pair(step: Compared) -> Tensor:
    return pairs(_scored(step), step.targets, match_weight=step.match_weight, other_weight=step.other_weight)


def _listwise(step: Compared) -> Tensor:
    return own_item(_scored(step), step.targets)


def _embedding(step: Compared) -> Tensor:
    queries, items = _vectors(step)
    return own_item(queries.embedding @ items.embedding.T, step.targets, step.temperature)


def _local(step: Compared) -> Tensor:
    queries, items = _vectors(step)
    similar = greedy_similarity_across(queries.regions, items.regions, grids=step.grids)
    return own_item(similar, step.targets, step.temperature)


def _cells(step: Compared) -> Tensor:
    queries, items = _vectors(step)
    assert queries.cells is not None, "this phase makes no cells"
    assert items.cells is not None
    return own_item(dense_similarity_across(queries.cells, items.cells), step.targets, step.temperature)


def _aligned(step: Compared) -> Aligned:
    assert step.aligned is not None, "this phase aligns nothing"
    return step.aligned


def _levels(step: Compared) -> Tensor:
    losses = [both_ways(level, step.targets, step.temperature) for level in _aligned(step).levels]
    return torch.stack(losses).sum()


LOSSES: dict[str, Callable[[Compared], Tensor]] = {
    "pair": _pair,
    "listwise": _listwise,
    "embedding": _embedding,
    "local": _local,
    "cells": _cells,
    "levels": _levels,
    "alignment": lambda step: both_ways(_aligned(step).score, step.targets, step.temperature),
    "fused": lambda step: both_ways(_aligned(step).fused, step.targets, step.temperature),
    "overlap": lambda step: overlap(_aligned(step).attention, _aligned(step).spans),
    "disagreement": lambda step: disagreement(_aligned(step).fused, _aligned(step).score, step.temperature),
}
"""By name: `pairs` and `own_item` of GRNet's scores; `own_item` of the embeddings' cosine (Eq. 1) and of greedy local
matching (Eq. 2, 3), and of dense matching over the cells of the last map (late interaction). Of an alignment:
`both_ways` of each granularity (summed), of its score and of its one vector, `overlap` of its slots, and `disagreement`
of the one vector with the score."""

METRIC = ("embedding", "local")
"""Those that teach what GRNet's head is built on."""


def losses_of(step: Compared, weights: Mapping[str, float]) -> dict[str, Tensor]:
    """The losses of a step.

    Args:
        step: what the network made of it.
        weights: by names of LOSSES; what weighs nothing is not computed.

    Returns:
        Each by name, as it is, and `total`, their weighted sum.
    """
    found = {name: LOSSES[name](step) for name, weight in weights.items() if weight}
    return {**found, "total": torch.stack([weights[name] * value for name, value in found.items()]).sum()}
