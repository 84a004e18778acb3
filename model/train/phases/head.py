"""Train neck, embedding and head over cached features of a frozen backbone, against the negatives that reranking meets.

Letters  q queries a step, k candidates a query (the match first), n images, E, R, C, D, C' as in config
Paper    Kuang et al., ICCV 2019, sec. 3.2 and 5.1; what differs is said beside each setting
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from threadmatch.model.grnet import GRNet
from threadmatch.model.similarity import greedy_similarity_across
from threadmatch.model.train.inputs.feature_sets import PairPools
from threadmatch.model.train.loop.curves import HEAD_LOG
from threadmatch.model.train.loop.precision import Precision, check_at_least_one, check_precision, mixed
from threadmatch.model.train.loop.training_state import head_groups, of_this_recipe
from threadmatch.model.train.loop.validation import evaluate_pools

logger = logging.getLogger(__name__)

STATE_FILE = "state.pt"
"""In a run's folder: what a head needs to go on after a kill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings:
    """How to train over cached features."""

    metric_steps: int = 600
    """First phase, where there is a neck or an embedding: they alone learn, by greedy local matching (Eq. 2, 3) and the
    cosine of Eq. 1, each query against every item of the step. Cheap, and it carries over to garments never seen."""
    metric_queries: int = 64
    metric_negatives: int = 3
    metric_rate: float = 3e-4
    temperature: float = 0.05
    """Of both softmaxes of the first phase."""
    head_steps: int = 300
    """Second phase: GRNet's head learns on the features as they are now, as a residual over the blend."""
    queries: int = 32
    """Queries a step; each brings its match and `negatives` others."""
    negatives: int = 7
    """Drawn from the query's shortlist, since telling those apart is the reranker's whole work. The paper takes every
    other pair of the batch, of which most are easy."""
    shortlist: int = 60
    """Depth of the shortlist that negatives are drawn from; made anew every `refresh` steps of the first phase."""
    refresh: int = 100
    learning_rate: float = 1e-3
    """AdamW with a cosine to zero. The paper's SGD at 0.01 trains a whole backbone; here the head alone learns."""
    weight_decay: float = 0.05
    warm_up: int = 30
    evaluate_every: int = 150
    evaluate_queries: int = 600
    precision: Precision = "float32"
    """"bfloat16": matrix products in mixed precision, faster on CPUs with AVX-512 BF16 (docs/training.md)."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_precision(self.precision)
        check_at_least_one(
            self, "queries", "negatives", "metric_queries", "shortlist", "refresh", "warm_up", "evaluate_every"
        )

    @property
    def steps(self) -> int:
        """Of both phases."""
        return self.metric_steps + self.head_steps


def fit(
    network: GRNet,
    train: PairPools,
    val: PairPools,
    *,
    settings: FitSettings,
    run: Path,
    after_evaluation: Callable[[int, dict[str, float]], None] | None = None,
) -> dict[str, float]:
    """Train in place; keep the weights that rerank `val` best.

    Args:
        network: with a trained backbone, which is not touched.
        train, val: features of the bare backbone; of neck and embedding where no first phase trains these.
        settings: how.
        run: folder for curves.jsonl and state.pt; an unfinished run there goes on from its last evaluation.
        after_evaluation: called with the step and its figures.

    Returns:
        The best figures on `val`.
    """
    settings = possible(settings, network)
    assert not (settings.metric_steps and train.queries.projected), "what is projected already trains no neck"
    run.mkdir(parents=True, exist_ok=True)
    parts = torch.nn.ModuleList(part for part in (network.neck, network.embedding, network.head) if part is not None)
    groups = head_groups(parts, rate=settings.learning_rate, weight_decay=settings.weight_decay)
    optimiser = torch.optim.AdamW(groups)
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _cosine(step, settings))
    state = _State(run, parts, optimiser, rate)
    step = state.resume()
    if not step:  # the start counts: a run that only made it worse gives it back
        state.keep(0, {"step": 0, **evaluate_pools(network, val, queries=settings.evaluate_queries)})
    matches = _matches(train)
    shortlist: NDArray[np.int64] | None = None
    started = time.monotonic()
    while step < settings.steps:
        if shortlist is None or _stale(step, settings):
            shortlist = _shortlist(network, train, settings.shortlist)
        rng = np.random.default_rng([settings.seed, step])  # of the step alone: a resumed run draws the same
        torch.manual_seed(settings.seed * 1_000_003 + step)
        metric = step < settings.metric_steps
        drawn = draw(train, matches, shortlist, settings, rng, metric=metric)
        losses = (_metric_losses if metric else _head_losses)(network, train, drawn, settings)
        optimiser.zero_grad()
        losses["total"].backward()
        torch.nn.utils.clip_grad_norm_(parts.parameters(), 1.0)
        optimiser.step()
        rate.step()
        step += 1
        if step % settings.evaluate_every == 0 or step == settings.steps:
            figures = evaluate_pools(network, val, queries=settings.evaluate_queries)
            row = {"step": step, "seconds": time.monotonic() - started}
            row |= {f"loss_{name}": float(value.detach()) for name, value in losses.items()} | figures
            state.keep(step, row)
            if step <= settings.metric_steps:  # the head changes no embedding
                shortlist = None
            if after_evaluation:
                after_evaluation(step, row)
    return state.restore_best()


def possible(settings: FitSettings, network: GRNet) -> FitSettings:
    """Without the first phase where it has nothing to train."""
    nothing = network.neck is None and network.embedding is None
    return replace(settings, metric_steps=0) if nothing else settings


def _stale(step: int, settings: FitSettings) -> bool:
    """Whether the shortlist is made anew: now and then while the embedding learns, and once when it has."""
    return step == settings.metric_steps or (step < settings.metric_steps and step % settings.refresh == 0)


def _cosine(step: int, settings: FitSettings) -> float:
    """Share of `learning_rate`: a warm-up and half a cosine in each phase."""
    metric = step < settings.metric_steps
    peak = settings.metric_rate / settings.learning_rate if metric else 1.0
    done, length = (step, settings.metric_steps) if metric else (step - settings.metric_steps, settings.head_steps)
    return peak * min(1.0, (done + 1) / settings.warm_up) * 0.5 * (1 + math.cos(math.pi * done / max(1, length)))


def _matches(train: PairPools) -> list[list[int]]:
    """Gallery positions that show each query's product."""
    where: dict[str, list[int]] = {}
    for position, product in enumerate(train.gallery.products):
        where.setdefault(product, []).append(position)
    return [where.get(product, []) for product in train.queries.products]


