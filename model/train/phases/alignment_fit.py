"""Train a multi-granular alignment over cached cells of sets of several makers.

Letters  b garments of a step, n items, P positions, C channels of a cell, h x w the map, E embedding size

The backbone stays as it is, so a photo's cells are computed once. Each step takes garments of one set: look-alikes in
groups, each with a query that is covered, zoomed into and mirrored anew, and the nearest other items beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from threadmatch.model.alignment.config import Grid
from threadmatch.model.alignment.part import AlignmentPart, fused_embedding
from threadmatch.model.coded import floats
from threadmatch.model.data.encoded import EncodedSet
from threadmatch.model.data.sides import Sides
from threadmatch.model.evaluate.metrics import first_hit, rates
from threadmatch.model.features import CELLS, EMBEDDING
from threadmatch.model.matching import Floats
from threadmatch.model.mga_matcher import MGAMatcher
from threadmatch.model.train.inputs.map_distortions import distorted
from threadmatch.model.train.inputs.negatives import matches_of
from threadmatch.model.train.loop.optimisers import Group, cosine_after_warm_up
from threadmatch.model.train.loop.run_folder import ALIGNMENT, Run
from threadmatch.model.train.loop.training_loop import Course, TrainingLoop
from threadmatch.model.train.loop.validation import RANKING, spaced
from threadmatch.model.train.losses import Aligned, Compared, Targets, losses_of

_AT_ONCE = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignmentSettings:
    """How to train; a recipe's [fit]."""

    steps: int = 160
    garments: int = 48
    """b."""
    group: int = 8
    """Of them that are near each other by the embedding."""
    others: int = 48
    """Further items of a step, the nearest of its queries."""
    learning_rate: float = 3e-3
    """Of windows, looks, scales and weights."""
    matrix_rate: float = 3e-3
    """Of the matrices that begin as the identity. On `val` 3e-3 gained on two makers of three and lost on the third;
    with none of them learning, 80 steps gained nothing."""
    weight_decay: float = 1.0
    """Of the matrices, towards the identity."""
    warm_up: int = 20
    temperature: float = 0.05
    levels: float = 0.25
    alignment: float = 1.0
    fused: float = 0.25
    overlap: float = 0.1
    disagreement: float = 0.1
    covered: float = 0.3
    zoomed: float = 0.3
    mirrored: float = 0.5
    average: float = 0.98
    evaluate_every: int = 80
    evaluate_queries: int = 300
    """Of each set of `val`."""
    candidates: int = 200
    seed: int = 0

    @property
    def weights(self) -> dict[str, float]:
        """By names of `losses.LOSSES`."""
        names = ("levels", "alignment", "fused", "overlap", "disagreement")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class MakersSet:
    """One maker's queries against the gallery of all of them.

    Fields:
        name: of the set.
        sides: gallery and queries with embeddings and cells.
        weight: how often a step is drawn from it, against the others.
    """

    name: str
    sides: Sides[EncodedSet]
    weight: float = 1.0
    matches: list[list[int]] = field(init=False)

    def __post_init__(self) -> None:
        products = self.sides.map(lambda side: [image.product_id for image in side.images])
        object.__setattr__(self, "matches", matches_of(products))


