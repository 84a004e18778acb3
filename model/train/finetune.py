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

from model.grnet import GRNet
from model.similarity import greedy_similarity_across
from model.train.compute import Precision, check_precision, depthwise_in_float32, keep_freed_memory, mixed
from model.train.distort import distorted
from model.train.maps import MapPairs, MapSet
from model.train.processes import Processes
from model.train.tower import ENCODE_BATCH, Tower, encode_maps, evaluate_maps

logger = logging.getLogger(__name__)

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
    zoomed: float = 0.0
    """Share of the queries that are cut at random sides and stretched again."""
    head_copies: int = 0
    """How many more copies of each training query, distorted anew, the head learns from afterwards."""
    mirrored: float = 0.1
    """Share of all images that are mirrored. The paper mirrors; details on one side then count for less."""
    warm_up: int = 50
    evaluate_every: int = 250
    precision: Precision = "float32"
    """"bfloat16": matrix products in mixed precision, nearly three times as fast on CPUs with AVX-512 BF16."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_precision(self.precision)


def finetune(
    network: GRNet,
    rest: nn.Module,
    train: MapPairs,
    val: MapPairs,
    *,
    settings: FinetuneSettings,
    run: Path,
    processes: Processes | None = None,
    after_evaluation: Callable[[int, dict[str, float]], None] | None = None,
) -> dict[str, float]:
    """Train in place; keep the averaged weights that rank `val` best by greedy matching.

    Each of several processes draws its own share of a step's queries, and their gradients are averaged. A query is
    compared with the items of its process.

    Args:
        network: with a trained backbone; neck and embedding at a good start (`fit.start_from_data`).
        rest: the second part of `network.backbone.split(settings.from_stage)`.
        train, val: maps of the front.
        settings: how.
        run: folder for finetune.jsonl and finetune.pt; an unfinished run there goes on from its last evaluation, on the
            CPU to the same bits.
        processes: that train together; None: this one, on the CPU.
        after_evaluation: called with the step and its figures.

    Returns:
        The best figures on `val`.
    """
    processes = processes or Processes()
    run.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    sample = train.gallery.take(np.linspace(0, len(train.gallery.products) - 1, ENCODE_BATCH).astype(np.int64))
    tower = Tower(network, rest, sample).to(memory_format=torch.channels_last).requires_grad_(True)
    session = _Session.begin(tower.to(processes.device), settings, run, processes)
    if session.step == 0 and not session.best:
        session.keep({"step": 0, **evaluate_maps(session.averaged, val)})
    shared = processes.shared(tower)
    asked = _asked(train)
    neighbours: NDArray[np.int64] | None = None
    started = time.monotonic()
    while session.step < settings.steps:
        if neighbours is None:  # made anew after each evaluation, so that a resumed run has the same ones
            neighbours = _neighbours(tower, train.gallery)
        # Of step and process alone: a resumed run draws the same.
        rng = np.random.default_rng([settings.seed, session.step, *([processes.rank] if processes.rank else [])])
        drawn = _draw(asked, neighbours, settings, settings.queries // processes.count, rng)
        with depthwise_in_float32(tower):
            losses = _step(shared, tower, train, drawn, rng, settings)
            session.advance(losses["total"])
        if session.step % settings.evaluate_every == 0 or session.step == settings.steps:
            row = {"step": session.step, "seconds": time.monotonic() - started}
            row |= {f"loss_{name}": float(value.detach()) for name, value in losses.items()}
            row |= evaluate_maps(session.averaged, val)
            session.keep(row)
            if after_evaluation:
                after_evaluation(session.step, row)
            neighbours = None
    session.give_back(network)
    return session.best


@dataclass(frozen=True, slots=True)
class _Draw:
    """One step's images: (q,) positions of queries and (q,) of an item of each one's product."""

    queries: NDArray[np.int64]
    items: NDArray[np.int64]


def _asked(pairs: MapPairs) -> list[list[int]]:
    """The positions of the queries that each gallery item answers."""
    asked: dict[str, list[int]] = {}
    for position, product in enumerate(pairs.queries.products):
        asked.setdefault(product, []).append(position)
    return [asked.get(product, []) for product in pairs.gallery.products]


def _neighbours(tower: Tower, gallery: MapSet) -> NDArray[np.int64]:
    """(n, NEIGHBOURS) positions of the nearest items of each item, itself first."""
    embedding, _ = encode_maps(tower, gallery)
    depth = min(NEIGHBOURS, len(embedding))
    nearest = [(chunk @ embedding.T).topk(depth, dim=1).indices for chunk in embedding.split(1024)]
    return torch.cat(nearest).numpy()


def _draw(
    asked: list[list[int]],
    neighbours: NDArray[np.int64],
    settings: FinetuneSettings,
    queries: int,
    rng: np.random.Generator,
) -> _Draw:
    """Groups around random items and their neighbours."""
    askable = np.asarray([n for n, own in enumerate(asked) if own])
    items: list[int] = []
    wanted = min(queries, len(askable))
    while len(items) < wanted:
        near = neighbours[rng.choice(askable)]
        near = np.concatenate([near[:1], rng.permutation(near[1:])])
        items += [int(n) for n in near if asked[n] and n not in items][: settings.group]
    items = items[:wanted]
    return _Draw(np.asarray([rng.choice(asked[n]) for n in items]), np.asarray(items))


def _step(
    shared: nn.Module,
    tower: Tower,
    train: MapPairs,
    drawn: _Draw,
    rng: np.random.Generator,
    settings: FinetuneSettings,
) -> dict[str, Tensor]:
    """The losses of one step; `shared` is the tower, or what averages its gradients over processes."""
    queries = distorted(train.queries.take(drawn.queries), rng, zoomed=settings.zoomed, covered=settings.covered)
    maps = torch.cat([queries, train.gallery.take(drawn.items)])
    mirror = torch.from_numpy(rng.random(len(maps)) < settings.mirrored)
    maps = torch.where(mirror[:, None, None, None], maps.flip(3), maps)
    device = next(tower.parameters()).device
    tower.eval()  # batch norm keeps its statistics; those of garments alone lost 10 points on garments never seen
    with mixed(settings.precision, device.type):
        embedding, regions = shared(maps.contiguous(memory_format=torch.channels_last).to(device))
    embedding, regions = embedding.float(), regions.float()
    q = len(queries)
    names = np.asarray(train.gallery.products)[drawn.items]
    duplicate = torch.from_numpy(names[None] == names[:, None]).fill_diagonal_(False).to(device)
    similar = {
        "embedding": embedding[:q] @ embedding[q:].T,
        "local": greedy_similarity_across(regions[:q], regions[q:], grids=tower.config.grids),
    }  # (q, q) each
    own = torch.arange(q, device=device)
    losses = {
        name: F.cross_entropy((cosine / settings.temperature).masked_fill(duplicate, float("-inf")), own)
        for name, cosine in similar.items()
    }
    return {**losses, "total": losses["embedding"] + losses["local"]}


@dataclass(slots=True)
class _Session:
    """What goes on from step to step, and on disk from evaluation to evaluation."""

    tower: Tower
    averaged: Tower
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    settings: FinetuneSettings
    run: Path
    processes: Processes
    step: int
    best: dict[str, float]
    best_weights: dict[str, Tensor]

    @classmethod
    def begin(cls, tower: Tower, settings: FinetuneSettings, run: Path, processes: Processes) -> _Session:
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
        averaged = copy.deepcopy(tower).requires_grad_(False)
        session = cls(tower, averaged, optimiser, schedule, settings, run, processes, 0, {}, {})
        path = run / "finetune.pt"
        if path.exists():
            saved = torch.load(path, weights_only=True, map_location="cpu")
            tower.load_state_dict(saved["tower"])
            session.averaged.load_state_dict(saved["averaged"])
            optimiser.load_state_dict(saved["optimiser"])
            schedule.load_state_dict(saved["schedule"])
            session.step, session.best, session.best_weights = saved["step"], saved["best"], saved["best_weights"]
        processes.wait()  # all have read what an earlier run left before one writes
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
        """Remember the best; log an evaluation and write all to disk, where this is the process that does."""
        if row["greedy_mrr"] >= self.best.get("greedy_mrr", -1.0):
            self.best = row
            self.best_weights = {name: value.detach().clone() for name, value in self.averaged.state_dict().items()}
        if self.processes.main:
            self._write(row)
        self.processes.wait()

    def _write(self, row: dict[str, float]) -> None:
        with (self.run / "finetune.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        logger.info("evaluated", extra=row)
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
        self.tower.to("cpu").eval()
        self.tower.write_to(network)
        self.tower.rest.requires_grad_(False)
