"""What a backbone makes of photos, and where it lies in the channels of one map.

Letters  B images, C channels, h x w the map, E channels of a pooled output
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Looked:
    """What a backbone makes of a batch.

    Fields:
        feature_map: (B, C, h, w), with taps (B, C + their channels, h, w).
        pooled: (B, E), the network's own; None where it has none.
        stages: maps that were to be kept: number -> (B, C', h', w').
        beside: (B, C'', h, w), what cells read as well (`Backbone.accompany`); None where there is nothing.
    """

    feature_map: Tensor
    pooled: Tensor | None = None
    stages: Mapping[int, Tensor] = field(default_factory=dict)
    beside: Tensor | None = None

    @property
    def whole(self) -> Tensor:
        """(B, C + taps + C'', h, w): the map and what is beside it."""
        return self.feature_map if self.beside is None else torch.cat([self.feature_map, self.beside], dim=1)


@dataclass(frozen=True, slots=True)
class Layout:
    """What lies where in the channels of `Looked.whole`.

    Fields:
        channels: C, of the last map.
        map_channels: of it and of the taps behind it.
        companion: of the companion's last map, where there is one.
    """

    channels: int
    map_channels: int
    companion: slice | None = None

    def looked(self, whole: Tensor) -> Looked:
        """(B, all channels, h, w) -> what `Backbone.look` gave, less the stages that were to be kept."""
        own = whole[:, : self.map_channels]
        if self.companion is None:
            return Looked(own)
        return Looked(
            own, means(whole[:, : self.channels], whole[:, self.companion]), beside=whole[:, self.map_channels :]
        )


def means(*maps: Tensor) -> Tensor:
    """The mean of each map's channels, one map's behind the other's."""
    return torch.cat([one.mean((2, 3)) for one in maps], dim=1)
