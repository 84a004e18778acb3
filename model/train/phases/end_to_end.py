"""Train a backbone and GRNet's head together, end to end, by the cross-entropy on the final global node.

The defaults are the recipe of sec. 5.1; the options that go beyond it are off. What was tried is in docs/research/.

Letters  b garments of a step, R, C, E as in config
Paper    Kuang et al., ICCV 2019, sec. 3.2 and 5.1
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from threadmatch.model.data.sides import Sides
from threadmatch.model.errors import ConfigError
from threadmatch.model.grnet import GRNet, SimilarityHead, normed
from threadmatch.model.train.inputs.batches import Batch, Batches, Drawing, askers
from threadmatch.model.train.inputs.feature_sets import FeatureSet
from threadmatch.model.train.inputs.front_maps import MapSet
from threadmatch.model.train.loop.optimisers import cosine_after_warm_up, head_groups, relative_groups
from threadmatch.model.train.loop.precision import Precision, check_at_least_one, check_precision, mixed
from threadmatch.model.train.loop.run_folder import END_TO_END, Run
from threadmatch.model.train.loop.training_loop import Course, TrainingLoop
from threadmatch.model.train.loop.validation import evaluate_projected, spaced
from threadmatch.model.train.losses import METRIC, Compared, Targets, Vectors, losses_of
from threadmatch.model.train.phases.trained_part import TrainedPart, encode_maps

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
    steps. AdamW: of all but the head, `optimisers.relative_groups`, with a cosine to zero."""
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
        if not (self.pair or self.listwise):
            raise ConfigError(
                "pair and listwise are both 0, and nothing would teach the head; give one of them a weight"
            )

    @property
    def weights(self) -> dict[str, float]:
        """Of the losses."""
        return {"pair": self.pair, "listwise": self.listwise, **dict.fromkeys(METRIC, self.metric)}


class PartAndHead(nn.Module):
    """The trained part and the head as one, whose one call is a step's: what DistributedDataParallel asks for."""

    def __init__(self, part: TrainedPart, head: SimilarityHead) -> None:
        super().__init__()
        self.part = part
        self.head = head

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(2 b, c, h, w) maps, queries first -> (2 b, E) embeddings, (2 b, R, C) regions, (b, b) scores of pairs."""
        made = self.part(maps)
        # in mixed precision too, as the head's own phase hands them on
        embedding, regions = made.embedding.float(), normed(made.regions.float(), self.part.config)
        b = len(maps) // 2
        queries, items = regions[:b].repeat_interleave(b, dim=0), regions[b:].repeat(b, 1, 1)
        return embedding, regions, self.head(queries, items).view(b, b)


def train_end_to_end(
    network: GRNet, rest: nn.Module, train: Sides[MapSet], val: Sides[MapSet], *, settings: EndToEndSettings, run: Run
) -> dict[str, float]:
    """Train in place; keep the weights whose GRNet ranks `val` best.

    Args:
        network: with a trained backbone.
        rest: the second part of `network.backbone.split(settings.from_stage)`.
        train, val: maps of the front.
        settings: how.
        run: where; each of several processes takes its share of a step's garments.

    Returns:
        The best figures on `val`.

    Raises:
        ConfigError: more processes than half the garments of a step.
    """
    share = run.processes.share(settings.garments)
    whole = PartAndHead(TrainedPart.over(network, rest, train.gallery).learn(), network.head.requires_grad_(True))
    if not settings.metric and whole.part.embedding is not None:
        whole.part.embedding.requires_grad_(False)  # no loss reads it
    whole.to(run.processes.device).to(memory_format=torch.channels_last)
    epoch = math.ceil(sum(map(bool, askers(train))) / settings.garments)
    every = max(1, round(settings.evaluate_every * epoch))
    loop = _loop(whole, settings, epoch, every, run)
    together = run.processes.shared(whole)
    batches = Batches(
        train,
        settings,
        embed=lambda: encode_maps(whole.part, train.gallery, progress=run.say).embedding,
        garments=share,
        rank=run.processes.rank,
        refresh=every,
    )
    best = loop.train(
        lambda step: _losses(together, whole, train, *batches.at(step), settings),
        lambda averaged: _evaluate(averaged, val, settings.evaluate_queries, run),
    )
    rest.requires_grad_(False)
    whole.part.write_to(network)
    return best


def _loop(
    whole: PartAndHead, settings: EndToEndSettings, epoch: int, every: int, run: Run
) -> TrainingLoop[PartAndHead]:
    steps = math.ceil(settings.epochs * epoch)
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    if settings.optimiser == "sgd":
        optimiser = torch.optim.SGD(
            whole.parameters(), lr=settings.rate, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
        schedule = torch.optim.lr_scheduler.StepLR(optimiser, max(1, round(settings.decay_every * epoch)), 0.1)
    else:
        groups = relative_groups(whole.part, rate=settings.rate, weight_decay=settings.weight_decay)
        groups += head_groups(whole.head, rate=settings.head_rate, weight_decay=settings.head_decay)
        optimiser = torch.optim.AdamW(groups)
        schedule = cosine_after_warm_up(optimiser, steps=steps, warm_up=settings.warm_up)
    course = Course(
        files=END_TO_END,
        steps=steps,
        evaluate_every=every,
        chosen_by="grnet_mrr",
        seed=settings.seed,
        average=settings.average,
        clip=settings.clip,
    )
    return TrainingLoop(whole, optimiser, schedule, course=course, run=run)


def _losses(
    together: nn.Module,
    whole: PartAndHead,
    train: Sides[MapSet],
    batch: Batch,
    rng: np.random.Generator,
    settings: EndToEndSettings,
) -> dict[str, Tensor]:
    """The losses of one step; `together` is the whole, or what averages its gradients over processes."""
    maps = batch.take(train, settings, rng)
    device = next(whole.parameters()).device
    whole.train()
    whole.part.eval()  # batch norm keeps its statistics, as in fine-tuning
    with mixed(settings.precision, whole):
        embedding, regions, score = together(maps.to(device))
    b = len(batch.queries)
    step = Compared(
        targets=Targets.diagonal(batch.same(train).to(device)),
        score=score,
        queries=Vectors(embedding[:b], regions[:b]),
        items=Vectors(embedding[b:], regions[b:]),
        grids=whole.part.config.grids,
        temperature=settings.temperature,
        match_weight=settings.positive_weight,
    )
    return losses_of(step, settings.weights)


@torch.no_grad()
def _evaluate(whole: PartAndHead, val: Sides[MapSet], at_most: int, run: Run) -> dict[str, float]:
    whole.eval()
    at = spaced(len(val.queries.products), at_most).numpy()

    def projected(images: MapSet) -> FeatureSet:
        embedding, regions, _ = encode_maps(whole.part, images, progress=run.say)
        return FeatureSet(embedding, normed(regions, whole.part.config), images.products, projected=True)

    head = copy.deepcopy(whole.head).to("cpu")
    return evaluate_projected(head, Sides(val.gallery, val.queries.some(at)).map(projected), progress=run.say)
