"""Train a Kronecker-product matching head over a model's features, against the negatives that GRNet's head meets.

Letters  q queries a step, k items a query (the match first), P positions, C channels
Paper    Shen et al., CVPR 2018: cross-entropy of "same" and "different" for every head on every group; here positives
         and negatives are averaged apart, since there are k - 1 times as many of these
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from threadmatch.model.data.encoded import EncodedSet
from threadmatch.model.errors import DataError
from threadmatch.model.evaluate.metrics import first_hit, rates
from threadmatch.model.kpm import KPMHead, KPMMatcher
from threadmatch.model.matching import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class KPMSettings:
    """How to train; sizes as FitSettings has them for GRNet's head, so that both see as many pairs."""

    steps: int = 300
    queries: int = 32
    negatives: int = 7
    shortlist: int = 60
    learning_rate: float = 1e-3
    weight_decay: float = 5e-4
    evaluate_every: int = 50
    evaluate_queries: int = 600
    candidates: int = 100
    seed: int = 0


@dataclass(frozen=True, slots=True)
class MapPair:
    """Gallery and queries with the stage-one embeddings and the maps: regions are (n, P, C)."""

    gallery: EncodedSet
    queries: EncodedSet


def fit_kpm(
    head: KPMHead,
    train: MapPair,
    val: MapPair,
    *,
    settings: KPMSettings,
    progress: Callable[[int, int], None] | None = None,
) -> float:
    """Train in place; keep the weights that rerank `val` best, the start among them.

    Returns:
        The best mean reciprocal rank on `val`.

    Raises:
        DataError: no training query has its product in the gallery.
    """
    matches, shortlist = _neighbours(train, settings.shortlist)
    answerable = np.asarray([n for n, own in enumerate(matches) if len(own)])
    if not len(answerable):
        raise DataError("no training query has its product in the training gallery")
    optimiser = torch.optim.AdamW(head.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    best, kept = _val_mrr(head, val, settings), copy.deepcopy(head.state_dict())
    for step in range(settings.steps):
        rng = np.random.default_rng([settings.seed, step])
        chosen = rng.choice(answerable, min(settings.queries, len(answerable)), replace=False)
        items = np.stack(
            [
                [rng.choice(matches[n]), *rng.choice(shortlist[n], min(settings.negatives, shortlist.shape[1]), False)]
                for n in chosen
            ]
        )  # (q, k)
        head.train()
        loss = _loss(head, train.queries.regions[chosen], train.gallery.regions[items])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if (step + 1) % settings.evaluate_every == 0 or step + 1 == settings.steps:
            found = _val_mrr(head, val, settings)
            if found >= best:
                best, kept = found, copy.deepcopy(head.state_dict())
        if progress:
            progress(step + 1, settings.steps)
    head.load_state_dict(kept)
    head.eval()
    return best


def _loss(head: KPMHead, queries: Floats, items: Floats) -> Tensor:
    """(q, P, C) and (q, k, P, C) -> mean cross-entropy, matches and others weighing alike."""
    q, k = items.shape[:2]
    one = torch.from_numpy(queries).float().repeat_interleave(k, dim=0)  # (q * k, P, C)
    logits = head.logits(one, torch.from_numpy(items).float().flatten(0, 1))  # (G * G, q * k, 2)
    same = torch.zeros(q, k, dtype=torch.long)
    same[:, 0] = 1
    wanted = same.flatten().expand(len(logits), -1)  # (G * G, q * k)
    losses = F.cross_entropy(logits.flatten(0, 1), wanted.reshape(-1), reduction="none")
    right = wanted.reshape(-1) == 1
    return losses[right].mean() + losses[~right].mean()


def _neighbours(pair: MapPair, depth: int) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
    """Each query's own gallery positions, and the (n, depth) nearest of other products by stage one."""
    products = np.asarray([image.product_id for image in pair.gallery.images])
    matches, nearest = [], []
    fewest_others = len(products) - int(np.unique(products, return_counts=True)[1].max())
    depth = min(depth, fewest_others)
    if depth < 1:
        raise DataError("the training gallery shows one product only; there is nothing to tell apart")
    for image, embedding in zip(pair.queries.images, pair.queries.embeddings, strict=True):
        own = products == image.product_id
        similar = np.where(own, -np.inf, pair.gallery.embeddings @ embedding)
        nearest.append(np.argpartition(-similar, depth - 1)[:depth])
        matches.append(np.flatnonzero(own))
    return matches, np.stack(nearest)


def _val_mrr(head: KPMHead, val: MapPair, settings: KPMSettings) -> float:
    """Mean reciprocal rank of the reranked shortlist, on evenly spaced queries."""
    matcher = KPMMatcher(head)
    count = min(settings.evaluate_queries, len(val.queries.images))
    at = np.linspace(0, len(val.queries.images) - 1, count).astype(int)
    orders = []
    for n in at:
        order = np.argsort(-(val.gallery.embeddings @ val.queries.embeddings[n]), kind="stable")[: settings.candidates]
        photo, items = {"map": val.queries.regions[n]}, {"map": val.gallery.regions[order]}
        [scores] = matcher.score_many([photo], [items])
        orders.append(order[np.argsort(-scores, kind="stable")])
    products = [image.product_id for image in val.gallery.images]
    return rates(first_hit(orders, products, [val.queries.images[n].product_id for n in at]))["mrr"]
