"""Fine-tune the last stages of a backbone together with neck and embedding, so that one network serves both stages.

Each query is compared with the items of the step, which come in groups that look alike. Two softmaxes share the
gradient: over the cosine of the embeddings (Eq. 1, stage one), and over greedy local matching (Eq. 2, 3), on which
GRNet's head is built afterwards.

A memory of features of earlier steps (Cross-Batch Memory) was tried in place of the groups and taken out: from a
pretrained start all features together move away from the memory, within twenty steps, and collapse.

Letters  q queries a step, n items, E, R, C as in config
Paper    Kuang et al., ICCV 2019, Eq. 1 to 3
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
NEIGHBOURS = 40
SMALLEST_SIZE = 1e-3
"""A tensor counts as at least this large, so that one that begins at zero can move."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneSettings:
    """How to fine-tune the backbone."""

    from_stage: int = 4
    """Stages before this one stay as they are, and each image passes them once; 0 trains everything. The 9 stages of
    EfficientNet-Lite0 from the fifth on hold 99 % of its weights and cost a fifth of the whole in training."""
    steps: int = 2000
    queries: int = 64
    """Queries a step, each with one item of its product."""
    group: int = 8
    """Queries of a step whose items are near each other by the embedding: hard negatives for one another."""
    rate: float = 2e-3
    """AdamW with a cosine to zero. It is a share of each tensor's own size (root mean square): one step moves a weight
    by that much of itself. The sizes of the layers differ by a factor of a hundred, and an absolute rate that one of
    them needs tears another apart within twenty steps."""
    weight_decay: float = 0.02
    temperature: float = 0.05
    """Of both softmaxes."""
    average: float = 0.998
    """Of the weights, exponential: the averaged ones are evaluated and kept."""
    covered: float = 0.35
    """Share of the queries in which a rectangle is covered by a part of another query's map."""
    mirrored: float = 0.1
    """Share of all images that are mirrored. The paper mirrors; details on one side then count for less."""
    warm_up: int = 50
    evaluate_every: int = 250
    seed: int = 0


@dataclass(frozen=True, slots=True)
class MapPairs:
    """A gallery and its queries."""

    gallery: MapSet
    queries: MapSet


