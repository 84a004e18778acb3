"""The parts that a backbone is cut into: stages before a place and stages behind it (`Backbone.split`).

Letters  B images, C channels, h x w the map
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

import torch
from torch import Tensor, nn

from threadmatch.model.errors import ConfigError
from threadmatch.model.pyramid import averaged_to


class Scale(nn.Module):
    """A backbone's pixel scaling alone."""

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels.to(self.mean.dtype) - self.mean) / self.std


class Tapped(nn.Sequential):
    """A chain of stages; the maps of some follow the last one's channels, averaged to its grid."""

    def __init__(self, stages: Sequence[nn.Module], taps: Sequence[int]) -> None:
        super().__init__(*stages)
        self.taps = tuple(taps)

    def forward(self, images: Tensor) -> Tensor:
        return self.joined(self.maps(images, self.taps))

    def maps(self, images: Tensor, kept: Container[int]) -> dict[int, Tensor]:
        """The maps of the stages `kept` and of the last, by number."""
        found: dict[int, Tensor] = {}
        for number, stage in enumerate(self):
            images = stage(images)
            if number in kept or number == len(self) - 1:
                found[number] = images
        return found

    def joined(self, found: Mapping[int, Tensor]) -> Tensor:
        last = found[len(self) - 1]
        rows, columns = last.shape[2:]
        averaged = (averaged_to(found[n], (rows, columns)) for n in self.taps)
        return torch.cat([last, *averaged], dim=1)


class Fronts(nn.Module):
    """The fronts of two networks that look at the same photos: their maps, one's channels behind the other's."""

    def __init__(self, own: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.own, self.other = own, other

    def forward(self, pixels: Tensor) -> Tensor:
        own, other = self.own(pixels), self.other(pixels)
        if own.shape[2:] != other.shape[2:]:
            raise ConfigError(
                f"the joined networks have maps of {tuple(own.shape[2:])} and {tuple(other.shape[2:])} there; cut them "
                "at a stage where both are of one size, or train each by itself and join them again (docs/training.md)"
            )
        return torch.cat([own, other], dim=1)


class Rests(nn.Module):
    """The rests of two networks, from the maps of `Fronts` on; gives what the whole backbone does."""

    def __init__(self, own: nn.Module, other: nn.Module, channels: int) -> None:
        super().__init__()
        self.own, self.other = own, other
        self._channels = channels

    def forward(self, maps: Tensor) -> Tensor:
        own, other = self.own(maps[:, : self._channels]), self.other(maps[:, self._channels :])
        rows, columns = own.shape[2:]
        return torch.cat([own, averaged_to(other, (rows, columns))], dim=1)
