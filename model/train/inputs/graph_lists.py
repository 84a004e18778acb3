"""What the sparse graph is fitted on: each query with the items that the stages before hand on.

Letters  n images, q queries, m items of a shortlist, k items that the graph sees (the best of the dense match),
         P nodes, E embedding size, K numbers a cell, F inputs a node
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from threadmatch.model.dense import dense_similarity
from threadmatch.model.matching import Floats
from threadmatch.model.node_inputs import INPUTS, Tints, node_inputs


@dataclass(frozen=True, slots=True)
class Encoded:
    """Images of one side.

    Fields:
        embeddings: (n, E) float32 unit vectors.
        cells: (n, P, K) unit vectors.
        products: that they show.
        tints: (n, 3, P); None where the graph is to know none.
    """

    embeddings: NDArray[np.float32]
    cells: Floats
    products: Sequence[str]
    tints: Floats | None = None


@dataclass(frozen=True, slots=True)
class Lists:
    """One set's queries with the items that the stages before hand on.

    Fields:
        name: of the set.
        inputs: (q, k, P, F) float16 of `node_inputs`.
        same: (q, k) bool, whether an item is the query's product.
        order: (q, k) int64 gallery positions, best first by the dense match.
        place: (q, k) int64, place of each in the shortlist of stage one, from 0.
        dense: (q, m) float32, what the dense match said of the whole shortlist, best first.
        weight: what the set counts beside others.
    """

    name: str
    inputs: NDArray[np.float16]
    same: NDArray[np.bool_]
    order: NDArray[np.int64]
    place: NDArray[np.int64]
    dense: NDArray[np.float32]
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Shortlists:
    """One set's queries through stage one and the dense match, whatever is then asked of them.

    Fields:
        name: of the set.
        gallery, queries: both sides.
        depth: m, of stage one's shortlist.
        order: (q, more than m) int64 gallery positions, best first by stage one: enough for m without the query's own.
        scores: of the same shape, float32: what the dense match says of each.
    """

    name: str
    gallery: Encoded
    queries: Encoded
    depth: int
    order: NDArray[np.int64]
    scores: NDArray[np.float32]

    def lists(
        self,
        *,
        grid: tuple[int, int] = (7, 7),
        kept: int = 16,
        forced: bool = False,
        taken_out: bool = False,
        weight: float = 1.0,
    ) -> Lists:
        """What the graph would see.

        Args:
            grid: rows and columns of the map.
            kept: k; at most as many as the gallery has.
            forced: put the query's product in the last place where it is missing, for training.
            taken_out: without each query's product: searches for what is not there.
            weight: see `Lists`.
        """
        names = np.asarray(self.gallery.products)
        items = len(names) - (_most(names) if taken_out else 0)
        depth, k = min(self.depth, items), min(kept, self.depth, items)
        shape = (len(self.queries.products), k)
        inputs = np.zeros((*shape, grid[0] * grid[1], len(INPUTS)), np.float16)
        same, order, place = np.zeros(shape, bool), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        dense = np.zeros((shape[0], depth), np.float32)
        for n, product in enumerate(self.queries.products):
            own = names == product
            listed = ~own[self.order[n]] if taken_out else np.ones(self.order.shape[1], bool)
            short, scores = self.order[n][listed][:depth], self.scores[n][listed][:depth]
            places = np.argsort(-scores, kind="stable")
            dense[n], place[n] = scores[places], places[:k]
            best = short[places[:k]]
            if forced and not own[best].any() and own.any():
                best[-1] = np.flatnonzero(own)[0]
            photo, shown = _tensor(self.queries.cells[n]), _tensor(self.gallery.cells[best])
            seen = node_inputs(photo, shown, grid=grid, tints=self._tints(n, best))
            inputs[n], same[n], order[n] = seen.numpy(), own[best], best
        return Lists(self.name, inputs, same, order, place, dense, weight)

    def _tints(self, query: int, items: NDArray[np.int64]) -> Tints | None:
        asked, shown = self.queries.tints, self.gallery.tints
        return None if asked is None or shown is None else (_tensor(asked[query]), _tensor(shown[items]))


def find_shortlists(name: str, gallery: Encoded, queries: Encoded, *, candidates: int = 200) -> Shortlists:
    """Run the stages before the graph.

    Args:
        name: of the set.
        gallery, queries: both sides.
        candidates: depth of stage one's shortlist.
    """
    names = np.asarray(gallery.products)
    shape = (len(queries.products), min(candidates + _most(names), len(names)))
    order, scores = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
    for n, embedding in enumerate(queries.embeddings):
        order[n] = np.argsort(-(gallery.embeddings @ embedding), kind="stable")[: shape[1]]
        photo, shown = _tensor(queries.cells[n])[None], _tensor(gallery.cells[order[n]])
        scores[n] = dense_similarity(photo, shown).numpy()
    return Shortlists(name, gallery, queries, candidates, order, scores)


def _most(names: NDArray[np.str_]) -> int:
    """Items of the product that has the most of them."""
    return int(np.unique(names, return_counts=True)[1].max())


def _tensor(cells: Floats) -> Tensor:
    return torch.from_numpy(np.asarray(cells, np.float32))
