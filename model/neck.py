"""From a region's channels to the vector that a gallery keeps.

Letters  B images, R regions, C channels of the last map, K of the vector that comes out
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class HypercolumnNeck(nn.Module):
    """A neck over the last map and maps of earlier stages: each projected and made unit length, joined, and reduced.

    Only `last` learns. `taps` are whitened principal components and `join` keeps the leading ones of the three together
    (`train.phases.principal_components`): directions that nobody fitted to the garments trained on, beside one that
    was.

    Args:
        channels: C.
        tap_channels: of each earlier map; at most K components of each are kept.
        out: K.
    """

    def __init__(self, channels: int, tap_channels: Sequence[int], out: int) -> None:
        super().__init__()
        self._split = [channels, *tap_channels]
        self.last = linear(channels, out)
        self.taps = nn.ModuleList(linear(own, min(own, out)).requires_grad_(False) for own in tap_channels)
        self.join = linear(out + sum(min(own, out) for own in tap_channels), out, bias=False).requires_grad_(False)

    @property
    def components(self) -> list[nn.Linear]:
        """The layers of the earlier maps."""
        return list(self.taps)  # type: ignore[arg-type]

    @property
    def layers(self) -> list[nn.Linear]:
        """All that project a map: the last one's, then those of the others."""
        return [self.last, *self.components]

    def parts_of(self, regions: Tensor) -> tuple[Tensor, ...]:
        """(..., C and those of the taps) -> each map's own, the last one's first."""
        parts: tuple[Tensor, ...] = regions.split(self._split, dim=-1)
        return parts

    def forward(self, regions: Tensor) -> Tensor:
        """(..., C and those of the taps) -> (..., K)."""
        last, *taps = self.parts_of(regions)
        return self.joined(self.last(last), taps)

    def joined(self, last: Tensor, taps: Sequence[Tensor]) -> Tensor:
        """(..., K) of `last` and the maps' own channels -> (..., K)."""
        joined: Tensor = self.join(self.column(last, taps))
        return joined

    def column(self, last: Tensor, taps: Sequence[Tensor]) -> Tensor:
        """What `join` reduces: every part of unit length, so that the maps count alike."""
        projected = [layer(part) for layer, part in zip(self.components, taps, strict=True)]
        return torch.cat([F.normalize(part, dim=-1) for part in (last, *projected)], dim=-1)


Neck = nn.Linear | HypercolumnNeck


def build_neck(out: int, channels: int, tap_channels: Sequence[int]) -> Neck | None:
    """The neck of a backbone; None without `out` channels."""
    if not out:
        return None
    return HypercolumnNeck(channels, tap_channels, out) if tap_channels else linear(channels, out)


def learned_layer(neck: Neck) -> nn.Linear:
    """The part of a neck that training fits."""
    return neck.last if isinstance(neck, HypercolumnNeck) else neck


def linear(channels_in: int, channels_out: int, *, bias: bool = True) -> nn.Linear:
    """A linear layer that begins orthogonal, its bias at zero."""
    layer = nn.Linear(channels_in, channels_out, bias=bias)
    nn.init.orthogonal_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
