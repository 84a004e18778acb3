"""What a step of training a backbone sees: garments with a query and an item each, distorted anew.

Letters  n items, b garments of a step, c channels, h x w the map
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from threadmatch.model.errors import ConfigError
from threadmatch.model.train.inputs.front_maps import MapPairs, MapSet
from threadmatch.model.train.inputs.map_distortions import distorted
from threadmatch.model.train.loop.torchrun import Processes
from threadmatch.model.train.phases.trained_part import Tower, encode_maps

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

    def take(self, train: MapPairs, drawing: Drawing, rng: np.random.Generator) -> Tensor:
        """(2 b, c, h, w) maps, queries first. Queries are covered and zoomed into, both sides are mirrored."""
        queries = distorted(train.queries.take(self.queries), rng, zoomed=drawing.zoomed, covered=drawing.covered)
        maps = torch.cat([queries, train.gallery.take(self.items)])
        mirror = torch.from_numpy(rng.random(len(maps)) < drawing.mirrored)
        maps = torch.where(mirror[:, None, None, None], maps.flip(3), maps)
        return maps.contiguous(memory_format=torch.channels_last)

    def same(self, train: MapPairs) -> Tensor:
        """(b, b) bool: whether an item shows a query's product."""
        names = np.asarray(train.gallery.products)[self.items]
        return torch.from_numpy(names[None] == names[:, None])


class Batches:
    """The batches of a training run, each a matter of seed, step and process alone, so that a resumed run has the same.

    Args:
        tower: whose embedding says which garments are near each other, made anew every `refresh` steps.
        train: maps.
        drawing: how they are drawn.
        garments: of a step, shared out among the processes.
        refresh: steps; an unfinished run goes on at a multiple of it.
        processes: that train together.

    Raises:
        ConfigError: more processes than half the garments.
    """

    def __init__(
        self, tower: Tower, train: MapPairs, drawing: Drawing, *, garments: int, refresh: int, processes: Processes
    ) -> None:
        self._tower, self._train, self._drawing, self._refresh = tower, train, drawing, refresh
        self._count = share(garments, processes)
        self._rank = processes.rank
        self._asked = askers(train)
        self._near: NDArray[np.int64] | None = None

    def at(self, step: int) -> tuple[Batch, np.random.Generator]:
        """The batch of a step, and what its distortions are drawn from."""
        if self._near is None or step % self._refresh == 0:
            self._near = neighbours(self._tower, self._train.gallery, self._drawing.group)
        rng = np.random.default_rng([self._drawing.seed, step, self._rank])
        return draw(self._asked, self._near, count=self._count, group=self._drawing.group, rng=rng), rng


def share(garments: int, processes: Processes) -> int:
    """Garments of a step that each process draws: two at least, or there is nothing to tell apart.

    Raises:
        ConfigError: more processes than that.
    """
    if garments < 2 * processes.count:
        raise ConfigError(
            f"{garments} queries a step are too few for {processes.count} processes; each needs two at least"
        )
    return garments // processes.count


def askers(pairs: MapPairs) -> list[list[int]]:
    """The positions of the queries that each gallery item answers."""
    asked: dict[str, list[int]] = {}
    for position, product in enumerate(pairs.queries.products):
        asked.setdefault(product, []).append(position)
    return [asked.get(product, []) for product in pairs.gallery.products]


def neighbours(tower: Tower, gallery: MapSet, group: int) -> NDArray[np.int64]:
    """(n, at most NEIGHBOURS) positions of the nearest items of each item, itself first; itself alone if nothing is
    grouped."""
    if group == 1:
        return np.arange(len(gallery.products))[:, None]
    embedding, _ = encode_maps(tower, gallery)
    depth = min(NEIGHBOURS, len(embedding))
    nearest = [(chunk @ embedding.T).topk(depth, dim=1).indices for chunk in embedding.split(1024)]
    return torch.cat(nearest).numpy()


def draw(asked: list[list[int]], near: NDArray[np.int64], *, count: int, group: int, rng: np.random.Generator) -> Batch:
    """Draw garments in groups around random ones.

    Args:
        asked: from `askers`.
        near: from `neighbours`.
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
