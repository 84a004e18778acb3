"""How well photos are found by one attribute: mean average precision, and the share of triplets in the right order.

Letters  q queries, n candidates, T triplets, d width
Paper    Ma et al., AAAI 2020 (ASEN): MAP; Veit et al., CVPR 2017: triplet accuracy on Zappos50k
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from threadmatch.model.data.attribute_labels import AttributeSet
from threadmatch.model.evaluate.metrics import BOOTSTRAP_ROUNDS, Interval

CHUNK: Final = 500
"""Queries ranked at a time, bounding memory."""


def average_precision(similar: NDArray[np.float32], relevant: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Average precision of each query over its whole list.

        AP = 1/|relevant| sum_k precision(k) relevant(k)

    Args:
        similar: (q, n), higher first; -inf leaves a candidate out. Equal ones keep their order.
        relevant: (q, n).

    Returns:
        (q,) in 0..1; NaN where nothing is relevant.
    """
    order = np.argsort(-similar, axis=1, kind="stable")
    listed = np.take_along_axis(np.isfinite(similar), order, axis=1)
    hits = np.take_along_axis(relevant, order, axis=1) & listed
    precision = hits.cumsum(1) / np.arange(1, hits.shape[1] + 1)
    counts = hits.sum(1)
    return np.where(counts, (precision * hits).sum(1) / np.maximum(counts, 1), np.nan)


def attribute_precision(
    queries: NDArray[np.float32],
    candidates: NDArray[np.float32],
    *,
    marks: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    products: tuple[NDArray[np.str_], NDArray[np.str_]],
) -> NDArray[np.float64]:
    """Average precision of photos that ask for one attribute's value, by dot product.

    Args:
        queries, candidates: (q, d) and (n, d).
        marks: (q, V) and (n, V), the values of each; those without one neither ask nor answer.
        products: (q,) and (n,); a query is not answered by photos of its own garment, which would tell nothing.

    Returns:
        (q,) in 0..1; NaN for those that ask nothing or have no answer.
    """
    relevant = (marks[0].astype(np.float32) @ marks[1].T.astype(np.float32)) > 0
    unknown = np.logical_not(np.any(marks[1], axis=1))  # (n,)
    out = (products[0][:, None] == products[1][None]) | unknown[None]
    found = average_precision(np.where(out, -np.inf, queries @ candidates.T), relevant & ~out)
    return np.where(marks[0].any(1), found, np.nan)


def precisions(
    embeddings: NDArray[np.float32], photos: AttributeSet, marks: Sequence[NDArray[np.bool_]], names: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """Average precision of each photo that asks, by attribute.

    Customers' photos ask and the shop's answer; in a set of one kind alone every photo asks all others.

    Args:
        embeddings: (n, A, D), or (n, E) for one vector whatever is asked.
        photos: n.
        marks: for each attribute (n, V).
        names: A of them.

    Returns:
        By attribute (q,) in 0..1 of the q photos that ask, NaN where one asks nothing.
    """
    asks, answers = sides(photos)
    products = np.array([image.product_id for image in photos.images])
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in names}
    for start in range(0, len(asks), CHUNK):
        at = asks[start : start + CHUNK]
        for n, name in enumerate(names):
            own = embeddings[:, n] if embeddings.ndim == 3 else embeddings
            found[name].append(
                attribute_precision(
                    own[at], own[answers],
                    marks=(marks[n][at], marks[n][answers]), products=(products[at], products[answers]),
                )
            )  # fmt: skip
    return {name: np.concatenate(parts) for name, parts in found.items()}


def sides(photos: AttributeSet) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of the photos that ask and of those that answer; see `precisions`."""
    asks = np.asarray(photos.asks)
    if asks.all() or not asks.any():
        return np.arange(len(asks)), np.arange(len(asks))
    return np.flatnonzero(asks), np.flatnonzero(~asks)


def mean_precision(found: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    """MAP of each attribute, `all` weighed by queries as the authors do, and `mean`, each attribute alike; 0..1."""
    by_name = {name: float(np.nanmean(own)) for name, own in found.items() if np.isfinite(own).any()}
    every = np.concatenate([own[np.isfinite(own)] for own in found.values()]) if found else np.empty(0)
    if not by_name:
        return {}
    return {**by_name, "all": float(every.mean()), "mean": float(np.mean(list(by_name.values())))}


def precision_gain(
    baseline: Mapping[str, NDArray[np.float64]],
    method: Mapping[str, NDArray[np.float64]],
    products: NDArray[np.str_],
    *,
    seed: int = 0,
    rounds: int = BOOTSTRAP_ROUNDS // 4,
) -> Interval:
    """Gain in `mean` of one method over another, with a paired bootstrap 95 % interval over the queries' products.

    Args:
        baseline, method: by attribute the (q,) average precision of the same queries.
        products: (q,) of each query: photos of one garment are drawn together, since they tell much the same.
    """
    gains = np.stack([method[name] - baseline[name] for name in method])  # (A, q)
    _, owner = np.unique(products, return_inverse=True)
    known = np.isfinite(gains)
    count = int(owner.max()) + 1
    sums = np.stack([np.bincount(owner, np.where(k, g, 0.0), count) for g, k in zip(gains, known, strict=True)])
    sizes = np.stack([np.bincount(owner, k.astype(float), count) for k in known])
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(count, np.full(count, 1 / count), rounds).astype(np.float64)  # (rounds, products)
    asked = drawn @ sizes.T  # (rounds, A)
    with np.errstate(invalid="ignore"):
        means = np.nanmean(np.where(asked > 0, drawn @ sums.T / asked, np.nan), axis=1)
    low, high = np.nanpercentile(means, [2.5, 97.5])
    return Interval(
        float(np.nanmean(sums.sum(1)[sizes.sum(1) > 0] / sizes.sum(1)[sizes.sum(1) > 0])), float(low), float(high)
    )


def triplet_accuracy(anchor: NDArray[np.float32], near: NDArray[np.float32], far: NDArray[np.float32]) -> float:
    """Share of (T, d) triplets in which the anchor's product with `near` is the larger; a tie counts as wrong."""
    return float(((anchor * near).sum(1) > (anchor * far).sum(1)).mean()) if len(anchor) else 0.0
