"""Multi-granular alignment as matchers over slots.

Letters  N items, K slots, P positions (h x w the map), D numbers of a slot, E embedding size
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from threadmatch.model.alignment.config import SLOT_MAPS, SLOTS
from threadmatch.model.alignment.part import AlignmentPart, fused_embedding
from threadmatch.model.explain import Evidence, Explanation
from threadmatch.model.features import EMBEDDING
from threadmatch.model.matching import Items, Photo
from threadmatch.model.region_matchers import tensor

CHUNK_ITEMS = 512
SEEN_SHARE = 0.5
"""A slot's box holds the cells of its window that weigh at least this part of the heaviest."""


class MGAMatcher:
    """Scores by aligned slots and global vectors: -1..1.

    Args:
        part: trained, on the device.
        device: "cpu" or "cuda".
    """

    name = "mga"
    needs = frozenset({EMBEDDING, SLOTS, SLOT_MAPS})
    calibrated = False
    explains = True
    pointwise = True
    cost = 0.02

    def __init__(self, part: AlignmentPart, *, device: str = "cpu") -> None:
        self.part, self._device = part.eval(), device
        self._boxes = _boxes(part)

    @torch.inference_mode()
    def score_many(self, queries: Sequence[Photo], candidates: Sequence[Items]) -> list[NDArray[np.float32]]:
        """See `Matcher.score_many`."""
        return [self._scores(query, items) for query, items in zip(queries, candidates, strict=True)]

    def _scores(self, query: Photo, items: Items) -> NDArray[np.float32]:
        align = self.part.alignment
        photo, vector = self._of(query, SLOTS)[None], self._of(query, EMBEDDING)
        chunks = zip(
            self._of(items, SLOTS).split(CHUNK_ITEMS), self._of(items, EMBEDDING).split(CHUNK_ITEMS), strict=True
        )
        scores = [align.score(align.levels(photo, slots), (own @ vector)[None])[0] for slots, own in chunks]
        found: NDArray[np.float32] = torch.cat(scores).float().cpu().numpy()
        return found

    def region_boxes(self) -> NDArray[np.float32]:
        """(K, 4) x0, y0, x1, y1 of each slot's window in 0..1 of the crop; where it looks in one photo says `heat`."""
        return self._boxes

    @torch.inference_mode()
    def evidence(self, query: Photo, candidates: Items, *, top: int = 5) -> list[Explanation]:
        """The pairs of slots that add most to each score, which their sum and the global vectors' cosine make.

        The pair of whole photos is left out where there are finer ones. `edge` is how much of the photo's slot the
        pair takes. `before` is what slots at the same place would say, without alignment.
        """
        shares, sides = self._shares(query, candidates), self.part.config.sides
        own = [share / share.clamp(min=0).sum(dim=-1, keepdim=True).clamp(min=1e-9) for share in shares]
        cosines = torch.einsum("kd,nkd->nk", self._of(query, SLOTS), self._of(candidates, SLOTS))
        whole = 1 if sides[0] == 1 and len(sides) > 1 else 0
        told = []
        for n in range(len(cosines)):
            after = [
                Evidence(_scale(side), start + i, start + j, 0.0, float(edge[n, i, j]), float(share[n, i, j]))
                for (start, _), side, share, edge in zip(self.part.config.spans, sides, shares, own, strict=True)
                for i, j in np.ndindex(side * side, side * side)
            ][whole:]
            same = [
                Evidence(_scale(side), k, k, 0.0, 0.0, float(cosines[n, k]))
                for (start, end), side in zip(self.part.config.spans, sides, strict=True)
                for k in range(start, end)
            ][whole:]
            told.append(Explanation(before=_heaviest(same, top), after=_heaviest(after, top)))
        return told

    @torch.inference_mode()
    def heat(self, query: Photo, candidates: Items) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What the slots of either photo add, where each of them looks: (N, h, w) twice, 0 or more."""
        shares = [share.clamp(min=0) for share in self._shares(query, candidates)]
        of_photo, of_items = (torch.cat([share.sum(dim=side) for share in shares], dim=1) for side in (2, 1))  # (N, K)
        looked, shown = self._of(query, SLOT_MAPS), self._of(candidates, SLOT_MAPS)
        grid = self.part.config.grid
        photo = (of_photo @ looked.clamp(min=0)).view(-1, *grid)
        items = torch.einsum("nk,nkp->np", of_items, shown.clamp(min=0)).view(-1, *grid)
        return photo.cpu().numpy(), items.cpu().numpy()

    def _shares(self, query: Photo, items: Items) -> list[Tensor]:
        """For each granularity (N, K_g, K_g): what each pair of slots adds to the score."""
        align = self.part.alignment
        shares = align.shares(self._of(query, SLOTS)[None], self._of(items, SLOTS))
        return [weight * share[0] for weight, share in zip(align.weights(), shares, strict=False)]

    def _of(self, of: Photo | Items, name: str) -> Tensor:
        return tensor(of[name]).to(self._device, torch.float32)


class MGAEmbeddingMatcher:
    """Cosine of the one vector that the slots and the embedding make (`part.fused_embedding`): stage one by MGA.

    Args:
        part: trained.
    """

    name = "mga_embedding"
    needs = frozenset({EMBEDDING, SLOTS})
    calibrated = False
    explains = False
    pointwise = True
    cost = 0.02

    def __init__(self, part: AlignmentPart) -> None:
        self._spans = part.config.spans

    @torch.inference_mode()
    def score_many(self, queries: Sequence[Photo], candidates: Sequence[Items]) -> list[NDArray[np.float32]]:
        """See `Matcher.score_many`."""
        scored = []
        for query, items in zip(queries, candidates, strict=True):
            photo = {name: query[name][None] for name in self.needs}
            [asked, held] = (
                fused_embedding(tensor(of[EMBEDDING]).float(), tensor(of[SLOTS]).float(), self._spans)
                for of in (photo, items)
            )
            scored.append((held @ asked[0]).numpy())
        return scored


def _heaviest(said: Sequence[Evidence], top: int) -> list[Evidence]:
    """The `top` that say most; weights are parts of all that speaks for the match."""
    whole = sum(max(0.0, one.contribution or 0.0) for one in said) or 1.0
    best = sorted(said, key=lambda one: -(one.contribution or 0.0))[:top]
    return [
        Evidence(
            scale=one.scale,
            query_region=one.query_region,
            item_region=one.item_region,
            weight=max(0.0, one.contribution or 0.0) / whole,
            edge=one.edge,
            contribution=one.contribution,
        )
        for one in best
    ]


def _scale(side: int) -> str:
    return f"{side}x{side}"


@torch.inference_mode()
def _boxes(part: AlignmentPart) -> NDArray[np.float32]:
    """(K, 4) around the cells that weigh most in each slot's window."""
    rows, columns = part.config.grid
    window = part.aggregator.prior().softmax(dim=1)
    seen = (window >= SEEN_SHARE * window.amax(dim=1, keepdim=True)).view(-1, rows, columns)
    boxes = []
    for cells in seen:
        y, x = cells.nonzero(as_tuple=True)
        boxes.append([int(x.min()) / columns, int(y.min()) / rows, int(x.max() + 1) / columns, int(y.max() + 1) / rows])
    return np.asarray(boxes, np.float32)
