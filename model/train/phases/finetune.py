"""Fine-tune the last stages of a backbone together with neck and embedding, so that one network serves both stages.

Each query is compared with the items of the step, which come in groups that look alike. Two softmaxes share the
gradient: over the cosine of the embeddings (Eq. 1, stage one), and over local matching: greedy over the regions
(Eq. 2, 3), on which GRNet's head is built afterwards, or dense over the cells of the map (late interaction, as Khattab
and Zaharia, SIGIR 2020, do with words), on which a chain is built that serves. All read the last map alone; what a
hypercolumn joins to it is fitted afterwards.

A memory of features of earlier steps (Cross-Batch Memory) was tried in place of the groups and taken out: from a
pretrained start all features together move away from the memory, within twenty steps, and collapse.

Letters  q queries a step, n items, E, R, C as in config
Paper    Kuang et al., ICCV 2019, Eq. 1 to 3
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from threadmatch.model.data.sides import Sides
from threadmatch.model.grnet import GRNet
from threadmatch.model.train.inputs.batches import Batch, Batches, Drawing
from threadmatch.model.train.inputs.front_maps import MapSet
from threadmatch.model.train.loop.optimisers import cosine_after_warm_up, relative_groups
from threadmatch.model.train.loop.precision import Precision, check_at_least_one, check_precision, mixed
from threadmatch.model.train.loop.run_folder import FINETUNE, Run
from threadmatch.model.train.loop.training_loop import Course, TrainingLoop
from threadmatch.model.train.losses import Compared, Targets, Vectors, losses_of
from threadmatch.model.train.phases.trained_part import TrainedPart, encode_maps, evaluate_maps


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
    """AdamW with a cosine to zero, as a share of each tensor's size (`optimisers.relative_groups`)."""
    weight_decay: float = 0.02
    local: float = 1.0
    """Weight of greedy matching over the regions."""
    cells: float = 0.0
    """Weight of dense matching over the cells. Above 0 the weights with the best dense matching are kept."""
    temperature: float = 0.05
    """Of all softmaxes."""
    keep_last: bool = False
    """Keep the averaged weights of the last step, not those that rank `val` best by themselves: for a network that is
    to stand beside another (`train.joined_run`), which is worth more than its own figure says."""
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

    @property
    def weights(self) -> dict[str, float]:
        """Of the losses."""
        return {"embedding": 1.0, "local": self.local, "cells": self.cells}


def finetune(
    network: GRNet, rest: nn.Module, train: Sides[MapSet], val: Sides[MapSet], *, settings: FinetuneSettings, run: Run
) -> dict[str, float]:
    """Train in place; keep the averaged weights that rank `val` best by greedy, or dense, matching, or the last ones.

    Each of several processes draws its own share of a step's queries, and their gradients are averaged. A query is
    compared with the items of its process.

    Args:
        network: with a trained backbone; neck and embedding at a good start (`principal_components.start_from_data`).
        rest: the second part of `network.backbone.split(settings.from_stage)`.
        train, val: maps of the front.
        settings: how.
        run: where.

    Returns:
        The best figures on `val`.

    Raises:
        ConfigError: more processes than half the queries of a step.
    """
    share = run.processes.share(settings.queries)
    part = TrainedPart.over(network, rest, train.gallery, hypercolumn=False, cells=settings.cells > 0)
    part.learn()
    part.to(run.processes.device).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(relative_groups(part, rate=settings.rate, weight_decay=settings.weight_decay))
    schedule = cosine_after_warm_up(optimiser, steps=settings.steps, warm_up=settings.warm_up)
    course = Course(
        files=FINETUNE,
        steps=settings.steps,
        evaluate_every=settings.evaluate_every,
        chosen_by="step" if settings.keep_last else "dense_mrr" if settings.cells else "greedy_mrr",
        seed=settings.seed,
        average=settings.average,
        clip=1.0,
    )
    loop = TrainingLoop(part, optimiser, schedule, course=course, run=run)
    together = run.processes.shared(part)
    batches = Batches(
        train,
        settings,
        embed=lambda: encode_maps(part, train.gallery, progress=run.say).embedding,
        garments=share,
        rank=run.processes.rank,
        refresh=settings.evaluate_every,
    )
    best = loop.train(
        lambda step: _losses(together, part, train, *batches.at(step), settings),
        lambda averaged: evaluate_maps(averaged, val, progress=run.say),
    )
    rest.requires_grad_(False)
    part.write_to(network)
    return best


def _losses(
    together: nn.Module,
    part: TrainedPart,
    train: Sides[MapSet],
    batch: Batch,
    rng: np.random.Generator,
    settings: FinetuneSettings,
) -> dict[str, Tensor]:
    """The losses of one step; `together` is the part, or what averages its gradients over processes."""
    maps = batch.take(train, settings, rng)
    device = next(part.parameters()).device
    part.eval()  # batch norm keeps its statistics; those of garments alone lost 10 points on garments never seen
    with mixed(settings.precision, part):
        made = [one.float() for one in together(maps.to(device)) if one is not None]
    b = len(batch.queries)
    step = Compared(
        targets=Targets.diagonal(batch.same(train).to(device)),
        queries=Vectors(*(one[:b] for one in made)),
        items=Vectors(*(one[b:] for one in made)),
        grids=part.config.grids,
        temperature=settings.temperature,
    )
    return losses_of(step, settings.weights)
