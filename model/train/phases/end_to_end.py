"""Train a backbone and GRNet's head together, end to end, by the cross-entropy on the final global node.

The defaults are the recipe of sec. 5.1; the options that go beyond it are off. What was tried is in docs/training.md.

Letters  b garments of a step, R, C, E as in config
Paper    Kuang et al., ICCV 2019, sec. 3.2 and 5.1
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from threadmatch.model.errors import ConfigError
from threadmatch.model.grnet import GRNet, SimilarityHead, normed
from threadmatch.model.train.inputs.batches import Batch, Batches, Drawing, askers
from threadmatch.model.train.inputs.front_maps import MapPairs, MapSet
from threadmatch.model.train.loop.curves import END_TO_END_LOG
from threadmatch.model.train.loop.precision import Precision, check_at_least_one, check_precision, mixed
from threadmatch.model.train.loop.torchrun import Processes
from threadmatch.model.train.loop.training_state import Session, cosine_after_warm_up, head_groups, relative_groups
from threadmatch.model.train.loop.validation import Projected, evaluate_projected, spaced
from threadmatch.model.train.phases.finetune import metric_losses
from threadmatch.model.train.phases.trained_part import Tower, encode_maps

Optimiser = Literal["sgd", "adamw"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndToEndSettings(Drawing):
    """How to train all at once."""

    from_stage: int = 0
    """Stages before this one stay as they are, and each image passes them once; 0 trains everything, over pixels of
    which each image keeps 0.3 MB on disk."""
    epochs: float = 60
    """As many steps as show each gallery item once, times this."""
    garments: int = 32
    """A step, each with a query and an item: the b x b pairs of a street and a shop photo are what the loss is over."""
    rate: float = 0.01
    """SGD: divided by ten every `decay_every` epochs; for networks without a neck, which it tears apart within three
    steps. AdamW: of the tower, `session.relative_groups`, with a cosine to zero."""
    decay_every: float = 20
    momentum: float = 0.9
    weight_decay: float = 5e-4
    mirrored: float = 0.5

    # --- beyond the paper ---
    optimiser: Optimiser = "sgd"
    head_rate: float = 1e-3
    head_decay: float = 0.05
    """Of AdamW, for the head, which begins at zero and so has no size of its own."""
    warm_up: int = 1
    """Steps in which the rate rises; of AdamW."""
    pair: float = 1.0
    """Weight of the cross-entropy of pairs."""
    positive_weight: float = 1.0
    """Weight of a matching pair in the loss. At 1 the b^2 - b others outweigh the b that match."""
    listwise: float = 0.0
    """Weight of a softmax of each query over the step's items by GRNet's score, beside the pairs' cross-entropy."""
    metric: float = 0.0
    """Weight of fine-tuning's two softmaxes beside it, so that one network serves both stages. Without them nothing
    teaches an embedding layer, and stage one is only as good as the backbone's pooled features."""
    temperature: float = 0.05
    """Of those two."""
    clip: float = 0.0
    """Largest norm of a step's gradient; 0: any."""
    average: float = 0.0
    """Of the weights, exponential: the averaged ones are evaluated and kept; 0: the last ones."""
    precision: Precision = "float32"
    """"bfloat16": matrix products in mixed precision."""
    evaluate_every: float = 1
    """Epochs."""
    evaluate_queries: int = 600

    def __post_init__(self) -> None:
        check_precision(self.precision)
        check_at_least_one(self, "garments", "group", "warm_up")
        if self.optimiser not in get_args(Optimiser):
            raise ConfigError(f"optimiser {self.optimiser!r} is not known, known are {', '.join(get_args(Optimiser))}")


