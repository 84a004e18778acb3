"""GoogLeNet, the paper's backbone, in both of its forms up to the last map.

Letters  B images, C channels
Paper    Szegedy et al., CVPR 2015; the backbone of GRNet sec. 5.1
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TorchvisionGoogLeNet(nn.Module):
    """torchvision's GoogLeNet (batch norm, 3x3 in place of 5x5) up to inception 5b."""

    ORDER = (
        "conv1", "maxpool1", "conv2", "conv3", "maxpool2", "inception3a", "inception3b", "maxpool3", "inception4a",
        "inception4b", "inception4c", "inception4d", "inception4e", "maxpool4", "inception5a", "inception5b",
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import googlenet  # seconds to import, and only this backbone needs it

        network = googlenet(weights=None, aux_logits=False, init_weights=False, transform_input=False)
        for name in self.ORDER:
            self.add_module(name, getattr(network, name))

    def forward(self, images: Tensor) -> Tensor:
        for stage in self.stages():
            images = stage(images)
        return images

    def stages(self) -> list[nn.Module]:
        """Its layers and inception blocks, in order."""
        return [getattr(self, name) for name in self.ORDER]


class _Inception(nn.Module):
    """One block of the original GoogLeNet: 1x1, 1x1-3x3, 1x1-5x5 and pool-1x1 side by side."""

    def __init__(self, channels: int, widths: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        b1, b3r, b3, b5r, b5, bp = widths
        self.b1 = nn.Conv2d(channels, b1, 1)
        self.b3r, self.b3 = nn.Conv2d(channels, b3r, 1), nn.Conv2d(b3r, b3, 3, padding=1)
        self.b5r, self.b5 = nn.Conv2d(channels, b5r, 1), nn.Conv2d(b5r, b5, 5, padding=2)
        self.bp = nn.Conv2d(channels, bp, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(
            [
                self.b1(x),
                self.b3(self.b3r(x).relu()),
                self.b5(self.b5r(x).relu()),
                self.bp(F.max_pool2d(x, 3, 1, padding=1)),
            ],
            dim=1,
        ).relu()


class OriginalGoogLeNet(nn.Module):
    """GoogLeNet in its 2015 Caffe form: biased convolutions, ReLU, local response norm, no batch norm."""

    WIDTHS: ClassVar[
        dict[str, tuple[int, tuple[int, int, int, int, int, int]]]
    ] = {  # input channels; b1, b3r, b3, b5r, b5, bp
        "i3a": (192, (64, 96, 128, 16, 32, 32)),
        "i3b": (256, (128, 128, 192, 32, 96, 64)),
        "i4a": (480, (192, 96, 208, 16, 48, 64)),
        "i4b": (512, (160, 112, 224, 24, 64, 64)),
        "i4c": (512, (128, 128, 256, 24, 64, 64)),
        "i4d": (512, (112, 144, 288, 32, 64, 64)),
        "i4e": (528, (256, 160, 320, 32, 128, 128)),
        "i5a": (832, (256, 160, 320, 32, 128, 128)),
        "i5b": (832, (384, 192, 384, 48, 128, 128)),
    }

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3)
        self.conv2r = nn.Conv2d(64, 64, 1)
        self.conv2 = nn.Conv2d(64, 192, 3, padding=1)
        for name, (channels, widths) in self.WIDTHS.items():
            self.add_module(name, _Inception(channels, widths))

    def forward(self, x: Tensor) -> Tensor:
        x = _norm(_pool(self.conv1(x).relu()))
        x = _pool(_norm(self.conv2(self.conv2r(x).relu()).relu()))
        for name in self.WIDTHS:
            if name in ("i4a", "i5a"):
                x = _pool(x)
            x = getattr(self, name)(x)
        return x


def _pool(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, 2, ceil_mode=True)


def _norm(x: Tensor) -> Tensor:
    return F.local_response_norm(x, size=5, alpha=1e-4, beta=0.75, k=1.0)