class _Centred(nn.Module):
    """A linear layer on inputs less their mean: W (x - m) + c, the same map as W x + (c - W m).

    After a ReLU all inputs have a positive mean, so one step of an optimiser that gives every weight the same step
    moves the output by their sum, which is more than the output itself. On centred inputs the steps do not add up.
    """

    mean: Tensor

    def __init__(self, layer: nn.Linear, mean: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(layer.weight.detach().clone())
        self.offset = nn.Parameter((layer.bias + layer.weight @ mean).detach().clone())
        self.register_buffer("mean", mean.clone())

    def forward(self, inputs: Tensor) -> Tensor:
        return F.linear(inputs - self.mean, self.weight, self.offset)

    def write_to(self, layer: nn.Linear) -> None:
        """Give the layer this map."""
        with torch.no_grad():
            layer.weight.copy_(self.weight)
            layer.bias.copy_(self.offset - self.weight @ self.mean)


class Tower(nn.Module):
    """All that is trained, from the front's maps on: the backbone's rest, neck and embedding.

    Args:
        network: with neck and embedding at a good start.
        rest: of its backbone; shared, not copied.
        sample: maps that the means of the features are taken from, (n, c, h, w).
    """

    def __init__(self, network: GRNet, rest: nn.Module, sample: Tensor) -> None:
        super().__init__()
        self.rest = rest
        self._config = network.config
        self.eval()
        with torch.no_grad():
            pooled, regions = self._pooled(sample)
        self.neck = None if network.neck is None else _Centred(network.neck, regions.mean((0, 1)))
        self.embedding = None if network.embedding is None else _Centred(network.embedding, pooled.mean(0))

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """(B, c, h, w) maps of the front -> (B, E) unit embeddings, (B, R, C) regions."""
        pooled, regions = self._pooled(maps)
        embedding = F.normalize(pooled if self.embedding is None else self.embedding(pooled), dim=-1)
        return embedding, regions if self.neck is None else self.neck(regions)

    def write_to(self, network: GRNet) -> None:
        """Give the network's neck and embedding what was learned; the backbone's rest is its own already."""
        for layer, trained in ((network.neck, self.neck), (network.embedding, self.embedding)):
            if layer is not None and trained is not None:
                trained.write_to(layer)

    def _pooled(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        return pool_both(self._config, self.rest(maps))


def pool_both(config: GRNetConfig, feature_map: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C, h, w) -> pooled (B, C) for stage one and regions (B, R, C) for stage two."""
    pooled = pool_regions(feature_map, [(1, 1)], config.embedding_pool)[:, 0]
    return pooled, pool_regions(feature_map, config.grids, config.pool)


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
    sample = train.gallery.take(np.linspace(0, len(train.gallery.products) - 1, ENCODE_BATCH).astype(np.int64))
    tower = Tower(network, rest, sample).to(memory_format=torch.channels_last).requires_grad_(True)
    session = _Session.begin(tower, settings, run)
    if session.step == 0 and not session.best:
        session.keep({"step": 0, **evaluate_maps(session.averaged, network, val)})
    own = Answers.of(train)
    neighbours: NDArray[np.int64] | None = None
    started = time.monotonic()
    while session.step < settings.steps:
        if neighbours is None:  # made anew after each evaluation, so that a resumed run has the same ones
            neighbours = _neighbours(tower, train.gallery)
        losses = _step(network, tower, train, own, neighbours, settings, session.step)
        session.advance(losses["total"])
        if session.step % settings.evaluate_every == 0 or session.step == settings.steps:
            row = {"step": session.step, "seconds": time.monotonic() - started}
            row |= {f"loss_{name}": float(value.detach()) for name, value in losses.items()}
            row |= evaluate_maps(session.averaged, network, val)
            session.keep(row)
            if after_evaluation:
                after_evaluation(session.step, row)
            neighbours = None
    session.give_back(network)
    return session.best


@dataclass(frozen=True, slots=True)
class Answers:
    """Which items answer which queries: gallery positions of each query, query positions of each item."""

    items: list[list[int]]
    queries: list[list[int]]

    @classmethod
    def of(cls, pairs: MapPairs) -> Answers:
        shown: dict[str, list[int]] = {}
        for position, product in enumerate(pairs.gallery.products):
            shown.setdefault(product, []).append(position)
        asked: dict[str, list[int]] = {}
        for position, product in enumerate(pairs.queries.products):
            asked.setdefault(product, []).append(position)
        return cls(
            [shown.get(product, []) for product in pairs.queries.products],
            [asked.get(product, []) for product in pairs.gallery.products],
        )


def _neighbours(tower: Tower, gallery: MapSet) -> NDArray[np.int64]:
    """(n, NEIGHBOURS) positions of the nearest items of each item, itself first."""
    embedding, _ = encode_maps(tower, gallery)
    depth = min(NEIGHBOURS, len(embedding))
    nearest = [(chunk @ embedding.T).topk(depth, dim=1).indices for chunk in embedding.split(1024)]
    return torch.cat(nearest).numpy()


def _draw(
    answers: Answers, neighbours: NDArray[np.int64], settings: FinetuneSettings, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(q,) query positions and (q,) positions of an item of each: groups around a random item and its neighbours."""
    askable = np.asarray([n for n, asked in enumerate(answers.queries) if asked])
    items: list[int] = []
    wanted = min(settings.queries, len(askable))
    while len(items) < wanted:
        near = neighbours[rng.choice(askable)]
        near = np.concatenate([near[:1], rng.permutation(near[1:])])
        items += [int(n) for n in near if answers.queries[n] and n not in items][: settings.group]
    items = items[:wanted]
    return np.asarray([rng.choice(answers.queries[n]) for n in items]), np.asarray(items)


def _step(
    network: GRNet,
    tower: Tower,
    train: MapPairs,
    answers: Answers,
    neighbours: NDArray[np.int64],
    settings: FinetuneSettings,
    step: int,
) -> dict[str, Tensor]:
    """The losses of one step; the step's number alone decides what is drawn."""
    rng = np.random.default_rng([settings.seed, step])
    queries, items = _draw(answers, neighbours, settings, rng)
    maps = torch.cat([_covered(train.queries.take(queries), settings.covered, rng), train.gallery.take(items)])
    flip = torch.from_numpy(rng.random(len(maps)) < settings.mirrored)
    maps = torch.where(flip[:, None, None, None], maps.flip(3), maps)
    tower.eval()  # batch norm keeps its statistics; the other choice lost 10 points on garments never seen
    embedding, regions = tower(maps.contiguous(memory_format=torch.channels_last))
    q = len(queries)
    names = np.asarray(train.gallery.products)[items]
    duplicate = torch.from_numpy(names[None] == names[:, None]).fill_diagonal_(False)
    similar = {
        "embedding": embedding[:q] @ embedding[q:].T,
        "local": greedy_similarity_across(regions[:q], regions[q:], grids=network.config.grids),
    }  # (q, q) each
    losses = {
        name: F.cross_entropy((cosine / settings.temperature).masked_fill(duplicate, float("-inf")), torch.arange(q))
        for name, cosine in similar.items()
    }
    return {**losses, "total": losses["embedding"] + losses["local"]}


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
    tower.eval()
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
        one, many = pool_both(config, rest(images.take(at[start : start + ENCODE_BATCH])))
        pooled.append(one)
        regions.append(many.half())
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

    tower: Tower
    averaged: nn.Module
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    settings: FinetuneSettings
    run: Path
    step: int
    best: dict[str, float]
    best_weights: dict[str, Tensor]

    @classmethod
    def begin(cls, tower: Tower, settings: FinetuneSettings, run: Path) -> _Session:
        """A new session, or the one that the run's folder holds."""
        groups: list[dict[str, Any]] = [
            {
                "params": [p],
                "lr": settings.rate * max(float(p.detach().square().mean().sqrt()), SMALLEST_SIZE),
                "weight_decay": settings.weight_decay if p.ndim > 1 else 0.0,
            }
            for p in tower.parameters()
        ]
        optimiser = torch.optim.AdamW(groups)

        def share(step: int) -> float:
            cosine = 0.5 * (1 + math.cos(math.pi * step / max(1, settings.steps)))
            return min(1.0, (step + 1) / settings.warm_up) * cosine

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, share)
        session = cls(tower, copy.deepcopy(tower).requires_grad_(False), optimiser, schedule, settings, run, 0, {}, {})
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
            for average, value in zip(
                self.averaged.state_dict().values(), self.tower.state_dict().values(), strict=True
            ):
                if average.is_floating_point():  # batch norm's statistics too
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

    def give_back(self, network: GRNet) -> None:
        """Put the best averaged weights into the network."""
        self.tower.load_state_dict(self.best_weights)
        self.tower.eval()
        self.tower.write_to(network)
        self.tower.rest.requires_grad_(False)
