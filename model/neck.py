"""From a region's channels, or a cell's, to the vector that a gallery keeps.

Letters  B images, R regions, C channels of the last map, K of the vector that comes out, m cells to fit on
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

    def forward(self, regions: Tensor) -> Tensor:
        """(..., C and those of the taps) -> (..., K)."""
        last, *taps = regions.split(self._split, dim=-1)
        return self.joined(self.last(last), taps)

    def joined(self, last: Tensor, taps: Sequence[Tensor]) -> Tensor:
        """(..., K) of `last` and the maps' own channels -> (..., K)."""
        joined: Tensor = self.join(self.column(last, taps))
        return joined

    def column(self, last: Tensor, taps: Sequence[Tensor]) -> Tensor:
        """What `join` reduces: every part of unit length, so that the maps count alike."""
        projected = [layer(part) for layer, part in zip(self.components, taps, strict=True)]
        return torch.cat([F.normalize(part, dim=-1) for part in (last, *projected)], dim=-1)


class CellSpace(nn.Module):
    """From a cell behind the neck to the numbers that are kept of it:    y = A^T (x / |x| - mean), made unit length.

    Args:
        channels: C of a cell behind the neck.
        kept: K.
    """

    mean: Tensor
    axes: Tensor

    def __init__(self, channels: int, kept: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("axes", torch.eye(channels, kept))

    def forward(self, cells: Tensor) -> Tensor:
        """(..., C) of any length -> (..., K) unit vectors; a zero vector of what is left stays one."""
        return F.normalize((F.normalize(cells, dim=-1) - self.mean) @ self.axes, dim=-1)

    @torch.no_grad()
    def fit(self, cells: Tensor, *, flattened: float) -> None:
        """Take the directions in which cells differ most, the strongest of them held back.

        Args:
            cells: (m, C) of garments that no figure is measured on, of any length.
            flattened: each axis is divided by its variance to half this power: 0 keeps cosines as they are, 1 whitens.
        """
        kept = self.axes.shape[1]
        unit = F.normalize(cells.double(), dim=-1)
        mean = unit.mean(dim=0)
        centred = unit - mean
        variance, vectors = torch.linalg.eigh(centred.T @ centred / len(unit))  # ascending
        variance, vectors = variance.flip(0)[:kept].clamp(min=1e-9), vectors.flip(1)[:, :kept]
        signs = torch.sign(vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True)))  # the same on every machine
        self.mean.copy_(mean)
        self.axes.copy_(vectors * signs * variance.pow(-flattened / 2))


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
