"""Tokens of a transformer as a feature map: each stands for a square of the photo, so they lie in rows like cells.

Letters  B images, S image side, C channels, h x w the grid of tokens, N = h w, E channels of the pooled output
Paper    Dosovitskiy et al., ICLR 2021 (ViT); Darcet et al., ICLR 2024 (registers, which stand before the tokens like
         the class token and show no place)
"""

from __future__ import annotations

import math
from abc import abstractmethod

from torch import Tensor, nn

from threadmatch.model.errors import ConfigError


class TokenBody(nn.Module):
    """Base of the bodies that give a map and a pooled output of their own."""

    @abstractmethod
    def see(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) normalised pixels -> (B, N, C) tokens of places alone, or a (B, C, h, w) map; (B, E) pooled."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) normalised pixels -> (B, C, h, w) map, (B, E) the network's own pooled output."""
        seen, pooled = self.see(images)
        return seen if seen.ndim == 4 else as_map(seen), pooled


def as_map(tokens: Tensor) -> Tensor:
    """(B, N, C) tokens of a square grid, row by row -> (B, C, h, w).

    Raises:
        ConfigError: they form no square.
    """
    count = tokens.shape[1]
    side = math.isqrt(count)
    if side * side != count:
        raise ConfigError(f"this network gives {count} tokens a photo, which form no square; another one is needed")
    feature_map: Tensor = tokens.transpose(1, 2).unflatten(2, (side, side))
    return feature_map
