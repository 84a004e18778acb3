"""Fit the sparse graph list-wise: the garment against the items that the dense match confuses it with.

Letters  q queries, k items a query (the best of the dense match), T terms

The fit is convex (a softmax over each query's items, linear in the terms, a pull towards the dense match), so that it
has one answer, takes seconds, and can be repeated on a shop's own pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from threadmatch.model.certainty import match_values
from threadmatch.model.convex import logistic, minimise
from threadmatch.model.errors import DataError
from threadmatch.model.evaluate.certainty_fit import KnownSearch
from threadmatch.model.node_inputs import INPUTS
from threadmatch.model.sparse_graph import COSINE_SCALE, TERMS, SparseGraph, node_terms
from threadmatch.model.train.inputs.graph_lists import Lists

PULL = 0.02
"""Of squared weights, each in units of its term's deviation. Chosen on `val` (`model.synthetic.judging_sets`)."""
MIN_QUERIES = 50
PRESENCE_PULL = 3e-3
"""Likewise, of presence's."""
_AT_ONCE = 64


def terms_of(lists: Lists, grid: tuple[int, int]) -> NDArray[np.float32]:
    """(q, k, T): the terms of each query and item, summed over nodes."""
    parts = []
    for inputs in torch.from_numpy(lists.inputs).split(_AT_ONCE):
        flat = inputs.float().flatten(0, 1)  # (q * k, P, F)
        parts.append(node_terms(flat, grid).sum(dim=1).view(len(inputs), inputs.shape[1], -1))
    summed: NDArray[np.float32] = torch.cat(parts).numpy()
    return summed


def mean_cosines(lists: Lists) -> NDArray[np.float32]:
    """(q, k) of the dense match."""
    cosines: NDArray[np.float32] = lists.inputs[..., INPUTS.index("cosine")].astype(np.float32).mean(axis=2)
    return cosines


def fit_sparse_graph(train: Sequence[Lists], *, grid: tuple[int, int] = (7, 7), pull: float = PULL) -> SparseGraph:
    """Find the weights.

    Args:
        train: lists of several sets; within a set queries count alike, sets as their `weight` says.
        grid: rows and columns of the map.
        pull: towards the dense match.

    Raises:
        DataError: fewer than MIN_QUERIES queries with their product among the k.
    """
    terms, cosines, same, weights = [], [], [], []
    for one in train:
        there = one.same.any(axis=1)
        terms.append(terms_of(one, grid)[there])
        cosines.append(mean_cosines(one)[there])
        same.append(one.same[there])
        weights.append(np.full(int(there.sum()), one.weight / max(1, int(there.sum()))))
    queries = sum(len(part) for part in same)
    if queries < MIN_QUERIES:
        raise DataError(f"{queries} queries have their product among the best; the graph needs {MIN_QUERIES}")
    flat = np.concatenate([part.reshape(-1, len(TERMS)) for part in terms])
    mean, deviation = flat.mean(axis=0), flat.std(axis=0) + 1e-6
    padded = [_padded((part - mean) / deviation, c, s) for part, c, s in zip(terms, cosines, same, strict=True)]
    share = np.concatenate(weights)
    found = _descend(padded, torch.from_numpy(share / share.mean()).float(), pull)
    weight = _named(found / deviation)
    bias = -float(sum(weight.get(name, 0.0) * m for name, m in zip(TERMS, mean, strict=True)))
    return SparseGraph(grid, weight, COSINE_SCALE, round(bias, 6))


