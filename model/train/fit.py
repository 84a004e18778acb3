"""Train neck, embedding and head over cached features of a frozen backbone, against the negatives that reranking meets.

Letters  q queries a step, k candidates a query (the match first), n images, E, R, C, D, C' as in config
Paper    Kuang et al., ICCV 2019, sec. 3.2 and 5.1; what differs is said beside each setting
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from model.engine import Engine
from model.grnet import GRNet
from model.similarity import greedy_similarity
from model.train.features import EncodedSet
from model.train.metrics import first_hit, rates

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings:
    """How to train over cached features."""

    steps: int = 1500
    queries: int = 32
    """Queries a step; each brings its match and `negatives` others."""
    negatives: int = 7
    """Drawn from the query's shortlist, since telling those apart is the reranker's whole work. The paper takes every
    other pair of the batch, of which most are easy."""
    shortlist: int = 60
    """Depth of the shortlist that negatives are drawn from; made anew every `refresh` steps."""
    refresh: int = 100
    learning_rate: float = 1e-3
    """AdamW with a cosine to zero. The paper's SGD at 0.01 trains a whole backbone; here the head alone learns."""
    weight_decay: float = 0.05
    warm_up: int = 50
    embedding_weight: float = 1.0
    """Of the loss of stage one: softmax over the step's shop images by cosine at `temperature`."""
    local_weight: float = 0.5
    """Of the loss of greedy local matching (Eq. 2, 3), which trains the neck where GRNet's own gradient is weak."""
    temperature: float = 0.05
    evaluate_every: int = 150
    evaluate_queries: int = 600
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Pools:
    """Tensors of an encoded set: pooled (n, C) and regions (n, R, C) of the bare backbone, and the products."""

    pooled: Tensor
    regions: Tensor
    products: list[str]

    @classmethod
    def of(cls, encoded: EncodedSet) -> Pools:
        return cls(
            torch.from_numpy(encoded.embeddings),
            torch.from_numpy(encoded.regions),
            [image.product_id for image in encoded.images],
        )


@dataclass(frozen=True, slots=True)
class PairPools:
    """A gallery and its queries."""

    gallery: Pools
    queries: Pools


def start_from_data(network: GRNet, train: PairPools) -> None:
    """Start neck and embedding as whitened principal components of the training features, and the answer at zero.

    A random start has to unlearn itself first; from here stage one and the greedy similarity already work, and the head
    begins as exactly their blend.
    """
    with torch.no_grad():
        sample = torch.cat([train.gallery.pooled[:4000], train.queries.pooled[:8000]])
        if network.embedding is not None:
            _whiten(network.embedding, sample.float())
        if network.neck is not None:
            regions = torch.cat([train.gallery.regions[:1500], train.queries.regions[:1500]])
            _whiten(network.neck, regions.flatten(0, 1).float())
        head = network.head
        head.classifier.weight.mul_(0.1)
        if head.blend is not None:
            head.blend.copy_(torch.tensor([{"global": 4.0, "greedy": 16.0}[name] for name in head.config.blend]))
        if head.projection_bias is not None:
            head.projection_bias.normal_(std=0.5 / math.sqrt(len(head.projection_bias)))