@torch.no_grad()
def _shortlist(network: GRNet, train: PairPools, depth: int) -> NDArray[np.int64]:
    """(n queries, depth) nearest gallery positions of another product, by the embedding as it is now."""
    gallery, queries = train.gallery.embeddings(network), train.queries.embeddings(network)
    matches = _matches(train)
    nearest = []
    for start in range(0, len(queries), 1024):
        similar = queries[start : start + 1024] @ gallery.T
        for row, own in enumerate(matches[start : start + 1024]):
            similar[row, own] = -2
        nearest.append(similar.topk(min(depth, len(gallery) - 1), dim=1).indices.numpy())
    return np.concatenate(nearest)


@dataclass(frozen=True, slots=True)
class Draw:
    """One step's images: (q,) query positions, (q, k) gallery positions with the match first, (q, q * k) true where a
    gallery image shows the query's product without being its match of this step."""

    queries: NDArray[np.int64]
    items: NDArray[np.int64]
    duplicate: Tensor


def draw(
    train: PairPools,
    matches: list[list[int]],
    shortlist: NDArray[np.int64],
    settings: FitSettings,
    rng: np.random.Generator,
    *,
    metric: bool,
) -> Draw:
    """Queries at random, each with a match and its negatives."""
    queries, negatives = (
        (settings.metric_queries, settings.metric_negatives) if metric else (settings.queries, settings.negatives)
    )
    answerable = np.asarray([n for n, own in enumerate(matches) if own])
    chosen = rng.choice(answerable, min(queries, len(answerable)), replace=False)
    items = np.asarray(
        [[rng.choice(matches[n]), *_negatives(shortlist[n], train.refused.get(n, ()), negatives, rng)] for n in chosen]
    )  # (q, k)
    shown = np.asarray(train.gallery.products)[items.reshape(-1)]
    duplicate = torch.from_numpy(shown[None] == np.asarray(train.queries.products)[chosen][:, None])
    duplicate[torch.arange(len(chosen)), torch.arange(len(chosen)) * items.shape[1]] = False
    return Draw(chosen, items, duplicate)


