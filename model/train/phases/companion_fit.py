"""Train a joined model's second network further, beside the first: colours of one cut are told apart by both together.

A step has garments that look alike, some of them in several colours, and asks which item a query shows by the cells as
they are joined, by the companion's part of them alone, and by the joined embedding. What the companion made of the same
photos before holds it back: without that anchor it forgets what the first network says as well, and photos of other
makers need both (docs/research/what-was-tried.md).

Letters  b queries and items of a step, P cells, C channels of the first network's parts of a cell, D of the
         companion's, E embedding size
Paper    Khattab and Zaharia, SIGIR 2020 (late interaction); Li and Hoiem, ECCV 2016 (held to what it said before)
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from threadmatch.model.data.sides import Sides
from threadmatch.model.evaluate.metrics import first_hit, rates
from threadmatch.model.grnet import GRNet
from threadmatch.model.neck import HypercolumnNeck, unit_parts
from threadmatch.model.progress import Progress, unheard
from threadmatch.model.train.inputs.batches import neighbours
from threadmatch.model.train.inputs.joined_maps import Joined, JoinedMaps, first_taps
from threadmatch.model.train.loop.optimisers import cosine_after_warm_up, relative_groups
from threadmatch.model.train.loop.precision import Precision, check_at_least_one, check_precision, mixed
from threadmatch.model.train.loop.run_folder import COMPANION, Run
from threadmatch.model.train.loop.training_loop import Course, TrainingLoop
from threadmatch.model.train.phases.trained_part import ENCODE_BATCH, ENCODING, Centred

SHORTLIST: Final = 50
"""Items of stage one that `evaluate` matches densely."""
GROUP: Final = 8
"""Garments that look alike, drawn together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompanionSettings:
    """How to train a companion further."""

    from_stage: int = 4
    steps: int = 300
    garments: int = 32
    """Of a step, in groups of GROUP."""
    in_all_colours: int = 3
    """Garments of each group that come in up to three colours; the others in one."""
    beside: int = 12
    """Garments of the sets without colours."""
    rate: float = 4e-4
    """AdamW with a cosine to zero, as a share of each tensor's size."""
    weight_decay: float = 0.02
    alone: float = 0.5
    """Weight of the companion's cells by themselves."""
    embedding: float = 0.5
    anchor: float = 2.0
    """Weight of the distance from what it said before."""
    temperature: float = 0.05
    average: float = 0.99
    warm_up: int = 20
    evaluate_every: int = 100
    precision: Precision = "bfloat16"
    seed: int = 2

    def __post_init__(self) -> None:
        check_precision(self.precision)
        check_at_least_one(self, "steps", "garments", "in_all_colours", "warm_up", "evaluate_every")


class CompanionPart(nn.Module):
    """All of a companion that trains, from its front's maps on.

    Args:
        joined: whose.
        from_stage: the first stage that trains.
        sample: (n, c, h, w) maps that the means of the features are taken from.
    """

    def __init__(self, joined: GRNet, from_stage: int, sample: Tensor) -> None:
        super().__init__()
        companion, neck, embedding = joined.backbone.companion, joined.cell_neck, joined.embedding
        assert companion is not None
        assert isinstance(neck, HypercolumnNeck)
        assert embedding is not None
        own, place = joined.backbone.channels, first_taps(joined.backbone)
        _, self.rest = companion.split(from_stage)
        self._split = [companion.channels, *companion.tap_channels]
        self.taps = nn.ModuleList(neck.components[place + 1 :])
        self.eval()
        with torch.no_grad():
            last = self.rest(sample)[:, : companion.channels]
        self.neck = Centred(neck.components[place], last.mean((0, 2, 3)))
        half = nn.Linear(companion.channels, embedding.out_features)
        with torch.no_grad():
            half.weight.copy_(embedding.weight[:, own:])
            half.bias.zero_()  # the first network's part has it
        self.embedding = Centred(half, last.mean((0, 2, 3)))

    def forward(self, fronts: Tensor) -> tuple[Tensor, Tensor]:
        """(B, c, h, w) -> (B, P, D) its parts of the cells, (B, E) what it adds to the embedding before its norm."""
        last, *taps = self.rest(fronts).flatten(2).transpose(1, 2).split(self._split, dim=-1)
        projected = [layer(part) for layer, part in zip(self.taps, taps, strict=True)]
        return unit_parts([self.neck(last).float(), *(one.float() for one in projected)]), self.embedding(last.mean(1))

    def learn(self) -> CompanionPart:
        """Let all of it learn but the components of earlier maps."""
        self.requires_grad_(True)
        self.taps.requires_grad_(False)
        return self

    def write_to(self, joined: GRNet) -> None:
        """Give the model what was learned; the backbone's rest is its own already. The join is as it was."""
        neck, embedding, own = joined.cell_neck, joined.embedding, joined.backbone.channels
        assert isinstance(neck, HypercolumnNeck)
        assert embedding is not None
        self.neck.write_to(neck.components[first_taps(joined.backbone)])
        half = nn.Linear(embedding.in_features - own, embedding.out_features)
        self.embedding.write_to(half)
        with torch.no_grad():
            embedding.weight[:, own:] = half.weight
            embedding.bias.add_(half.bias)