def _whiten(layer: torch.nn.Linear, sample: Tensor, power: float = 0.5) -> None:
    """Rows: the leading components, each divided by its deviation to `power` (1 whitens fully and lifts noise)."""
    mean = sample.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov((sample - mean).T))
    keep = layer.out_features
    values, vectors = values.flip(0)[:keep], vectors.flip(1)[:, :keep]
    scale = (values / values[0]).clamp(min=1e-6).pow(-power / 2)
    weight = scale[:, None] * vectors.T
    length = (F.linear(sample - mean, weight)).norm(dim=1).mean()
    layer.weight.copy_(weight / length)
    layer.bias.copy_(-(weight / length) @ mean)


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
        train, val: features of the bare backbone.
        settings: how.
        run: folder for curves.jsonl and state.pt; an unfinished run there goes on from its last evaluation.
        after_evaluation: called with the step and its figures.

    Returns:
        The best figures on `val`.
    """
    run.mkdir(parents=True, exist_ok=True)
    parts = torch.nn.ModuleList(part for part in (network.neck, network.embedding, network.head) if part is not None)
    optimiser = torch.optim.AdamW(_groups(parts, settings.weight_decay), lr=settings.learning_rate)
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _cosine(step, settings))
    state = _State(run, parts, optimiser, rate)
    step = state.resume()
    matches = _matches(train)
    shortlist: NDArray[np.int64] | None = None
    started = time.monotonic()
    while step < settings.steps:
        if shortlist is None or step % settings.refresh == 0:
            shortlist = _shortlist(network, train, settings.shortlist)
        rng = np.random.default_rng([settings.seed, step])  # of the step alone: a resumed run draws the same
        torch.manual_seed(settings.seed * 1_000_003 + step)
        losses = _losses(network, train, matches, shortlist, settings, rng)
        optimiser.zero_grad()
        losses["total"].backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parts.parameters(), 1.0)
        optimiser.step()
        rate.step()
        step += 1
        if step % settings.evaluate_every == 0 or step == settings.steps:
            figures = evaluate_pools(network, val, queries=settings.evaluate_queries)
            row = {"step": step, "seconds": time.monotonic() - started}
            row |= {f"loss_{name}": float(value) for name, value in losses.items()} | figures
            state.keep(step, row)
            shortlist = None
            if after_evaluation:
                after_evaluation(step, row)
    return state.restore_best()


def _groups(parts: torch.nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Decay matrices; leave biases, the blend and other vectors alone."""
    matrices = [p for p in parts.parameters() if p.ndim > 1]
    vectors = [p for p in parts.parameters() if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def _cosine(step: int, settings: FitSettings) -> float:
    if step < settings.warm_up:
        return (step + 1) / settings.warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - settings.warm_up) / max(1, settings.steps - settings.warm_up)))


def _matches(train: PairPools) -> list[list[int]]:
    """Gallery positions that show each query's product."""
    where: dict[str, list[int]] = {}
    for position, product in enumerate(train.gallery.products):
        where.setdefault(product, []).append(position)
    return [where.get(product, []) for product in train.queries.products]


@torch.no_grad()
def _shortlist(network: GRNet, train: PairPools, depth: int) -> NDArray[np.int64]:
    """(n queries, depth) nearest gallery positions of another product, by the embedding as it is now."""
    gallery, queries = _embed(network, train.gallery.pooled), _embed(network, train.queries.pooled)
    names = np.asarray(train.gallery.products)
    nearest = []
    for block, products in zip(queries.split(1024), _blocks(train.queries.products, 1024), strict=True):
        similar = (block @ gallery.T).numpy()
        similar[np.asarray(products)[:, None] == names[None]] = -2
        nearest.append(np.argpartition(-similar, min(depth, len(names) - 1), axis=1)[:, :depth])
    return np.concatenate(nearest)


def _blocks(values: list[str], size: int) -> list[list[str]]:
    return [values[start : start + size] for start in range(0, len(values), size)]


def _embed(network: GRNet, pooled: Tensor) -> Tensor:
    return F.normalize(pooled if network.embedding is None else network.embedding(pooled), dim=-1)


