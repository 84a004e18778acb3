"""A function of two tensors as a matcher: greedy matching of regions, and the graph as the paper writes it.

Letters  R regions, C channels, N items
Paper    Kuang et al., ICCV 2019: Eq. 2 and 3 (greedy local)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from threadmatch.model.coded import Coded
from threadmatch.model.engine import in_chunks
from threadmatch.model.features import REGIONS
from threadmatch.model.grnet import SimilarityHead
from threadmatch.model.matching import Floats, Items, Photo
from threadmatch.model.similarity import greedy_similarity

GREEDY_CHUNK_PAIRS = 128  # so little work a pair that the graph's small chunks would take twice as long
LITERAL_CHUNK_PAIRS = 64


class FeatureMatcher:
    """A function of two tensors as a matcher.

    Args:
        name: of the matcher.
        feature: that it reads.
        score: (B or 1, *shape) of photos and (B, *shape) of items, float32 on the device -> (B,).
        device: where to compute.
        chunk_pairs: pairs computed at a time.
        calibrated: see `Matcher`.
    """

    explains = False
    pointwise = True
    cost = 0.05

    def __init__(
        self,
        name: str,
        feature: str,
        score: Callable[[Tensor, Tensor], Tensor],
        *,
        device: str = "cpu",
        chunk_pairs: int = GREEDY_CHUNK_PAIRS,
        calibrated: bool = False,
    ) -> None:
        self.calibrated = calibrated
        self.name, self.feature, self.needs = name, feature, frozenset({feature})
        self._score, self._device, self._chunk_pairs = score, torch.device(device), chunk_pairs

    @torch.inference_mode()
    def score_many(self, queries: Sequence[Photo], candidates: Sequence[Items]) -> list[NDArray[np.float32]]:
        """See `Matcher.score_many`."""
        photos = [tensor(query[self.feature]) for query in queries]
        items = [tensor(each[self.feature]) for each in candidates]
        scored = in_chunks(self._score, photos, items, device=self._device, chunk_pairs=self._chunk_pairs)
        return [scores.numpy() for scores in scored]


class GreedyMatcher(FeatureMatcher):
    """Mean cosine of each query region's best partner of the same scale (Eq. 2 and 3), -1..1.

    Args:
        grids: rows and columns of each scale.
    """

    def __init__(self, grids: Sequence[tuple[int, int]], *, device: str = "cpu") -> None:
        super().__init__("greedy", REGIONS, lambda q, g: greedy_similarity(q, g, grids=grids), device=device)


class LiteralMatcher(FeatureMatcher):
    """GRNet by `SimilarityHead.forward`, equation by equation; slow, the reference.

    Args:
        head: the trained head.
    """

    def __init__(self, head: SimilarityHead, *, device: str = "cpu", chunk_pairs: int = LITERAL_CHUNK_PAIRS) -> None:
        own = head.eval()
        super().__init__(
            "grnet_literal",
            REGIONS,
            lambda q, g: own(q.expand(len(g), -1, -1), g),
            device=device,
            chunk_pairs=chunk_pairs,
        )


def tensor(values: Floats | NDArray[np.uint8] | NDArray[np.int8] | Coded) -> Tensor:
    """Wrap without a copy, but for read-only arrays, such as those over a database's bytes: torch warns of them.

    What is coded becomes float32.
    """
    if isinstance(values, Coded):
        return tensor(values.codes).float().mul_(tensor(values.scales)[..., None])  # mixed types take torch far longer
    return torch.from_numpy(values if values.flags.writeable else values.copy())