class Said(NamedTuple):
    """Of some images what both networks say: cells' parts of the first and of the companion, and unit embeddings."""

    first: Tensor
    second: Tensor
    embeddings: Tensor


@dataclass(frozen=True, slots=True)
class Cuts:
    """Garments with the colours there are of each: positions of items, and of the queries that each item answers."""

    colours: Sequence[Sequence[int]]
    beside: Sequence[int]
    asked: Mapping[int, Sequence[int]]


def cuts_of(train: Sides[JoinedMaps], cut: Mapping[str, str]) -> Cuts:
    """Group items by their cut.

    Args:
        train: all sets together.
        cut: of each product that comes in colours its garment; the others stand beside.
    """
    answers: dict[str, list[int]] = {}
    for position, product in enumerate(train.queries.products):
        answers.setdefault(product, []).append(position)
    groups: dict[str, list[int]] = {}
    beside: list[int] = []
    asked: dict[int, Sequence[int]] = {}
    for item, product in enumerate(train.gallery.products):
        if product not in answers:
            continue
        asked[item] = answers[product]
        if product in cut:
            groups.setdefault(cut[product], []).append(item)
        else:
            beside.append(item)
    return Cuts([own for own in groups.values() if len(own) > 1], beside, asked)


def draw(cuts: Cuts, near: NDArray[np.int64], settings: CompanionSettings, rng: np.random.Generator) -> list[int]:
    """Positions of a step's items.

    Args:
        cuts: garments; all positions in `near` are of `cuts.colours`.
        near: (n, m), of each garment those that look like it, itself first.
        settings: how many.
        rng: decides.
    """
    chosen: list[int] = []
    wanted = min(settings.garments, len(near))
    while len(chosen) < wanted:
        around = near[rng.integers(len(near))]
        around = np.concatenate([around[:1], rng.permutation(around[1:])])
        chosen += [int(n) for n in around if n not in chosen][:GROUP]
    items: list[int] = []
    for place, garment in enumerate(chosen[:wanted]):
        own = cuts.colours[garment]
        items += own[:3] if place % GROUP < settings.in_all_colours else [int(rng.choice(own))]
    count = min(settings.beside, len(cuts.beside))
    return [*items, *(int(n) for n in rng.choice(cuts.beside, count, replace=False))] if count else items


