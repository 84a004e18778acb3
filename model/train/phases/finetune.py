"""Fine-tune the last stages of a backbone together with neck and embedding, so that one network serves both stages.

Each query is compared with the items of the step, which come in groups that look alike. Two softmaxes share the
gradient: over the cosine of the embeddings (Eq. 1, stage one), and over greedy local matching (Eq. 2, 3), on which
GRNet's head is built afterwards. Both read the last map alone; what a hypercolumn joins to it is fitted afterwards.

A memory of features of earlier steps (Cross-Batch Memory) was tried in place of the groups and taken out: from a
pretrained start all features together move away from the memory, within twenty steps, and collapse.

Letters  q queries a step, n items, E, R, C as in config
Paper    Kuang et al., ICCV 2019, Eq. 1 to 3
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from threadmatch.model.config import GRNetConfig
from threadmatch.model.grnet import GRNet
from threadmatch.model.similarity import greedy_similarity_across
from threadmatch.model.train.inputs.batches import Batch, Batches, Drawing
from threadmatch.model.train.inputs.front_maps import MapPairs
from threadmatch.model.train.loop.curves import FINETUNE_LOG
from threadmatch.model.train.loop.precision import Precision, check_at_least_one, check_precision, mixed
from threadmatch.model.train.loop.torchrun import Processes
from threadmatch.model.train.loop.training_state import Session, cosine_after_warm_up, relative_groups
from threadmatch.model.train.phases.trained_part import Tower, evaluate_maps


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneSettings(Drawing):
    """How to fine-tune the backbone."""

    from_stage: int = 4
    """Stages before this one stay as they are, and each image passes them once; 0 trains everything. The 9 stages of
    EfficientNet-Lite0 from the fifth on hold 99 % of its weights and cost a fifth of the whole in training."""
    steps: int = 2000
    queries: int = 64
    """Queries a step, each with one item of its product."""
    group: int = 8
    rate: float = 2e-3
    """AdamW with a cosine to zero, as a share of each tensor's size (`session.relative_groups`)."""
    weight_decay: float = 0.02
    temperature: float = 0.05
    """Of both softmaxes."""
    average: float = 0.998
    """Of the weights, exponential: the averaged ones are evaluated and kept."""
    covered: float = 0.35
    head_copies: int = 0
    """How many more copies of each training query, distorted anew, the head learns from afterwards."""
    mirrored: float = 0.1
    """The paper mirrors half; details on one side then count for less."""
    warm_up: int = 50
    evaluate_every: int = 250
    precision: Precision = "float32"
    """"bfloat16": matrix products in mixed precision, faster on CPUs with AVX-512 BF16 (docs/training.md)."""

    def __post_init__(self) -> None:
        check_precision(self.precision)
        check_at_least_one(self, "queries", "group", "warm_up", "evaluate_every")


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
        network: with a trained backbone; neck and embedding at a good start (`components.start_from_data`).
        rest: the second part of `network.backbone.split(settings.from_stage)`.
        train, val: maps of the front.
        settings: how.
        run: folder for finetune.jsonl and finetune.pt; an unfinished run there goes on from its last evaluation, on the
            CPU to the same bits.
        processes: that train together; None: this one, on the CPU.
        after_evaluation: called with the step and its figures.

    Returns:
        The best figures on `val`.

    Raises:
        ConfigError: more processes than half the queries of a step.
    """
    processes = processes or Processes()
    tower = Tower.over(network, rest, train.gallery, hypercolumn=False).learn().to(memory_format=torch.channels_last)
    tower.to(processes.device)
    optimiser = torch.optim.AdamW(relative_groups(tower, rate=settings.rate, weight_decay=settings.weight_decay))
    schedule = cosine_after_warm_up(optimiser, steps=settings.steps, warm_up=settings.warm_up)
    session = Session(tower, optimiser, schedule, settings.average, "greedy_mrr", run / FINETUNE_LOG, processes)
    shared = processes.shared(tower)
    every = settings.evaluate_every
    batches = Batches(tower, train, settings, garments=settings.queries, refresh=every, processes=processes)

    def losses(step: int) -> dict[str, Tensor]:
        return _losses(shared, tower, train, *batches.at(step), settings)

    best = session.run(
        settings.steps,
        losses=losses,
        evaluate=lambda averaged: evaluate_maps(averaged, val),
        every=every,
        after_evaluation=after_evaluation,
    )
    rest.requires_grad_(False)
    tower.write_to(network)
    return best


def _losses(
    shared: nn.Module,
    tower: Tower,
    train: MapPairs,
    batch: Batch,
    rng: np.random.Generator,
    settings: FinetuneSettings,
) -> dict[str, Tensor]:
    """The losses of one step; `shared` is the tower, or what averages its gradients over processes."""
    maps = batch.take(train, settings, rng)
    device = next(tower.parameters()).device
    tower.eval()  # batch norm keeps its statistics; those of garments alone lost 10 points on garments never seen
    with mixed(settings.precision, tower):
        embedding, regions = shared(maps.to(device))
    losses = metric_losses(
        embedding.float(), regions.float(), batch.same(train).to(device), tower.config, settings.temperature
    )
    return {**losses, "total": losses["embedding"] + losses["local"]}


def metric_losses(
    embedding: Tensor, regions: Tensor, same: Tensor, config: GRNetConfig, temperature: float
) -> dict[str, Tensor]:
    """Softmax of each query over the items of its step, by embedding and by greedy local matching (Eq. 1 to 3).

    Args:
        embedding: (2 b, E) unit vectors, queries first.
        regions: (2 b, R, C).
        same: (b, b) whether an item shows the query's product; the diagonal is the query's own item, and others of its
            product count neither way.
        config: of the regions.
        temperature: of both softmaxes.
    """
    b = len(same)
    similar = {
        "embedding": embedding[:b] @ embedding[b:].T,
        "local": greedy_similarity_across(regions[:b], regions[b:], grids=config.grids),
    }  # (b, b) each
    own = torch.arange(b, device=same.device)
    others = same.clone().fill_diagonal_(False)
    return {
        name: F.cross_entropy((cosine / temperature).masked_fill(others, float("-inf")), own)
        for name, cosine in similar.items()
    }
