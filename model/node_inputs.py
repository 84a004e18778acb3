"""What the sparse graph knows of a node: how alike a cell of the photo and its partner in the item are, and where.

Letters  n items of one photo's shortlist, P cells of the map (49), K numbers a cell, F numbers a node

A node is a cell i of the photo with its best partner j in the item. None of its numbers says what the cells look like,
only how alike they are, so that nothing of the garments trained on can be learned by heart. How alike their colours are
is known where the photo's and the items' tints are given (`model.tints`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

Grid = tuple[int, int]

PAIR_INPUTS: Final = (
    "cosine", "margin", "mutual", "mutual_gap", "same_place", "backwards", "dx", "dy", "distance", "partner_border",
)  # fmt: skip
"""Of a cell and its partner: their cosine; that less the second best's; whether the partner's best is this cell, and
by how much it is not; the cosine with the cell at the same place; what the item's cell here finds at best in the photo;
how far the partner lies, as shares of a side; how much the partner looks like the item's rim."""
PHOTO_INPUTS: Final = ("off_centre", "border", "alone", "spread")
"""Of a cell of the photo, whatever the item: how far from the middle; how much it looks like the photo's rim, and like
the photo's cells in the mean; how much its cosine differs from item to item."""
RIVAL_INPUTS: Final = ("above_mean", "above_best_other", "standing", "share_beaten")
"""Of an item among the others of the shortlist, at this cell: its cosine less their mean, less the best other's, in
deviations, and the share of them it beats."""
TINT_INPUTS: Final = ("tint", "light")
"""How far a cell's colour lies from its partner's: the root of the distance in a* and b*, since a step between two pale
tints says as much as one between bright ones that is many times as wide, and the distance in L*; both about 0 to 2.
Zeros where no tints are given."""
INPUTS: Final = (*PAIR_INPUTS, *PHOTO_INPUTS, *RIVAL_INPUTS, *TINT_INPUTS)

TINT_REACH: Final = 40.0
LIGHT_REACH: Final = 50.0
"""Beyond so much a difference counts no more: what is covered, and what another light blots out, must not decide."""
Tints = tuple[Tensor, Tensor]
"""(3, P) of the photo and (n, 3, P) of the items, as `tints.tints_of` gives them."""


@lru_cache(maxsize=16)
def centres(grid: Grid) -> Tensor:
    """(P, 2) x and y of each cell's middle, in -0.5..0.5, row by row."""
    rows, columns = grid
    places = [
        ((column + 0.5) / columns - 0.5, (row + 0.5) / rows - 0.5) for row in range(rows) for column in range(columns)
    ]
    return torch.tensor(places, dtype=torch.float32)


def node_inputs(query: Tensor, items: Tensor, *, grid: Grid, tints: Tints | None = None) -> Tensor:
    """The inputs of every node of one photo against each item of its shortlist.

    Args:
        query: (P, K) cells of the photo, float32, unit vectors, row by row.
        items: (n, P, K) of the items, likewise.
        grid: rows and columns of the map.
        tints: colours of both sides' cells; None where they are not known.

    Returns:
        (n, P, F) in the order of INPUTS.
    """
    place, share = centres(grid).to(query.device), _rim_share(grid).to(query.device)
    pair, at = _pair_inputs(query, items, place, share)
    photo = _photo_inputs(query, pair[0], place, share)
    photo_of_each = [values.expand(len(items), -1) for values in photo]
    # Input by input in memory, since whoever reads them takes one after the other.
    return torch.stack([*pair, *photo_of_each, *_rival_inputs(pair[0]), *_tint_inputs(tints, at)]).movedim(0, -1)


def _pair_inputs(query: Tensor, items: Tensor, place: Tensor, share: Tensor) -> tuple[list[Tensor], Tensor]:
    """(P, K), (n, P, K), (P, 2), (P,) -> (n, P) each of the pair inputs, and (n, P) the partners."""
    n, cells, channels = items.shape
    cosines = (query @ items.reshape(-1, channels).T).view(-1, n, cells)  # (P of the photo, n, P of the item)
    best, at = cosines.max(dim=2)  # (P, n); not topk, which takes ten times as long
    others = cosines.scatter(2, at[..., None], -torch.inf) if cells > 1 else cosines
    second = others.amax(dim=2)  # (P, n)
    back = cosines.amax(dim=0)  # (n, P of the item): what each cell of the item finds at best
    best, at, second = best.T.contiguous(), at.T.contiguous(), second.T  # (n, P) each
    back_of_partner = back.gather(1, at)
    around = F.normalize(share @ items, dim=-1)  # (n, K): what lies around the item
    like_rim = (items @ around[..., None])[..., 0]  # (n, P of the item)
    moved = place[at] - place  # (n, P, 2)
    inputs = [
        best,
        best - second,
        (best >= back_of_partner).float(),
        best - back_of_partner,
        cosines.diagonal(dim1=0, dim2=2),
        back,
        moved[..., 0],
        moved[..., 1],
        moved.norm(dim=-1),
        like_rim.gather(1, at),
    ]
    return inputs, at


def _photo_inputs(query: Tensor, cosine: Tensor, place: Tensor, share: Tensor) -> list[Tensor]:
    """(P, K), (n, P), (P, 2), (P,) -> (P,) each of the photo inputs."""
    around = F.normalize(share @ query, dim=-1)
    spread = cosine.std(dim=0) if len(cosine) > 1 else torch.zeros_like(query[:, 0])
    return [place.norm(dim=-1), query @ around, query @ query.mean(dim=0), spread]


def _rival_inputs(cosine: Tensor) -> list[Tensor]:
    """(n, P) -> (n, P) each of the rival inputs; zeros where there is no rival."""
    n = len(cosine)
    if n < 2:
        return [torch.zeros_like(cosine)] * len(RIVAL_INPUTS)
    above, deviation = cosine - cosine.mean(dim=0), cosine.std(dim=0)
    top = cosine.topk(2, dim=0).values
    best_other = torch.where(cosine >= top[0], top[1], top[0])
    beaten = cosine.argsort(dim=0).argsort(dim=0) / (n - 1)
    return [above, cosine - best_other, above / (deviation + 1e-3), beaten]


def _tint_inputs(tints: Tints | None, at: Tensor) -> list[Tensor]:
    """(n, P) each of the tint inputs.

    Args:
        tints: of both sides, or None.
        at: (n, P) partners.
    """
    if tints is None:
        return [torch.zeros(at.shape, device=at.device)] * len(TINT_INPUTS)
    photo, items = tints
    apart = photo - items.gather(2, at[:, None].expand(-1, 3, -1))  # (n, 3, P)
    tint = apart[:, 1:].square().sum(dim=1).sqrt().clamp(max=TINT_REACH)
    light = apart[:, 0].abs().clamp(max=LIGHT_REACH)
    return [(2 * tint / TINT_REACH).sqrt(), 2 * light / LIGHT_REACH]


@lru_cache(maxsize=16)
def rim(grid: Grid) -> Tensor:
    """(m,) int64: the outermost cells."""
    place = centres(grid).abs()
    return (place >= place.amax(dim=0) - 1e-6).any(dim=-1).nonzero()[:, 0]


@lru_cache(maxsize=16)
def _rim_share(grid: Grid) -> Tensor:
    """(P,) float32: each cell's part in the mean of the outermost ones."""
    outermost = rim(grid)
    return torch.zeros(grid[0] * grid[1]).index_fill(0, outermost, 1 / len(outermost))