class Whole(nn.Module):
    """Tower and head as one module, whose one call is a step's: what DistributedDataParallel asks for."""

    def __init__(self, tower: Tower, head: SimilarityHead) -> None:
        super().__init__()
        self.tower = tower
        self.head = head

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(2 b, c, h, w) maps, queries first -> (2 b, E) embeddings, (2 b, R, C) regions, (b, b) scores of pairs."""
        embedding, regions = (one.float() for one in self.tower(maps))  # in mixed precision too, as `fit` hands them on
        regions = normed(regions, self.tower.config)
        b = len(maps) // 2
        queries, items = regions[:b].repeat_interleave(b, dim=0), regions[b:].repeat(b, 1, 1)
        return embedding, regions, self.head(queries, items).view(b, b)


def train_end_to_end(
    network: GRNet,
    rest: nn.Module,
    train: MapPairs,
    val: MapPairs,
    *,
    settings: EndToEndSettings,
    run: Path,
    processes: Processes | None = None,
    after_evaluation: Callable[[int, dict[str, float]], None] | None = None,
) -> dict[str, float]:
    """Train in place; keep the weights whose GRNet ranks `val` best.

    Args:
        network: with a trained backbone.
        rest: the second part of `network.backbone.split(settings.from_stage)`.
        train, val: maps of the front.
        settings: how.
        run: folder for end_to_end.jsonl and end_to_end.pt; an unfinished run there goes on from its last evaluation, on
            the CPU to the same bits.
        processes: that train together, each on its share of a step's garments; None: this one, on the CPU.
        after_evaluation: called with the step and its figures.

    Returns:
        The best figures on `val`.

    Raises:
        ConfigError: more processes than half the garments of a step.
    """
    processes = processes or Processes()
    whole = Whole(Tower.over(network, rest, train.gallery).learn(), network.head.requires_grad_(True))
    if not settings.metric and whole.tower.embedding is not None:
        whole.tower.embedding.requires_grad_(False)  # no loss reads it
    whole.to(processes.device).to(memory_format=torch.channels_last)
    epoch = math.ceil(sum(map(bool, askers(train))) / settings.garments)
    steps, every = math.ceil(settings.epochs * epoch), max(1, round(settings.evaluate_every * epoch))
    session = _session(whole, settings, epoch, steps, run, processes)
    shared = processes.shared(whole)
    batches = Batches(whole.tower, train, settings, garments=settings.garments, refresh=every, processes=processes)

    def losses(step: int) -> dict[str, Tensor]:
        torch.manual_seed(settings.seed * 1_000_003 + step)  # of dropout
        return _losses(shared, whole, train, *batches.at(step), settings)

    best = session.run(
        steps,
        losses=losses,
        evaluate=lambda averaged: _evaluate(averaged, val, settings.evaluate_queries),
        every=every,
        after_evaluation=after_evaluation,
    )
    rest.requires_grad_(False)
    whole.tower.write_to(network)
    return best


def _session(
    whole: Whole, settings: EndToEndSettings, epoch: int, steps: int, run: Path, processes: Processes
) -> Session[Whole]:
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    if settings.optimiser == "sgd":
        optimiser = torch.optim.SGD(
            whole.parameters(), lr=settings.rate, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
        schedule = torch.optim.lr_scheduler.StepLR(optimiser, max(1, round(settings.decay_every * epoch)), 0.1)
    else:
        groups = relative_groups(whole.tower, rate=settings.rate, weight_decay=settings.weight_decay)
        groups += head_groups(whole.head, rate=settings.head_rate, weight_decay=settings.head_decay)
        optimiser = torch.optim.AdamW(groups)
        schedule = cosine_after_warm_up(optimiser, steps=steps, warm_up=settings.warm_up)
    return Session(
        whole, optimiser, schedule, settings.average, "grnet_mrr", run / END_TO_END_LOG, processes, settings.clip
    )


def _losses(
    shared: nn.Module,
    whole: Whole,
    train: MapPairs,
    batch: Batch,
    rng: np.random.Generator,
    settings: EndToEndSettings,
) -> dict[str, Tensor]:
    """The losses of one step; `shared` is the whole, or what averages its gradients over processes."""
    maps = batch.take(train, settings, rng)
    device = next(whole.parameters()).device
    same = batch.same(train).to(device)
    whole.train()
    whole.tower.eval()  # batch norm keeps its statistics, as in fine-tuning
    with mixed(settings.precision, whole):
        embedding, regions, score = shared(maps.to(device))
    # Cross-entropy of two logits is that of their difference.
    weight = torch.where(same, settings.positive_weight, 1.0)
    losses = {"pair": settings.pair * F.binary_cross_entropy_with_logits(score, same.float(), weight=weight)}
    if settings.listwise:
        own = torch.arange(len(same), device=device)
        others = same.clone().fill_diagonal_(False)
        losses["listwise"] = settings.listwise * F.cross_entropy(score.masked_fill(others, float("-inf")), own)
    if settings.metric:
        losses |= {
            name: settings.metric * value
            for name, value in metric_losses(embedding, regions, same, whole.tower.config, settings.temperature).items()
        }
    return {**losses, "total": torch.stack([*losses.values()]).sum()}


@torch.no_grad()
def _evaluate(whole: Whole, val: MapPairs, at_most: int) -> dict[str, float]:
    whole.eval()
    at = spaced(len(val.queries.products), at_most).numpy()
    queries = MapSet([val.queries.products[n] for n in at], val.queries.maps[at])
    head = copy.deepcopy(whole.head).to("cpu")
    return evaluate_projected(head, _projected(whole.tower, val.gallery), _projected(whole.tower, queries))


def _projected(tower: Tower, images: MapSet) -> Projected:
    embedding, regions = encode_maps(tower, images)
    return Projected(embedding, normed(regions, tower.config), images.products)
