"""Features of one side of a labelled set as tensors: what the head learns from.

Letters  n images, C channels, R regions, E embedding size
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from threadmatch.model.data.encoded import EncodedSet
from threadmatch.model.grnet import GRNet

EVERY = slice(None)


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """Tensors of an encoded set, and the products.

    Fields:
        pooled, regions: (n, C) and (n, R, C) of the bare backbone, or with `projected` what neck and embedding make of
            them, which then stay as they are: a seventh of the memory at the sizes of the model that ships.
    """

    pooled: Tensor
    regions: Tensor
    products: list[str]
    projected: bool = False

    @classmethod
    def of(cls, encoded: EncodedSet) -> FeatureSet:
        return cls(
            torch.from_numpy(encoded.embeddings),
            torch.from_numpy(encoded.regions),
            [image.product_id for image in encoded.images],
        )

    @classmethod
    def joined(cls, parts: list[FeatureSet]) -> FeatureSet:
        """One set of several."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            torch.cat([one.pooled for one in parts]),
            torch.cat([one.regions for one in parts]),
            [product for one in parts for product in one.products],
            parts[0].projected,
        )

    def vectors(self, network: GRNet, at: Tensor | slice = EVERY) -> tuple[Tensor, Tensor]:
        """(n, E) unit embeddings and (n, R, C) regions as the head takes them, of all images or some."""
        pooled, regions = self.pooled[at], self.regions[at].float()
        return (pooled, regions) if self.projected else network.project(pooled, regions)

    def embeddings(self, network: GRNet) -> Tensor:
        """(n, E) unit embeddings."""
        return self.pooled if self.projected else network.embed(self.pooled)