def fit_presence(
    graph: SparseGraph, there: Sequence[Lists], gone: Sequence[Lists], *, pull: float = PRESENCE_PULL
) -> SparseGraph:
    """Fit the graph's second readout: searches whose garment is there against the same with it taken out.

    Of each search the match that the graph puts first counts, right or not, and of sets each as much as another.

    Args:
        graph: fitted; its scores stay what they are.
        there, gone: of the same sets, `Shortlists.lists` as it is and with `taken_out`.
        pull: of squared weights, each in units of its term's deviation.

    Returns:
        The graph with its presence.

    Raises:
        DataError: fewer than MIN_QUERIES searches of either kind.
    """
    if min(sum(len(one.same) for one in some) for some in (there, gone)) < MIN_QUERIES:
        raise DataError(f"presence needs {MIN_QUERIES} searches with their garment there, and as many without")
    terms, present, weight = [], [], []
    for some, is_there in ((there, True), (gone, False)):
        for one in some:
            first = score_lists(graph, one).argmax(axis=1)
            terms.append(terms_of(one, graph.grid)[np.arange(len(first)), first])
            present.append(np.full(len(first), is_there))
            weight.append(np.full(len(first), 1 / max(1, len(first))))
    share = np.concatenate(weight)
    values = np.concatenate(terms).astype(np.float64)
    found, bias = logistic(values, np.concatenate(present), share / share.mean(), pull=pull)
    return replace(graph, presence=_named(found), presence_bias=round(bias, 6))


def _named(weights: NDArray[np.float64]) -> dict[str, float]:
    """(T,) by term, without those that are nothing: of colours where none are known."""
    return {name: round(float(w), 6) for name, w in zip(TERMS, weights, strict=True) if w}


def list_loss(scores: Tensor, same: Tensor, weight: Tensor) -> Tensor:
    """Mean over queries of minus the log of what a softmax over the items gives the right ones.

    Args:
        scores: (q, k), minus infinity where there is no item. same: (q, k). weight: (q,), of mean one.
    """
    chances = scores.log_softmax(dim=1)
    return -(weight * chances.masked_fill(~same, float("-inf")).logsumexp(dim=1)).mean()


def _padded(
    terms: NDArray[np.float32], cosines: NDArray[np.float32], same: NDArray[np.bool_]
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.from_numpy(terms).float(), torch.from_numpy(cosines * COSINE_SCALE), torch.from_numpy(same)


def _descend(parts: Sequence[tuple[Tensor, Tensor, Tensor]], share: Tensor, pull: float) -> NDArray[np.float64]:
    """(T,) weights of standardised terms; sets may have lists of different lengths."""
    shares = share.split([len(same) for _, _, same in parts])

    def loss(weights: Tensor) -> Tensor:
        losses = [
            list_loss(base + terms @ weights, same, own) * len(same)
            for (terms, base, same), own in zip(parts, shares, strict=True)
        ]
        return torch.stack(losses).sum() / len(share) + pull * weights.square().sum()

    return minimise(loss, torch.zeros(len(TERMS))).double().numpy()


def score_lists(graph: SparseGraph, lists: Lists) -> NDArray[np.float32]:
    """(q, k) scores."""
    weights = np.asarray([graph.weights.get(name, 0.0) for name in TERMS], np.float32)
    scores = graph.cosine_scale * mean_cosines(lists) + terms_of(lists, graph.grid) @ weights + graph.bias
    return np.asarray(scores, np.float32)


def presence_of(graph: SparseGraph, lists: Lists) -> NDArray[np.float32] | None:
    """(q, k) presence, 0..1; None where none is fitted."""
    if not graph.presence:
        return None
    weights = np.asarray([graph.presence.get(name, 0.0) for name in TERMS], np.float32)
    return np.asarray(1 / (1 + np.exp(-(terms_of(lists, graph.grid) @ weights + graph.presence_bias))), np.float32)


def known_searches(graph: SparseGraph, lists: Lists) -> list[KnownSearch]:
    """What `certainty_fit` learns from: each query's matches, best first by the graph."""
    found, presence = [], presence_of(graph, lists)
    for n, scores in enumerate(score_lists(graph, lists)):
        best = np.argsort(-scores, kind="stable")
        values = match_values(scores, lists.dense[n], lists.place[n])
        told = None if presence is None else presence[n][best]
        found.append(KnownSearch(values[best], lists.same[n][best], lists.name, told))
    return found
