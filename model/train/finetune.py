"""Fine-tune the last stages of a backbone together with neck and embedding, so that one network serves both stages.

Each query is compared with the items of the step and with the hardest of all others, of which a memory keeps the last
features seen. Two softmaxes share the gradient: over the cosine of the embeddings (Eq. 1, stage one), and over greedy
local matching (Eq. 2, 3), on which GRNet's head is built afterwards.

Letters  q queries a step, m items of memory compared with, n items, E, R, C as in config
Paper    Kuang et al., ICCV 2019, Eq. 1 to 3; the memory is Wang et al., Cross-Batch Memory, CVPR 2020, a slot an item
"""

from __future__ import annotations

import copy
import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import GRNetConfig
from model.grnet import GRNet
from model.pyramid import pool_regions
from model.similarity import greedy_similarity_across
from model.train.maps import MapSet
from model.train.metrics import first_hit, rates

logger = logging.getLogger(__name__)

ENCODE_BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneSettings:
    """How to fine-tune the backbone."""

    from_stage: int = 4
    """Stages before this one stay as they are, and each image passes them once; 0 trains everything. The 9 stages of
    EfficientNet-Lite0 from the fifth on hold 99 % of its weights and cost a fifth of the whole in training."""
    steps: int = 2000
    queries: int = 64
    """Queries a step, each with one item of its product."""
    memory: int = 1024
    """Other items of the training gallery that each query is compared with too: those nearest to the step's queries."""
    rate: float = 2e-4
    """Of the backbone, AdamW with a cosine to zero."""
    new_rate: float = 5e-4
    """Of neck and embedding."""
    weight_decay: float = 0.02
    temperature: float = 0.05
    """Of both softmaxes."""
    average: float = 0.998
    """Of the weights, exponential: the averaged ones are evaluated and kept."""
    covered: float = 0.35
    """Share of the queries in which a rectangle is covered by a part of another query's map."""
    warm_up: int = 50
    evaluate_every: int = 250
    seed: int = 0


@dataclass(frozen=True, slots=True)
class MapPairs:
    """A gallery and its queries."""

    gallery: MapSet
    queries: MapSet


class _Tower(nn.Module):
    """All that is trained: the backbone's rest, neck and embedding. Batch norm keeps its statistics."""

    def __init__(self, network: GRNet, rest: nn.Module) -> None:
        super().__init__()
        self.rest, self.neck, self.embedding = rest, network.neck, network.embedding
        self._network = [network]  # in a list: its parameters are not this module's

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """(B, c, h, w) maps of the front -> (B, E) unit embeddings, (B, R, C) regions."""
        network = self._network[0]
        feature_map = self.rest(maps)
        pooled = pool_regions(feature_map, [(1, 1)], network.config.embedding_pool)[:, 0]  # (B, C)
        regions = pool_regions(feature_map, network.config.grids, network.config.pool)  # (B, R, C)
        embedding = F.normalize(pooled if self.embedding is None else self.embedding(pooled), dim=-1)
        return embedding, regions if self.neck is None else self.neck(regions)


def finetune(
    network: GRNet,
    rest: nn.Module,
    train: MapPairs,
    val: MapPairs,
    *,
    settings: FinetuneSettings,
    run: Path,
    after_evaluation: Callable[[int, dict[str, float]], None] | None = None,
) -> dict[str, float]:
    """Train in place; keep the averaged weights that rank `val` best by greedy matching.

    Args:
        network: with a trained backbone; neck and embedding at a good start (`fit.start_from_data`).
        rest: the second part of `network.backbone.split(settings.from_stage)`.
        train, val: maps of the front.
        settings: how.
        run: folder for finetune.jsonl and finetune.pt; an unfinished run there goes on from its last evaluation, on the
            CPU to the same bits.
        after_evaluation: called with the step and its figures.

    Returns:
        The best figures on `val`.
    """
    run.mkdir(parents=True, exist_ok=True)
    tower = _Tower(network, rest).to(memory_format=torch.channels_last).eval()  # batch norm as in use
    for parameter in tower.parameters():
        parameter.requires_grad_(True)
    session = _Session.begin(tower, settings, run)
    if session.step == 0 and not session.best:
        session.keep({"step": 0, **evaluate_maps(session.averaged, network, val)})
    own = _own_items(train)
    memory: _Memory | None = None
    started = time.monotonic()
    while session.step < settings.steps:
        memory = memory or _Memory.of(tower, train.gallery)
        losses = _step(network, tower, train, own, memory, settings, session.step)
        session.advance(losses["total"])
        if session.step % settings.evaluate_every == 0 or session.step == settings.steps:
            row = {"step": session.step, "seconds": time.monotonic() - started}
            row |= {f"loss_{name}": float(value.detach()) for name, value in losses.items()}
            row |= evaluate_maps(session.averaged, network, val)
            session.keep(row)
            if after_evaluation:
                after_evaluation(session.step, row)
            memory = None  # made anew, so that a resumed run has the same one
    session.give_back()
    return session.best