def train_alignment(
    part: AlignmentPart, fit: Sequence[MakersSet], val: Sequence[MakersSet], *, settings: AlignmentSettings, run: Run
) -> dict[str, float]:
    """Train in place; keep the weights that rerank `val` best, the start among them.

    Args:
        part: untrained; what does not learn says so by `requires_grad`.
        fit, val: sets of other garments than one another's.
        settings: how.
        run: where.

    Returns:
        The best figures on `val`: "mrr" and "top1", means over its sets, and both of each set.

    Raises:
        DataError: a set of which no query has its product in the gallery.
    """
    learns = [weight for weight in part.parameters() if weight.requires_grad]
    groups: list[Group] = [
        {
            "params": [w for w in learns if w.ndim == 3],
            "weight_decay": settings.weight_decay,
            "lr": settings.matrix_rate,
        },
        {"params": [w for w in learns if w.ndim < 3], "weight_decay": 0.0, "lr": settings.learning_rate},
    ]
    optimiser = torch.optim.AdamW([group for group in groups if group["params"]])
    course = Course(
        files=ALIGNMENT,
        steps=settings.steps,
        evaluate_every=settings.evaluate_every,
        chosen_by="mrr",
        seed=settings.seed,
        average=settings.average,
        clip=1.0,
    )
    schedule = cosine_after_warm_up(optimiser, steps=settings.steps, warm_up=settings.warm_up)
    loop = TrainingLoop(part, optimiser, schedule, course=course, run=run)
    shares = np.asarray([one.weight for one in fit]) / sum(one.weight for one in fit)
    near = _neighbours(fit[0].sides.gallery.embeddings)

    def losses(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([settings.seed, step])
        chosen = fit[rng.choice(len(fit), p=shares)]
        compared = _compared(loop.module, chosen, near, settings=settings, rng=rng)
        return losses_of(compared, settings.weights)

    return loop.train(losses, lambda trained: evaluate_alignment(trained, val, settings=settings, run=run))


def _neighbours(embeddings: NDArray[np.float32], depth: int = 64) -> NDArray[np.int64]:
    """(n, depth) positions of the items nearest to each, itself first."""
    similar = torch.from_numpy(embeddings @ embeddings.T)
    return similar.topk(min(depth, len(embeddings)), dim=1).indices.numpy()


def _compared(
    part: AlignmentPart,
    chosen: MakersSet,
    near: NDArray[np.int64],
    *,
    settings: AlignmentSettings,
    rng: np.random.Generator,
) -> Compared:
    """Draw a step of one set and compare its queries with its items."""
    queries, items = _drawn(chosen, near, settings=settings, rng=rng)
    shop, street = chosen.sides.gallery, chosen.sides.queries
    grid = part.config.grid
    asked = distorted(_maps(street, queries, grid), rng, zoomed=settings.zoomed, covered=settings.covered)
    shown = _maps(shop, items, grid)
    flips = torch.from_numpy(rng.random(len(asked) + len(shown)) < settings.mirrored)[:, None, None, None]
    maps = torch.cat([asked, shown])
    maps = torch.where(flips, maps.flip(3), maps)
    slots, attention = part.aggregator(F.normalize(maps.flatten(2).transpose(1, 2), dim=-1))
    x, y = slots.split([len(queries), len(items)])
    vectors = [torch.from_numpy(side.embeddings[at]) for side, at in ((street, queries), (shop, items))]
    levels = part.alignment.levels(x, y)
    fused = [fused_embedding(c, own, part.config.spans) for c, own in zip(vectors, (x, y), strict=True)]
    aligned = Aligned(
        levels,
        part.alignment.score(levels, vectors[0] @ vectors[1].T),
        fused[0] @ fused[1].T,
        attention,
        part.config.spans,
    )
    products = np.asarray([image.product_id for image in shop.images])[items]
    same = products[None] == np.asarray([street.images[n].product_id for n in queries])[:, None]
    targets = Targets(torch.arange(len(queries)), torch.from_numpy(same))
    return Compared(targets=targets, aligned=aligned, temperature=settings.temperature)


def _drawn(
    chosen: MakersSet, near: NDArray[np.int64], *, settings: AlignmentSettings, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(b,) queries and (b + others,) items, the queries' matches first; no garment twice among the b."""
    asked: dict[int, list[int]] = {}
    for query, own in enumerate(chosen.matches):
        if own:
            asked.setdefault(own[0], []).append(query)
    askable = np.asarray(list(asked))
    wanted = min(settings.garments, len(askable))
    items: list[int] = []
    while len(items) < wanted:
        around = [int(n) for n in near[rng.choice(askable)] if n in asked and n not in items]
        items += around[: min(settings.group, wanted - len(items))]
    queries = np.asarray([rng.choice(asked[n]) for n in items])
    beside = near[np.asarray(items), 1:].reshape(-1)
    beside = np.setdiff1d(beside, items)
    others = rng.choice(beside, min(settings.others, len(beside)), replace=False)
    return queries, np.concatenate([np.asarray(items), others])


def _maps(side: EncodedSet, at: NDArray[np.int64], grid: Grid) -> Tensor:
    """(len(at), C, h, w) of the cells."""
    cells = torch.from_numpy(np.asarray(side.features[CELLS][at], np.float32))
    maps: Tensor = cells.transpose(1, 2).unflatten(2, grid)
    return maps


@torch.inference_mode()
def slots_of(part: AlignmentPart, cells: Floats) -> dict[str, NDArray[np.float32]]:
    """(n, P, C) cells to the part's features by name, as a gallery keeps them: whole numbers of eight bits."""
    parts = [
        part.aggregator(torch.from_numpy(np.asarray(cells[i : i + _AT_ONCE], np.float32)))
        for i in range(0, len(cells), _AT_ONCE)
    ]
    made = [torch.cat(one).numpy() for one in zip(*parts, strict=True)]
    return {
        spec.name: spec.unpack([spec.pack(values) for values in own])
        for spec, own in zip(part.specs, made, strict=True)
    }


def evaluate_alignment(
    part: AlignmentPart, val: Sequence[MakersSet], *, settings: AlignmentSettings, run: Run
) -> dict[str, float]:
    """top-1 and mean reciprocal rank of each set's reranked shortlist, on evenly spaced queries, and their means."""
    matcher = MGAMatcher(part)
    figures: dict[str, float] = {}
    for one in val:
        shop, street = one.sides.gallery, one.sides.queries
        at = spaced(len(street.images), settings.evaluate_queries).numpy()
        held, asked = slots_of(part, floats(shop.features[CELLS])), slots_of(part, floats(street.features[CELLS])[at])
        held[EMBEDDING] = shop.embeddings
        asked[EMBEDDING] = street.embeddings[at]
        orders = []
        for n, row in enumerate(asked[EMBEDDING]):
            order = np.argsort(-(shop.embeddings @ row), kind="stable")[: settings.candidates]
            photo = {name: values[n] for name, values in asked.items()}
            [scores] = matcher.score_many([photo], [{name: values[order] for name, values in held.items()}])
            orders.append(order[np.argsort(-scores, kind="stable")])
            run.say(RANKING, n + 1, len(at))
        wanted = [street.images[n].product_id for n in at]
        found = rates(first_hit(orders, [image.product_id for image in shop.images], wanted))
        figures |= {f"{one.name}_{name}": found[name] for name in ("top1", "mrr")}
    return {
        **figures,
        **{name: float(np.mean([figures[f"{one.name}_{name}"] for one in val])) for name in ("top1", "mrr")},
    }
