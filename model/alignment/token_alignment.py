"""Attention-based token alignment (ATA): the slots of two photos aligned, coarse to fine.

Letters  Q photos, N items, g granularity, K_g its slots, D numbers of a slot; x, y a slot of the photo, of the item
Paper    Zhu et al., arXiv 2302.08902: the name, and that features are aligned at several granularities, coarse to fine.
         Its equations are not public: those here are this project's design.

    S_g   = softmax_j( t_g x_i (I + M_g) y_j + b_g log( (R_g S_(g-1) R_g^T)_ij + eps ) )   the coarser level as a bias
    y~_i  = sum_j S_g[i,j] y_j                                                           the item as the photo asks it
    e_g   = mean_i cos(x_i, y~_i), and the same from the item to the photo; their mean
    score = sum_g a_g e_g + a_0 cos(c_x, c_y),  a = softmax of learned numbers; c the global vectors

Values are the slots themselves, so nothing of an item is computed before the photo is known but x (I + M): once a
photo, not once a pair. And |y~_i|^2 = S G S^T with G = y y^T, so y~ is never written down.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from threadmatch.model.alignment.aggregator import centres
from threadmatch.model.alignment.config import AlignmentConfig

EPSILON = 1e-2
"""eps: with 0 a pair that the coarse level rules out could never come."""
FIRST_BINDING = 0.1
"""b at the start: how much the coarse level binds the finer one. In a photo cut at the chest it points wrong."""
FIRST_SCALE = 25.0
"""t at the start: cosines of slots of one photo differ by a tenth or two. 10 to 40 did alike on `val`."""
FIRST_MIXING = 3.0
"""Of the finest level at the start, where the others have zero: untrained it is right most often."""


def finer_by_coarser(fine: int, coarse: int) -> Tensor:
    """R: which coarse slots a fine one belongs to, by how near their centres are.

    Args:
        fine, coarse: sides of the grids.

    Returns:
        (fine^2, coarse^2), rows sum to 1.
    """
    gap = centres((fine, fine))[:, None] - centres((coarse, coarse))[None]
    return (-gap.square().sum(dim=-1) * (2 * coarse**2)).softmax(dim=1)


def coarse_bias(coarser: Tensor, belongs: Tensor) -> Tensor:
    """log(R S R^T + eps) of the level above: (..., K', K') S and (K, K') R -> (..., K, K)."""
    return (belongs @ coarser @ belongs.T + EPSILON).log()


def aligned_cosines(aligned: Tensor, cosines: Tensor, gram: Tensor) -> Tensor:
    """What each pair of slots adds to cos(x_i, y~_i).

        cos(x_i, y~_i) = sum_j S_ij x_i.y_j / sqrt(sum_jk S_ij G_jk S_ik)

    Args:
        aligned: (..., K, K) S.
        cosines: (..., K, K) x_i.y_j.
        gram: (..., K, K) G of the y.

    Returns:
        (..., K, K) terms of the sum.
    """
    squared = ((aligned @ gram) * aligned).sum(dim=-1, keepdim=True)
    return aligned * cosines / squared.clamp(min=1e-8).sqrt()


class TokenAlignment(nn.Module):
    """The parameters of all granularities, and the score.

    Args:
        config: sizes.
    """

    def __init__(self, config: AlignmentConfig) -> None:
        super().__init__()
        self.config = config
        levels, d = len(config.sides), config.slot_channels
        self.departure = nn.Parameter(torch.zeros(levels, d, d))  # M_g
        self.log_scale = nn.Parameter(torch.full((levels,), math.log(FIRST_SCALE)))
        first = [0.0] * (levels - 1) + [FIRST_MIXING, 0.0]
        self.binding = nn.Parameter(torch.full((levels,), FIRST_BINDING))  # b_g; the coarsest level has no use for its
        self.mixing = nn.Parameter(torch.tensor(first))  # the last is that of the global vectors
        for n, (fine, coarse) in enumerate(zip(config.sides[1:], config.sides, strict=False), 1):
            self.register_buffer(f"belongs_{n}", finer_by_coarser(fine, coarse), persistent=False)
        if config.alignment == "same_slot":
            self.departure.requires_grad_(False)
            self.log_scale.requires_grad_(False)
            self.binding.requires_grad_(False)

    def shares(self, query: Tensor, items: Tensor) -> list[Tensor]:
        """What each pair of slots adds to the level's similarity e_g.

        Args:
            query: (Q, K, D) unit slots.
            items: (N, K, D) unit slots.

        Returns:
            For each granularity (Q, N, K_g, K_g): photo's slot by item's slot; the sum over both is e_g.
        """
        found: list[Tensor] = []
        there: Tensor | None = None
        back: Tensor | None = None
        for level, (start, end) in enumerate(self.config.spans):
            x, y = query[:, start:end], items[:, start:end]
            cosines = _across(x, y)  # (Q, N, K_g, K_g)
            if self.config.alignment == "same_slot":
                found.append(cosines * torch.eye(end - start, device=x.device) / (end - start))
                continue
            scale, departure = self.log_scale[level].exp(), self.departure[level]
            asks = scale * (cosines + _across(x @ departure, y))
            asked = scale * (cosines + _across(x @ departure.T, y)).transpose(2, 3)
            if there is not None and back is not None:
                belongs: Tensor = getattr(self, f"belongs_{level}")
                asks = asks + self.binding[level] * coarse_bias(there, belongs)
                asked = asked + self.binding[level] * coarse_bias(back, belongs)
            there, back = asks.softmax(dim=-1), asked.softmax(dim=-1)
            forth = aligned_cosines(there, cosines, (y @ y.transpose(1, 2))[None])
            home = aligned_cosines(back, cosines.transpose(2, 3), (x @ x.transpose(1, 2))[:, None])
            found.append((forth + home.transpose(2, 3)) / (2 * (end - start)))
        return found

    def levels(self, query: Tensor, items: Tensor) -> Tensor:
        """(g, Q, N) of e_g: (Q, K, D) and (N, K, D) slots, every photo with every item."""
        return torch.stack([share.sum(dim=(2, 3)) for share in self.shares(query, items)])

    def weights(self) -> Tensor:
        """(g + 1,) of a, the last for the global vectors; they sum to 1."""
        return self.mixing.softmax(dim=0)

    def score(self, levels: Tensor, cosine: Tensor) -> Tensor:
        """(Q, N): (g, Q, N) similarities of the levels and (Q, N) of the global vectors, weighed."""
        return torch.einsum("g,gqn->qn", self.weights(), torch.cat([levels, cosine[None]]))


def _across(x: Tensor, y: Tensor) -> Tensor:
    """(Q, K, D) and (N, K, D) -> (Q, N, K, K) products of every slot with every slot, by one matrix product."""
    (q, k, d), (n, m, _) = x.shape, y.shape
    products = x.reshape(q * k, d) @ y.reshape(n * m, d).T  # (Q * K, N * K)
    return products.view(q, k, n, m).transpose(1, 2)
