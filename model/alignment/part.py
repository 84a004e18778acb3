"""Multi-granular alignment as a part of a model, and the embedding that its slots give.

Letters  B photos, P positions, C channels of a cell, K slots, D numbers of a slot, E embedding size
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from threadmatch.model.alignment.aggregator import FineGranularAggregator
from threadmatch.model.alignment.config import SLOT_MAPS, SLOTS, AlignmentConfig
from threadmatch.model.alignment.token_alignment import TokenAlignment
from threadmatch.model.features import FeatureSpec
from threadmatch.model.part import Part, Seen


class AlignmentPart(Part):
    """FGA and ATA over a network's cells.

    Args:
        config: sizes; cells and embedding are those of the network that it is attached to.
    """

    name = "alignment"

    def __init__(self, config: AlignmentConfig) -> None:
        super().__init__()
        self.config = config
        self.aggregator = FineGranularAggregator(config)
        self.alignment = TokenAlignment(config)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> AlignmentPart:
        """Build from `settings`; ConfigError for what is not known."""
        return cls(AlignmentConfig.from_dict(settings))

    @property
    def settings(self) -> dict[str, Any]:
        """See `Part`."""
        return self.config.to_dict()

    @property
    def specs(self) -> tuple[FeatureSpec, ...]:
        """See `Part`."""
        config = self.config
        return (
            FeatureSpec(SLOTS, (config.slots, config.slot_channels), "int8"),
            FeatureSpec(SLOT_MAPS, (config.slots, config.positions), "int8"),
        )

    def forward(self, seen: Seen) -> dict[str, Tensor]:
        """See `Part`."""
        slots, maps = self.aggregator(seen.cells)
        return {SLOTS: slots, SLOT_MAPS: maps}


def fused_embedding(embedding: Tensor, slots: Tensor, spans: Sequence[tuple[int, int]]) -> Tensor:
    """One vector a photo for stage one: the global vector, and the mean slot of each finer granularity.

        [ c ; mean Z_2 ; mean Z_4 ], each of unit length

    Args:
        embedding: (B, E) unit vectors c.
        slots: (B, K, D).
        spans: of each granularity; the coarsest is left out where there are others.

    Returns:
        (B, E + D * granularities) unit vectors.
    """
    finer = spans[1:] or spans
    pooled = [F.normalize(slots[:, start:end].mean(dim=1), dim=-1) for start, end in finer]
    return F.normalize(torch.cat([embedding, *pooled], dim=-1), dim=-1)