def _negatives(
    near: NDArray[np.int64], refused: Sequence[int], count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """(count,) gallery positions: what people refused, as far as there is room, and others of the shortlist."""
    if not refused:
        return rng.choice(near, count, replace=False)
    first = rng.permutation(np.asarray(refused, dtype=np.int64))[:count]
    return np.concatenate([first, rng.choice(np.setdiff1d(near, first), count - len(first), replace=False)])


def _features(network: GRNet, train: PairPools, drawn: Draw) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Query embedding (q, E) and regions (q, R, C), item embedding (q * k, E) and regions (q * k, R, C)."""
    at, items = torch.from_numpy(drawn.queries), torch.from_numpy(drawn.items.reshape(-1))
    return *train.queries.vectors(network, at), *train.gallery.vectors(network, items)


def _metric_losses(network: GRNet, train: PairPools, drawn: Draw, settings: FitSettings) -> dict[str, Tensor]:
    """Softmax of each query over all items of the step, by embedding and by greedy local matching."""
    query_embedding, query_regions, embedding, regions = _features(network, train, drawn)
    own = torch.arange(len(drawn.queries)) * drawn.items.shape[1]
    local = greedy_similarity_across(query_regions, regions, grids=network.config.grids)  # (q, q * k)
    losses = {
        name: F.cross_entropy((similar / settings.temperature).masked_fill(drawn.duplicate, float("-inf")), own)
        for name, similar in (("embedding", query_embedding @ embedding.T), ("local", local))
    }
    return {**losses, "total": losses["embedding"] + losses["local"]}


def _head_losses(network: GRNet, train: PairPools, drawn: Draw, settings: FitSettings) -> dict[str, Tensor]:
    """Softmax of each query over its own match and the shortlist's negatives, by GRNet's score."""
    q, k = drawn.items.shape
    with torch.no_grad():  # neck and embedding stay as the first phase left them
        _embedding, query_regions, _item, regions = _features(network, train, drawn)
    one = query_regions.repeat_interleave(k, dim=0)  # (q * k, R, C)
    with mixed(settings.precision, network.head):
        score = network.head(one, regions).float().view(q, k)
    same = torch.zeros(q, k)
    same[:, 0] = 1
    # The listwise loss leaves the score's zero free; a light pairwise one ties it to "same garment".
    weight = torch.where(same > 0, 1.0, 1.0 / max(1, k - 1))
    losses = {
        "rerank": F.cross_entropy(score, torch.zeros(q, dtype=torch.long)),
        "pair": F.binary_cross_entropy_with_logits(score, same, weight=weight),
    }
    return {**losses, "total": losses["rerank"] + 0.1 * losses["pair"]}


class _State:
    """What a run needs to go on after a kill, and its best weights."""

    def __init__(
        self,
        run: Path,
        parts: torch.nn.Module,
        optimiser: torch.optim.Optimizer,
        rate: torch.optim.lr_scheduler.LambdaLR,
    ) -> None:
        self.run, self.parts, self.optimiser, self.rate = run, parts, optimiser, rate
        self.best: dict[str, float] = {}
        self.best_weights: dict[str, Tensor] = {}

    def resume(self) -> int:
        path = self.run / STATE_FILE
        if not path.exists():
            return 0
        with of_this_recipe(path):
            saved = torch.load(path, weights_only=True)
            self.parts.load_state_dict(saved["parts"])
            self.optimiser.load_state_dict(saved["optimiser"])
            self.rate.load_state_dict(saved["rate"])
            self.best, self.best_weights = saved["best"], saved["best_weights"]
        return int(saved["step"])

    def keep(self, step: int, row: dict[str, float]) -> None:
        with (self.run / HEAD_LOG).open("a") as file:
            file.write(json.dumps(row) + "\n")
        logger.info("evaluated", extra=row)
        if row["grnet_mrr"] >= self.best.get("grnet_mrr", -1.0):
            self.best = row
            self.best_weights = {name: value.detach().clone() for name, value in self.parts.state_dict().items()}
        staged = self.run / f"{STATE_FILE}.partial"
        torch.save(
            {
                "step": step,
                "parts": self.parts.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "rate": self.rate.state_dict(),
                "best": self.best,
                "best_weights": self.best_weights,
            },
            staged,
        )
        staged.replace(self.run / STATE_FILE)

    def restore_best(self) -> dict[str, float]:
        if self.best_weights:
            self.parts.load_state_dict(self.best_weights)
        return self.best
