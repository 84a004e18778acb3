"""Ways to score a query against candidates, all behind one protocol, so that each can be measured beside the others.

Paper    Kuang et al., ICCV 2019: Eq. 1 (global), Eq. 2 and 3 (greedy local), Eq. 4 to 8 (GRNet)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from threadmatch.model.color import ColorMatcher
from threadmatch.model.config import GRNetConfig
from threadmatch.model.engine import Engine
from threadmatch.model.errors import ConfigError
from threadmatch.model.grnet import SimilarityHead
from threadmatch.model.similarity import global_similarity, greedy_similarity


class PairMatcher(Protocol):
    """Scores pairs of region sets; higher is more alike."""

    def score(self, query: Tensor, candidates: Tensor) -> Tensor:
        """(R, C) and (n, R, C), float16 or float32 -> (n,) float32."""
        ...


class GlobalMatcher:
    """Cosine of the global regions (Eq. 1)."""

    def score(self, query: Tensor, candidates: Tensor) -> Tensor:
        return global_similarity(query[None, 0].float(), candidates[:, 0].float())


class GreedyMatcher:
    """Mean cosine of each query region's best partner (Eq. 2 and 3).

    Args:
        grids: rows and columns of each scale.
    """

    def __init__(self, grids: Sequence[tuple[int, int]]) -> None:
        self.grids = grids

    def score(self, query: Tensor, candidates: Tensor) -> Tensor:
        return greedy_similarity(query[None].float(), candidates.float(), grids=self.grids)


class LiteralMatcher:
    """GRNet by `SimilarityHead.forward`, equation by equation; slow, the reference.

    Args:
        head: the trained head.
        chunk_pairs: pairs at a time, bounding memory.
    """

    def __init__(self, head: SimilarityHead, *, chunk_pairs: int = 64) -> None:
        self.head = head.eval()
        self.chunk_pairs = chunk_pairs

    @torch.inference_mode()
    def score(self, query: Tensor, candidates: Tensor) -> Tensor:
        scores = [
            self.head(query[None].float().expand(len(chunk), -1, -1), chunk.float())
            for chunk in candidates.split(self.chunk_pairs)
        ]
        return torch.cat(scores) if scores else torch.empty(0)


def build_matcher(name: str, config: GRNetConfig, head: SimilarityHead) -> PairMatcher:
    """Build one by name: "grnet", "grnet_literal", "global", "greedy" or "color", which reads `color_regions`.

    `kpm.KPMMatcher` keeps the protocol too; it is built from its own trained head, by `kpm.load_kpm`.

    Raises:
        ConfigError: the name is unknown.
    """
    if name == "grnet":
        return Engine(head)
    if name == "grnet_literal":
        return LiteralMatcher(head)
    if name == "global":
        return GlobalMatcher()
    if name == "greedy":
        return GreedyMatcher(config.grids)
    if name == "color":
        return ColorMatcher()
    raise ConfigError(f"matcher {name!r} is unknown, expected grnet, grnet_literal, global, greedy or color")
