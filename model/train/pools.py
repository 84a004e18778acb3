"""Features of a labelled set as tensors, and what people refused: what the head learns from.

Letters  n images, C channels, R regions
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from model.train.features import EncodedSet


@dataclass(frozen=True, slots=True)
class Pools:
    """Tensors of an encoded set: pooled (n, C) and regions (n, R, C) of the bare backbone, and the products."""

    pooled: Tensor
    regions: Tensor
    products: list[str]

    @classmethod
    def of(cls, encoded: EncodedSet) -> Pools:
        return cls(
            torch.from_numpy(encoded.embeddings),
            torch.from_numpy(encoded.regions),
            [image.product_id for image in encoded.images],
        )

    @classmethod
    def joined(cls, parts: list[Pools]) -> Pools:
        """One set of several."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            torch.cat([one.pooled for one in parts]),
            torch.cat([one.regions for one in parts]),
            [product for one in parts for product in one.products],
        )


@dataclass(frozen=True, slots=True)
class PairPools:
    """A gallery and its queries.

    Fields:
        refused: by query position the gallery positions that somebody said are not it; the head's first negatives.
    """

    gallery: Pools
    queries: Pools
    refused: Mapping[int, Sequence[int]] = field(default_factory=dict)