def train_companion(
    joined: GRNet,
    train: Sides[JoinedMaps],
    val: Sides[JoinedMaps],
    *,
    cut: Mapping[str, str],
    settings: CompanionSettings,
    run: Run,
) -> dict[str, float]:
    """Train in place; the averaged weights that rank `val` best by the joined cells are kept.

    Args:
        joined: with a companion whose earlier maps the cells read.
        train, val: what stays as it is of their photos.
        cut: see `cuts_of`.
        settings: how.
        run: where.

    Returns:
        The best figures on `val`.
    """
    cuts = cuts_of(train, cut)
    sample = np.linspace(0, len(train.gallery.products) - 1, ENCODE_BATCH).astype(np.int64)
    part = CompanionPart(joined, settings.from_stage, train.gallery.take(sample).fronts).learn()
    part.to(memory_format=torch.channels_last)
    before = copy.deepcopy(part).requires_grad_(False).eval()
    trained = nn.ModuleList([part.rest, part.neck, part.embedding])
    optimiser = torch.optim.AdamW(relative_groups(trained, rate=settings.rate, weight_decay=settings.weight_decay))
    course = Course(
        files=COMPANION,
        steps=settings.steps,
        evaluate_every=settings.evaluate_every,
        chosen_by="dense_mrr",
        seed=settings.seed,
        average=settings.average,
        clip=1.0,
    )
    schedule = cosine_after_warm_up(optimiser, steps=settings.steps, warm_up=settings.warm_up)
    loop = TrainingLoop(part, optimiser, schedule, course=course, run=run)
    heads = np.asarray([own[0] for own in cuts.colours])
    near = neighbours(_said(before, train.gallery, heads, progress=run.say).embeddings)

    def losses(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([settings.seed, step])
        items = np.asarray(draw(cuts, near, settings, rng))
        queries = np.asarray([rng.choice(cuts.asked[item]) for item in items])
        sides = [side.take(at) for side, at in ((train.queries, queries), (train.gallery, items))]
        names = np.asarray(train.gallery.products)[items]
        same = torch.from_numpy(names[None] == names[:, None])
        return _losses(part, before, Joined(*(torch.cat(one) for one in zip(*sides, strict=True))), same, settings)

    best = loop.train(losses, lambda averaged: evaluate_joined(averaged, val, progress=run.say))
    part.write_to(joined)
    return best


def _losses(
    part: CompanionPart, before: CompanionPart, seen: Joined, same: Tensor, settings: CompanionSettings
) -> dict[str, Tensor]:
    """Of b queries and then their b items."""
    part.eval()  # batch norm keeps its statistics
    fronts, b = seen.fronts.contiguous(memory_format=torch.channels_last), len(same)
    with mixed(settings.precision, part):
        cells, said = part(fronts)
    with torch.no_grad(), mixed(settings.precision, before):
        former_cells, former_said = before(fronts)
    said, former_said = seen.embeddings + said.float(), seen.embeddings + former_said.float()
    embeddings = F.normalize(said, dim=-1)
    with mixed_products(settings.precision):
        first = _products(seen.cells[:b], seen.cells[b:]).float()
        second = _products(cells[:b], cells[b:]).float()

    def asked(scores: Tensor) -> Tensor:
        chances = (scores / settings.temperature).log_softmax(dim=1)
        return -chances.masked_fill(~same, float("-inf")).logsumexp(dim=1).mean()

    parts = {
        "joined": asked(_closest((first + second) / _length(seen.cells, cells), b)),
        "alone": asked(_closest(second / _length(cells), b)),
        "embedding": asked(embeddings[:b] @ embeddings[b:].T),
        "anchor": (1 - (cells * former_cells).sum(dim=-1) / _length(cells)).mean()
        + (1 - F.cosine_similarity(said, former_said, dim=-1)).mean(),
    }
    weights = {"joined": 1.0, "alone": settings.alone, "embedding": settings.embedding, "anchor": settings.anchor}
    total = torch.stack([weights[name] * value for name, value in parts.items()]).sum()
    return {**parts, "total": total}


def mixed_products(precision: Precision) -> torch.autocast:
    """Matrix products in `precision`."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16")


def _products(queries: Tensor, items: Tensor) -> Tensor:
    """(q, P, K), (n, P, K) -> (q P, n P)."""
    return queries.flatten(0, 1) @ items.flatten(0, 1).T


def _closest(products: Tensor, b: int) -> Tensor:
    """(b P, n P) -> (b, n): each cell's best partner, as a mean."""
    cells = len(products) // b
    return products.view(b, cells, -1, cells).amax(dim=3).mean(dim=1)


def _length(*cells: Tensor) -> float:
    """Squared length of parts of unit length one behind the other: how many there are."""
    return float(sum(one[0, 0].square().sum() for one in cells))


@torch.no_grad()
def _said(
    part: CompanionPart, images: JoinedMaps, at: NDArray[np.int64] | None = None, *, progress: Progress = unheard
) -> Said:
    part.eval()
    chosen = np.arange(len(images.products)) if at is None else at
    made: list[Said] = []
    for start in range(0, len(chosen), ENCODE_BATCH):
        seen = images.take(chosen[start : start + ENCODE_BATCH])
        cells, said = part(seen.fronts)
        made.append(Said(seen.cells.half(), cells.half(), F.normalize(seen.embeddings + said, dim=-1)))
        progress(ENCODING, start + len(cells), len(chosen))
    return Said(*(torch.cat(kind) for kind in zip(*made, strict=True)))


@torch.no_grad()
def evaluate_joined(part: CompanionPart, val: Sides[JoinedMaps], *, progress: Progress = unheard) -> dict[str, float]:
    """top-1 and mean reciprocal rank: of stage one, and over its best SHORTLIST of the joined cells."""
    items, queries = (_said(part, side, progress=progress) for side in (val.gallery, val.queries))
    similar = queries.embeddings @ items.embeddings.T
    orders: dict[str, list[NDArray[np.int64]]] = {"global": list(similar.argsort(dim=1, descending=True).numpy())}
    shortlist = similar.topk(min(SHORTLIST, similar.shape[1]), dim=1).indices
    orders["dense"] = []
    for n, at in enumerate(shortlist):
        products = torch.zeros(len(at) * items.first.shape[1], queries.first.shape[1])
        for shown, asked in ((items.first[at], queries.first[n]), (items.second[at], queries.second[n])):
            products += shown.float().flatten(0, 1) @ asked.float().T
        scores = products.view(len(at), -1, products.shape[1]).amax(dim=1).mean(dim=1)
        orders["dense"].append(at[scores.argsort(descending=True)].numpy())
    figures = {}
    for name, order in orders.items():
        ranks = first_hit(order, val.gallery.products, val.queries.products)
        figures[f"{name}_top1"], figures[f"{name}_mrr"] = rates(ranks)["top1"], rates(ranks)["mrr"]
    return figures
