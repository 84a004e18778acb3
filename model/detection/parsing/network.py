"""A garment parser: the first stages of a backbone, and a light decoder that climbs back to a quarter of the photo.

Letters  B photos, H x W what the network sees, K kinds, D decoder channels
Paper    Tan and Le, ICML 2019 (EfficientNet); Howard et al., ICCV 2019, sec. 6.4 (LR-ASPP: a gate from the pooled map);
         Lin et al., CVPR 2017 (feature pyramid: coarse maps raised and added to finer ones)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from threadmatch.model.backbone import Backbone, build_backbone
from threadmatch.model.detection.parsing.kinds import KINDS

STAGES: Final = 7
"""Stem and groups of blocks of EfficientNet-Lite0 that are kept; what follows tells a thousand classes apart."""
LEVELS: Final = (2, 3, 5, 6)
"""Stages whose maps the decoder reads, finest first: the last ones at strides 4, 8, 16 and 32."""
CHANNELS: Final = (24, 40, 112, 192)
"""Channels of those maps."""
WIDTHS: Final = (64, 96, 128, 160)
"""Decoder channels D at each level."""
STRIDE: Final = 4
"""Pixels of the input that a cell of the answer stands for, each way."""


class Encoder(nn.Module):
    """A chain of stages, some of whose maps are read.

    Args:
        stages: (B, 3, H, W) normalised pixels go in at the first.
        levels: numbers of the stages to read, rising.
        mean, std: (3, 1, 1) of the pixels, in 0..255.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, stages: Sequence[nn.Module], levels: Sequence[int], *, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.levels = tuple(levels)
        self.register_buffer("mean", mean.clone(), persistent=False)
        self.register_buffer("std", std.clone(), persistent=False)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(B, 3, H, W) values 0..255, uint8 or float -> the maps of the levels, finest first."""
        x = (pixels.to(self.mean.dtype) - self.mean) / self.std
        maps = []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number in self.levels:
                maps.append(x)
        return maps


class Decoder(nn.Module):
    """From maps of several strides to kinds at the finest.

    Args:
        channels: of the maps, finest first; each map is half the one before it.
        widths: D at each level, finest first.
        kinds: K.
    """

    def __init__(self, channels: Sequence[int], widths: Sequence[int], kinds: int) -> None:
        super().__init__()
        self.enter = _pointwise(channels[-1], widths[-1])
        self.gate = nn.Conv2d(channels[-1], widths[-1], 1)
        self.lateral = nn.ModuleList(
            nn.Conv2d(c, d, 1, bias=False) for c, d in zip(channels[:-1], widths, strict=False)
        )
        self.narrow = nn.ModuleList(nn.Conv2d(widths[n + 1], widths[n], 1) for n in range(len(widths) - 1))
        self.mix = nn.ModuleList(_separable(d) for d in widths[:-1])
        self.classify = nn.Conv2d(widths[0], kinds, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps, finest first -> (B, K, H / 4, W / 4) logits."""
        deepest = maps[-1]
        gate = self.gate(deepest.mean(dim=(2, 3), keepdim=True)).sigmoid()  # (B, D, 1, 1)
        x: Tensor = self.enter(deepest) * gate
        for level in range(len(maps) - 2, -1, -1):
            raised = F.interpolate(self.narrow[level](x), scale_factor=2.0, mode="bilinear", align_corners=False)
            x = self.mix[level](raised + self.lateral[level](maps[level]))  # (B, D, h, w)
        logits: Tensor = self.classify(x)
        return logits


class Parser(nn.Module):
    """Encoder and decoder."""

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) values 0..255, sides multiples of 32 -> (B, K, H / 4, W / 4) logits."""
        logits: Tensor = self.decoder(self.encoder(pixels))
        return logits


def lite0_parser(backbone: Backbone | None = None) -> Parser:
    """The form that ships, on the first stages of EfficientNet-Lite0.

    Args:
        backbone: an `efficientnet_lite0`, perhaps with weights; its stages become the parser's. None builds one.
    """
    backbone = backbone or build_backbone("efficientnet_lite0")
    encoder = Encoder(backbone.stages()[:STAGES], LEVELS, mean=backbone.mean, std=backbone.std)
    return Parser(encoder, Decoder(CHANNELS, WIDTHS, len(KINDS)))


def kind_probabilities(logits: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """(B, K, h, w) logits -> the same shape, summing to 1 over K."""
    return logits.to(dtype).softmax(dim=1)


def _pointwise(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True))


def _separable(channels: int) -> nn.Sequential:
    """Norm and activation, then a 5 x 5 convolution of each channel, then all channels at each place."""
    return nn.Sequential(
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, channels, 5, padding=2, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        *_pointwise(channels, channels),
    )