def _losses(
    network: GRNet,
    train: PairPools,
    matches: list[list[int]],
    shortlist: NDArray[np.int64],
    settings: FitSettings,
    rng: np.random.Generator,
) -> dict[str, Tensor]:
    chosen = rng.choice(len(matches), settings.queries, replace=False)
    chosen = np.asarray([n for n in chosen if matches[n]])
    picks = np.asarray(
        [[rng.choice(matches[n]), *rng.choice(shortlist[n], settings.negatives, replace=False)] for n in chosen]
    )  # (q, k), the match first
    q, k = picks.shape
    flat = torch.from_numpy(picks.reshape(-1))
    query_at = torch.from_numpy(chosen)
    query_embedding, query_regions = network.project(
        train.queries.pooled[query_at], train.queries.regions[query_at].float()
    )  # (q, E), (q, R, C)
    embedding, regions = network.project(train.gallery.pooled[flat], train.gallery.regions[flat].float())
    one = query_regions.repeat_interleave(k, dim=0)  # (q * k, R, C)
    score = network.head(one, regions).view(q, k)
    first = torch.zeros(q, dtype=torch.long)
    losses = {"rerank": F.cross_entropy(score, first)}
    same = torch.zeros(q, k)
    same[:, 0] = 1
    # Listwise loss alone leaves the score's zero free; a light pairwise one ties it to "same garment".
    weight = torch.where(same > 0, 1.0, 1.0 / (k - 1))
    losses["pair"] = F.binary_cross_entropy_with_logits(score, same, weight=weight)
    total = losses["rerank"] + 0.1 * losses["pair"]
    if settings.embedding_weight and network.embedding is not None:
        logits = query_embedding @ embedding.T / settings.temperature  # (q, q * k)
        own = torch.arange(q) * k
        duplicate = torch.from_numpy(
            np.asarray(train.gallery.products)[picks.reshape(-1)][None]
            == np.asarray(train.queries.products)[chosen][:, None]
        )
        duplicate[torch.arange(q), own] = False
        losses["embedding"] = F.cross_entropy(logits.masked_fill(duplicate, float("-inf")), own)
        total = total + settings.embedding_weight * losses["embedding"]
    if settings.local_weight:
        local = greedy_similarity(one, regions, grids=network.config.grids).view(q, k)
        losses["local"] = F.cross_entropy(local / settings.temperature, first)
        total = total + settings.local_weight * losses["local"]
    return {**losses, "total": total}


@torch.no_grad()
def evaluate_pools(network: GRNet, pools: PairPools, *, queries: int, candidates: int = 100) -> dict[str, float]:
    """top-1 of stage one, of greedy matching and of GRNet over stage one's shortlist, on evenly spaced queries."""
    network.eval()
    at = torch.linspace(0, len(pools.queries.products) - 1, min(queries, len(pools.queries.products))).long()
    embedding, regions = network.project(pools.gallery.pooled, pools.gallery.regions.float())
    query_embedding, query_regions = network.project(pools.queries.pooled[at], pools.queries.regions[at].float())
    order = (query_embedding @ embedding.T).topk(min(candidates, len(embedding)), dim=1).indices
    engine = Engine(network.head)
    by_greedy, by_grnet = [], []
    for query, short in zip(query_regions, order, strict=True):
        shown = regions[short]
        by_greedy.append(
            short[greedy_similarity(query[None], shown, grids=network.config.grids).argsort(descending=True)]
        )
        by_grnet.append(short[engine.score(query, shown).argsort(descending=True)])
    wanted = [pools.queries.products[n] for n in at.tolist()]
    network.train()
    figures = {}
    for name, ranking in (("global", list(order)), ("greedy", by_greedy), ("grnet", by_grnet)):
        ranks = first_hit([positions.numpy() for positions in ranking], pools.gallery.products, wanted)
        figures[f"{name}_top1"] = rates(ranks)["top1"]
        figures[f"{name}_mrr"] = rates(ranks)["mrr"]
    figures["recall"] = float((ranks > 0).mean())
    return figures


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
        path = self.run / "state.pt"
        if not path.exists():
            return 0
        saved = torch.load(path, weights_only=True)
        self.parts.load_state_dict(saved["parts"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.rate.load_state_dict(saved["rate"])
        self.best, self.best_weights = saved["best"], saved["best_weights"]
        return int(saved["step"])

    def keep(self, step: int, row: dict[str, float]) -> None:
        with (self.run / "curves.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        logger.info("evaluated", extra=row)
        if row["grnet_mrr"] >= self.best.get("grnet_mrr", -1.0):
            self.best = row
            self.best_weights = {name: value.detach().clone() for name, value in self.parts.state_dict().items()}
        staged = self.run / "state.pt.partial"
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
        staged.replace(self.run / "state.pt")

    def restore_best(self) -> dict[str, float]:
        if self.best_weights:
            self.parts.load_state_dict(self.best_weights)
        return self.best


def settings_dict(settings: FitSettings) -> dict[str, object]:
    """Plain JSON types, for the model card and the run's folder."""
    return asdict(settings)
