"""Fine-granular aggregator (FGA): the cells of a map to slots at several granularities.

Letters  B photos, P positions of the map, C channels of a cell, g granularity, K_g its slots, D numbers of a slot
Paper    Zhu et al., "Fashion Image Retrieval with Multi-Granular Alignment", arXiv 2302.08902: that there is such a
         module, what it is for, and its name. Its equations are not public: those here are this project's design.

    b_g[k,p] = -|pos_p - mu_g,k|^2 / (2 sigma_g,k^2)       a soft window; mu and sigma learn
    A_g      = softmax_p(F U_g + b_g)                      where each slot looks
    Z_g      = LN(A_g F) (I + W_g),  rows of unit length   the slots

U and W begin at zero: an untrained slot is the mean of a soft window. Weights that are departures from the identity
decay towards it, so what few garments teach stays little.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from threadmatch.model.alignment.config import AlignmentConfig, Grid

FIRST_WIDTH = 0.35
"""sigma at the start, in sides of a slot's part of the photo."""
LEAST_WIDTH = 0.02
"""Of a window, in sides of the photo: none closes on a point between cells."""


def centres(grid: Grid) -> Tensor:
    """(rows * columns, 2) x and y of the middles of a grid's parts, row by row, in 0..1."""
    rows, columns = grid
    y, x = torch.meshgrid((torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns, indexing="ij")
    return torch.stack([x, y], dim=-1).view(-1, 2)


def window_prior(centre: Tensor, width: Tensor, positions: Tensor) -> Tensor:
    """(K, P) of b: (K, 2) centres, (K,) widths and (P, 2) positions, all in sides of the photo."""
    squared = (positions[None] - centre[:, None]).square().sum(dim=-1)  # (K, P)
    return -squared / (2 * width.clamp(min=LEAST_WIDTH).square()[:, None])


def aggregate(cells: Tensor, attention: Tensor, weight: Tensor) -> Tensor:
    """Slots of one granularity.

        Z = LN(A F) (I + W), rows of unit length

    Args:
        cells: (B, P, C) F.
        attention: (B, K, P) A.
        weight: (C, D) I + W.

    Returns:
        (B, K, D).
    """
    pooled = attention @ cells  # (B, K, C)
    return F.normalize(F.layer_norm(pooled, pooled.shape[-1:]) @ weight, dim=-1)


class FineGranularAggregator(nn.Module):
    """The parameters of all granularities.

    Args:
        config: sizes.
    """

    positions: Tensor

    def __init__(self, config: AlignmentConfig) -> None:
        super().__init__()
        self.config = config
        middles = [centres((side, side)) for side in config.sides]
        widths = [torch.full((side * side,), FIRST_WIDTH / side) for side in config.sides]
        self.centre = nn.Parameter(torch.cat(middles))  # (K, 2)
        self.width = nn.Parameter(torch.cat(widths))  # (K,)
        self.look = nn.Parameter(torch.zeros(config.channels, config.slots))  # U of all granularities
        shape = (len(config.sides), config.channels, config.slot_channels)
        self.departure = nn.Parameter(torch.zeros(shape))  # W_g
        self.register_buffer("positions", centres(config.grid), persistent=False)
        self.register_buffer("identity", torch.eye(*shape[1:]), persistent=False)
        if config.aggregation == "windows":
            for fixed in (self.centre, self.width, self.look):
                fixed.requires_grad_(False)

    def attention(self, cells: Tensor) -> Tensor:
        """(B, P, C) cells -> (B, K, P): where each slot of all granularities looks; each row sums to 1."""
        logits = cells @ self.look + self.prior().T  # (B, P, K)
        return logits.transpose(1, 2).softmax(dim=-1)

    def prior(self) -> Tensor:
        """(K, P) of b."""
        return window_prior(self.centre, self.width, self.positions)

    def forward(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """(B, P, C) cells -> (B, K, D) slots, coarse to fine, and (B, K, P) where they look."""
        attention = self.attention(cells)
        weights = self.identity + self.departure  # type: ignore[operator]
        levels = zip(self.config.spans, weights, strict=True)
        slots = [aggregate(cells, attention[:, start:end], weight) for (start, end), weight in levels]
        return torch.cat(slots, dim=1), attention
