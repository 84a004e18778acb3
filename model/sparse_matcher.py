"""The sparse graph as a matcher over cells.

Letters  P cells an image (49), K numbers a cell, N items, h x w the map
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from threadmatch.model.cell_evidence import heat_of, heaviest, partners_of
from threadmatch.model.explain import Explanation
from threadmatch.model.features import CELLS, TINTS
from threadmatch.model.matching import Items, Photo, Told
from threadmatch.model.node_inputs import INPUTS, node_inputs
from threadmatch.model.pyramid import region_boxes
from threadmatch.model.region_matchers import tensor
from threadmatch.model.sparse_graph import SparseGraph


class SparseGraphMatcher:
    """Scores by the sparse graph: logits of "same garment".

    Its inputs compare the items with one another, so it is given a photo's whole head of the shortlist at once, and an
    item's score depends on the others.

    Args:
        graph: fitted.
        device: "cpu" or "cuda".
    """

    name = "sparse"
    calibrated = True
    explains = True
    pointwise = False
    cost = 0.5

    def __init__(self, graph: SparseGraph, *, device: str = "cpu") -> None:
        self.graph, self._device = graph, device
        self.needs = frozenset({CELLS, TINTS} if graph.reads_tints else {CELLS})
        self._boxes = region_boxes([graph.grid], *graph.grid).numpy()

    def score_many(self, queries: Sequence[Photo], candidates: Sequence[Items]) -> list[NDArray[np.float32]]:
        """See `Matcher.score_many`."""
        return [told.scores for told in self.tell_many(queries, candidates)]

    @torch.inference_mode()
    def tell_many(self, queries: Sequence[Photo], candidates: Sequence[Items]) -> list[Told]:
        """See `TellingMatcher.tell_many`."""
        told = []
        for query, items in zip(queries, candidates, strict=True):
            inputs = self._inputs(query, items)
            scores, presence = self.graph.score_and_presence(inputs) if len(inputs) else (torch.empty(0), None)
            alone = len(inputs) < 2  # a lone item beats and loses to nobody, and presence reads that
            told.append(Told(_numbers(scores), None if presence is None or alone else _numbers(presence)))
        return told

    def region_boxes(self) -> NDArray[np.float32]:
        """(P, 4) x0, y0, x1, y1 of each cell in 0..1 of the crop."""
        return self._boxes

    @torch.inference_mode()
    def evidence(self, query: Photo, candidates: Items, *, top: int = 5) -> list[Explanation]:
        """The cells that add most to each score, each with its partner; their contributions and the bias are the score.

        The items are compared with one another here as in a search: give all that were scored together, or what an
        item owes to its rivals is not what it was.
        """
        inputs = self._inputs(query, candidates)
        if not len(inputs):
            return []
        given, partners = self.graph.contributions(inputs), self._partners(query, candidates)
        return [
            Explanation(
                before=heaviest(cosines, at, grid=self.graph.grid, top=top),
                after=heaviest(own, at, grid=self.graph.grid, top=top),
            )
            for own, cosines, at in zip(given, inputs[..., INPUTS.index("cosine")], partners, strict=True)
        ]

    @torch.inference_mode()
    def heat(self, query: Photo, candidates: Items) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What each cell of the photo adds, and each cell of the item by its partners: (N, h, w) twice, 0 or more."""
        given = self.graph.contributions(self._inputs(query, candidates))  # (N, P)
        of_photo, of_item = heat_of(given, self._partners(query, candidates), grid=self.graph.grid)
        return of_photo.cpu().numpy(), of_item.cpu().numpy()

    def _inputs(self, query: Photo, items: Items) -> Tensor:
        """(N, P, F) of `node_inputs`."""
        photo, shown = self._cells(query), self._cells(items)
        if not len(shown):
            return torch.empty(0, len(photo), len(INPUTS))
        tints = (self._of(query, TINTS), self._of(items, TINTS)) if TINTS in self.needs else None
        return node_inputs(photo, shown, grid=self.graph.grid, tints=tints)

    def _partners(self, query: Photo, items: Items) -> Tensor:
        """(N, P) the cell of each item that each cell of the photo found."""
        return partners_of(self._cells(query), self._cells(items))

    def _cells(self, of: Photo | Items) -> Tensor:
        return self._of(of, CELLS)

    def _of(self, of: Photo | Items, feature: str) -> Tensor:
        return tensor(of[feature]).to(self._device, torch.float32)


def _numbers(values: Tensor) -> NDArray[np.float32]:
    return np.asarray(values.float().cpu().numpy())
