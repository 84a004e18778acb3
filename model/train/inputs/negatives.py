"""Queries with their match and the negatives that reranking meets: others of each query's own shortlist.

Letters  q queries a step, k items a query (the match first), E embedding size
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from threadmatch.model.data.sides import Sides
from threadmatch.model.errors import DataError

Products = Sides[list[str]]
"""The product that each image shows."""

_ROWS = 1024


def matches_of(products: Products) -> list[list[int]]:
    """Gallery positions that show each query's product.

    Raises:
        DataError: no query has its product in the gallery.
    """
    where: dict[str, list[int]] = {}
    for position, product in enumerate(products.gallery):
        where.setdefault(product, []).append(position)
    matches = [where.get(product, []) for product in products.queries]
    if not any(matches):
        raise DataError("no training query has its product in the training gallery; nothing can be learned from them")
    return matches


def nearest_others(
    embeddings: Sides[Tensor], products: Products, matches: list[list[int]], *, depth: int
) -> NDArray[np.int64]:
    """The shortlists that negatives are drawn from.

    Args:
        embeddings: (n, E) of each side.
        products: of the same images.
        matches: from `matches_of`.
        depth: of a shortlist, where the gallery has as many items of other products.

    Returns:
        (n queries, at most depth) nearest gallery positions of another product.

    Raises:
        DataError: the gallery shows one product only.
    """
    fewest_others = len(products.gallery) - int(np.unique(products.gallery, return_counts=True)[1].max())
    if not fewest_others:
        raise DataError("the training gallery shows one product only; there is nothing to tell apart")
    nearest = []
    for start in range(0, len(embeddings.queries), _ROWS):
        similar = embeddings.queries[start : start + _ROWS] @ embeddings.gallery.T
        for row, own in enumerate(matches[start : start + _ROWS]):
            similar[row, own] = -2  # below every cosine
        nearest.append(similar.topk(min(depth, fewest_others), dim=1).indices.numpy())
    return np.concatenate(nearest)


@dataclass(frozen=True, slots=True)
class Draw:
    """One step's images.

    Fields:
        queries: (q,) positions.
        items: (q, k) gallery positions, the match first.
        same: (q, q * k) whether an item of the step shows the query's product.
    """

    queries: NDArray[np.int64]
    items: NDArray[np.int64]
    same: Tensor


def draw_queries(
    products: Products,
    matches: list[list[int]],
    shortlists: NDArray[np.int64],
    *,
    queries: int,
    negatives: int,
    rng: np.random.Generator,
) -> Draw:
    """Queries at random, each with a match and its negatives: what people refused first, then of the shortlist.

    Args:
        products: of the set.
        matches: from `matches_of`.
        shortlists: from `nearest_others`.
        queries: q, where as many have a match.
        negatives: of each query, where its shortlist has as many.
        rng: decides.
    """
    answerable = np.asarray([n for n, own in enumerate(matches) if own])
    chosen = rng.choice(answerable, min(queries, len(answerable)), replace=False)
    count = min(negatives, shortlists.shape[1])
    items = np.asarray(
        [[rng.choice(matches[n]), *_negatives(shortlists[n], products.refused.get(n, ()), count, rng)] for n in chosen]
    )  # (q, k)
    shown = np.asarray(products.gallery)[items.reshape(-1)]
    return Draw(chosen, items, torch.from_numpy(shown[None] == np.asarray(products.queries)[chosen][:, None]))


def _negatives(
    near: NDArray[np.int64], refused: Sequence[int], count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """(count,) gallery positions: what people refused, as far as there is room, and others of the shortlist."""
    if not refused:
        return rng.choice(near, count, replace=False)
    first = rng.permutation(np.asarray(refused, dtype=np.int64))[:count]
    return np.concatenate([first, rng.choice(np.setdiff1d(near, first), count - len(first), replace=False)])
