"""What a step of training a backbone sees: garments with a query and an item each, distorted anew.

Letters  n items, b garments of a step, c channels, h x w the map, E embedding size
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from threadmatch.model.data.sides import Sides
from threadmatch.model.train.inputs.front_maps import MapSet
from threadmatch.model.train.inputs.map_distortions import distorted

NEIGHBOURS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """How batches are drawn; what every phase that trains the backbone can set."""

    group: int = 1
    """Garments of a step that are near each other by the embedding: hard negatives for one another."""
    covered: float = 0.0
    """Share of the queries in which a rectangle is covered by a part of another query's map."""
    zoomed: float = 0.0
    """Share of the queries that are cut at random sides and stretched again."""
    mirrored: float = 0.0
    """Share of all images that are mirrored."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """(b,) positions of queries and (b,) of an item of each one's product."""

    queries: NDArray[np.int64]
    items: NDArray[np.int64]

    def take(self, train: Sides[MapSet], drawing: Drawing, rng: np.random.Generator) -> Tensor:
        """(2 b, c, h, w) maps, queries first. Queries are covered and zoomed into, both sides are mirrored."""
        queries = distorted(train.queries.take(self.queries), rng, zoomed=drawing.zoomed, covered=drawing.covered)
        maps = torch.cat([queries, train.gallery.take(self.items)])
        mirror = torch.from_numpy(rng.random(len(maps)) < drawing.mirrored)
        maps = torch.where(mirror[:, None, None, None], maps.flip(3), maps)
        return maps.contiguous(memory_format=torch.channels_last)

    def same(self, train: Sides[MapSet]) -> Tensor:
        """(b, b) bool: whether an item shows a query's product."""
        names = np.asarray(train.gallery.products)[self.items]
        return torch.from_numpy(names[None] == names[:, None])


class Batches:
    """The batches of a training run, each a matter of seed, step and process alone, so that a resumed run has the same.

    Args:
        train: maps.
        drawing: how they are drawn.
        embed: gives the (n, E) embeddings of the gallery as they are now; they say which garments are near each other,
            and are asked for every `refresh` steps, unless nothing is grouped.
        garments: of a step, in this process.
        rank: of this process.
        refresh: steps; an unfinished run goes on at a multiple of it.
    """

    def __init__(
        self,
        train: Sides[MapSet],
        drawing: Drawing,
        *,
        embed: Callable[[], Tensor],
        garments: int,
        rank: int,
        refresh: int,
    ) -> None:
        self._train, self._drawing, self._embed = train, drawing, embed
        self._count, self._rank, self._refresh = garments, rank, refresh
        self._asked = askers(train)
        self._near: NDArray[np.int64] | None = None

    def at(self, step: int) -> tuple[Batch, np.random.Generator]:
        """The batch of a step, and what its distortions are drawn from."""
        if self._near is None or step % self._refresh == 0:
            count = len(self._train.gallery.products)
            self._near = np.arange(count)[:, None] if self._drawing.group == 1 else neighbours(self._embed())
        rng = np.random.default_rng([self._drawing.seed, step, self._rank])
        batch = draw_garments(self._asked, self._near, count=self._count, group=self._drawing.group, rng=rng)
        return batch, rng


def askers(pairs: Sides[MapSet]) -> list[list[int]]:
    """The positions of the queries that each gallery item answers."""
    asked: dict[str, list[int]] = {}
    for position, product in enumerate(pairs.queries.products):
        asked.setdefault(product, []).append(position)
    return [asked.get(product, []) for product in pairs.gallery.products]


def neighbours(embeddings: Tensor) -> NDArray[np.int64]:
    """(n, at most NEIGHBOURS) positions of the nearest items of each of the (n, E) items, itself first."""
    depth = min(NEIGHBOURS, len(embeddings))
    nearest = [(chunk @ embeddings.T).topk(depth, dim=1).indices for chunk in embeddings.split(1024)]
    return torch.cat(nearest).numpy()


def draw_garments(
    asked: list[list[int]], near: NDArray[np.int64], *, count: int, group: int, rng: np.random.Generator
) -> Batch:
    """Draw garments in groups around random ones.

    Args:
        asked: from `askers`.
        near: (n, m) positions near each item, from `neighbours`, or each item alone.
        count: of garments.
        group: garments that are near each other: hard negatives for one another.
        rng: decides.
    """
    askable = np.asarray([n for n, own in enumerate(asked) if own])
    items: list[int] = []
    wanted = min(count, len(askable))
    while len(items) < wanted:
        around = near[rng.choice(askable)]
        around = np.concatenate([around[:1], rng.permutation(around[1:])])
        items += [int(n) for n in around if asked[n] and n not in items][:group]
    items = items[:wanted]
    return Batch(np.asarray([rng.choice(asked[n]) for n in items]), np.asarray(items))