@dataclass(slots=True)
class _Memory:
    """The last features seen of each item of the training gallery: (n, E) and (n, R, C), without gradient."""

    embedding: Tensor
    regions: Tensor

    @classmethod
    def of(cls, tower: _Tower, gallery: MapSet) -> _Memory:
        embedding, regions = encode_maps(tower, gallery)
        return cls(embedding, regions.half())

    def put(self, at: NDArray[np.int64], embedding: Tensor, regions: Tensor) -> None:
        self.embedding[at] = embedding.detach()
        self.regions[at] = regions.detach().half()


def _step(
    network: GRNet,
    tower: _Tower,
    train: MapPairs,
    own: list[list[int]],
    memory: _Memory,
    settings: FinetuneSettings,
    step: int,
) -> dict[str, Tensor]:
    """The losses of one step; the step's number alone decides what is drawn."""
    rng = np.random.default_rng([settings.seed, step])
    answerable = np.asarray([n for n, items in enumerate(own) if items])
    queries = rng.choice(answerable, min(settings.queries, len(answerable)), replace=False)
    items = np.asarray([rng.choice(own[n]) for n in queries])
    maps = torch.cat([_covered(train.queries.take(queries), settings.covered, rng), train.gallery.take(items)])
    flip = torch.from_numpy(rng.random(len(maps)) < 0.5)
    maps = torch.where(flip[:, None, None, None], maps.flip(3), maps)
    embedding, regions = tower(maps.contiguous(memory_format=torch.channels_last))
    q = len(queries)
    memory.put(items, embedding[q:], regions[q:])
    nearest = (embedding[:q].detach() @ memory.embedding.T).amax(0)  # (n,)
    nearest[items] = -2  # they are there with gradient
    others = nearest.topk(min(settings.memory, len(nearest) - len(set(items.tolist())))).indices
    shown = np.asarray(train.gallery.products)[np.concatenate([items, others.numpy()])]
    duplicate = torch.from_numpy(shown[None] == np.asarray(train.queries.products)[queries][:, None])
    target = torch.arange(q)
    duplicate[target, target] = False
    by_embedding = embedding[:q] @ torch.cat([embedding[q:], memory.embedding[others]]).T  # (q, q + m)
    by_regions = greedy_similarity_across(
        regions[:q], torch.cat([regions[q:], memory.regions[others].float()]), grids=network.config.grids
    )
    losses = {
        name: F.cross_entropy((similar / settings.temperature).masked_fill(duplicate, float("-inf")), target)
        for name, similar in (("embedding", by_embedding), ("local", by_regions))
    }
    return {**losses, "total": losses["embedding"] + losses["local"]}


def _own_items(train: MapPairs) -> list[list[int]]:
    """Gallery positions that show each query's product."""
    where: dict[str, list[int]] = {}
    for position, product in enumerate(train.gallery.products):
        where.setdefault(product, []).append(position)
    return [where.get(product, []) for product in train.queries.products]


