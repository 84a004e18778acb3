"""Which cells decided a match, for matchers that add what each cell of the photo says.

Letters  N items, P cells of the photo's map (h w), K numbers a cell
"""

from __future__ import annotations

import torch
from torch import Tensor

from threadmatch.model.explain import Evidence


def partners_of(photo: Tensor, items: Tensor) -> Tensor:
    """The cell of each item that each cell of the photo found: (P, K) and (N, P, K) -> (N, P)."""
    return (items @ photo.T).argmax(dim=1)


def heaviest(said: Tensor, partners: Tensor, *, grid: tuple[int, int], top: int) -> list[Evidence]:
    """The `top` cells that say most; weights are parts of all that speaks for the match.

    Args:
        said: (P,) of one item; negative speaks against it.
        partners: (P,) see `partners_of`.
        grid: rows and columns of the cells.
        top: how many.
    """
    rows, columns = grid
    for_it = said.clamp(min=0)
    whole = float(for_it.sum()) or 1.0
    return [
        Evidence(
            scale=f"{rows}x{columns}",
            query_region=int(cell),
            item_region=int(partners[cell]),
            weight=float(for_it[cell]) / whole,
            edge=0.0,
            contribution=float(said[cell]),
        )
        for cell in said.argsort(descending=True)[:top]
    ]


def heat_of(said: Tensor, partners: Tensor, *, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """What each cell of the photo adds beyond the one that adds least, and each cell of the item by its partners.

    Args:
        said: (N, P).
        partners: (N, P).
        grid: h and w.

    Returns:
        (N, h, w) twice, 0 or more.
    """
    more = (said - said.amin(dim=1, keepdim=True)).clamp(min=0)
    of_item = torch.zeros_like(more).scatter_reduce(1, partners, more, reduce="amax")
    return more.view(-1, *grid), of_item.view(-1, *grid)