def _covered(maps: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """Some maps with a rectangle, 10 to 45 % of the whole, from the next map of the step: new covers every time."""
    count, _, height, width = maps.shape
    out = maps.clone()
    for n in np.flatnonzero(rng.random(count) < share):
        part = rng.uniform(0.10, 0.45)
        stretch = math.exp(rng.uniform(-0.7, 0.7))
        rows = min(height, max(1, round(height * math.sqrt(part * stretch))))
        columns = min(width, max(1, round(width * math.sqrt(part / stretch))))
        y, x = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
        out[n, :, y : y + rows, x : x + columns] = maps[(n + 1) % count, :, y : y + rows, x : x + columns]
    return out


@torch.no_grad()
def encode_maps(tower: nn.Module, images: MapSet) -> tuple[Tensor, Tensor]:
    """(n, E) embeddings and (n, R, C) regions of a set of maps."""
    parts = [
        tower(images.take(np.arange(start, min(start + ENCODE_BATCH, len(images.products)))))
        for start in range(0, len(images.products), ENCODE_BATCH)
    ]
    return torch.cat([embedding for embedding, _ in parts]), torch.cat([regions for _, regions in parts])


@torch.no_grad()
def bare_features(config: GRNetConfig, rest: nn.Module, images: MapSet, at: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Before neck and embedding: pooled (len(at), C) float32 and regions (len(at), R, C) float16."""
    pooled: list[Tensor] = []
    regions: list[Tensor] = []
    for start in range(0, len(at), ENCODE_BATCH):
        feature_map = rest(images.take(at[start : start + ENCODE_BATCH]))
        pooled.append(pool_regions(feature_map, [(1, 1)], config.embedding_pool)[:, 0])
        regions.append(pool_regions(feature_map, config.grids, config.pool).half())
    return torch.cat(pooled), torch.cat(regions)


def evaluate_maps(tower: nn.Module, network: GRNet, pairs: MapPairs) -> dict[str, float]:
    """top-1 and mean reciprocal rank over the whole gallery, by embedding and by greedy local matching."""
    embedding, regions = encode_maps(tower, pairs.gallery)
    query_embedding, query_regions = encode_maps(tower, pairs.queries)
    figures = {}
    with torch.no_grad():
        local = torch.cat(
            [
                greedy_similarity_across(chunk, regions, grids=network.config.grids)
                for chunk in query_regions.split(ENCODE_BATCH)
            ]
        )
        for name, similar in (("global", query_embedding @ embedding.T), ("greedy", local)):
            order = similar.argsort(dim=1, descending=True).numpy()
            ranks = first_hit(list(order), pairs.gallery.products, pairs.queries.products)
            figures[f"{name}_top1"], figures[f"{name}_mrr"] = rates(ranks)["top1"], rates(ranks)["mrr"]
    return figures


@dataclass(slots=True)
class _Session:
    """What goes on from step to step, and on disk from evaluation to evaluation."""

    tower: _Tower
    averaged: nn.Module
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    settings: FinetuneSettings
    run: Path
    step: int
    best: dict[str, float]
    best_weights: dict[str, Tensor]

    @classmethod
    def begin(cls, tower: _Tower, settings: FinetuneSettings, run: Path) -> _Session:
        """A new session, or the one that the run's folder holds."""
        new = [p for part in (tower.neck, tower.embedding) if part is not None for p in part.parameters()]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in tower.rest.parameters() if p.ndim > 1], "lr": settings.rate},
            {"params": [p for p in tower.rest.parameters() if p.ndim <= 1], "lr": settings.rate, "weight_decay": 0.0},
            {"params": new, "lr": settings.new_rate},
        ]
        optimiser = torch.optim.AdamW([g for g in groups if g["params"]], weight_decay=settings.weight_decay)

        def share(step: int) -> float:
            cosine = 0.5 * (1 + math.cos(math.pi * step / max(1, settings.steps)))
            return min(1.0, (step + 1) / settings.warm_up) * cosine

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, share)
        session = cls(tower, _copy(tower), optimiser, schedule, settings, run, 0, {}, {})
        path = run / "finetune.pt"
        if path.exists():
            saved = torch.load(path, weights_only=True)
            tower.load_state_dict(saved["tower"])
            session.averaged.load_state_dict(saved["averaged"])
            optimiser.load_state_dict(saved["optimiser"])
            schedule.load_state_dict(saved["schedule"])
            session.step, session.best, session.best_weights = saved["step"], saved["best"], saved["best_weights"]
        return session

    def advance(self, loss: Tensor) -> None:
        """One step of the optimiser, and of the average."""
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.tower.parameters(), 1.0)
        self.optimiser.step()
        self.schedule.step()
        self.step += 1
        keep = min(self.settings.average, (1 + self.step) / (10 + self.step))  # at first there is little to average
        with torch.no_grad():
            for average, value in zip(self.averaged.parameters(), self.tower.parameters(), strict=True):
                average.lerp_(value, 1 - keep)

    def keep(self, row: dict[str, float]) -> None:
        """Log an evaluation, remember the best, write all to disk."""
        with (self.run / "finetune.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        logger.info("evaluated", extra=row)
        if row["greedy_mrr"] >= self.best.get("greedy_mrr", -1.0):
            self.best = row
            self.best_weights = {name: value.detach().clone() for name, value in self.averaged.state_dict().items()}
        staged = self.run / "finetune.pt.partial"
        torch.save(
            {
                "step": self.step,
                "tower": self.tower.state_dict(),
                "averaged": self.averaged.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "schedule": self.schedule.state_dict(),
                "best": self.best,
                "best_weights": self.best_weights,
            },
            staged,
        )
        staged.replace(self.run / "finetune.pt")

    def give_back(self) -> None:
        """Put the best averaged weights into the network."""
        self.tower.load_state_dict(self.best_weights)
        self.tower.requires_grad_(False)


def _copy(tower: _Tower) -> _Tower:
    twin = copy.copy(tower)
    twin._modules = {name: copy.deepcopy(module) for name, module in tower._modules.items()}
    return twin.requires_grad_(False)
