"""EfficientNet-Lite with timm's names and numbers, built without it: importing timm adds 2 s of a core to each start.

Letters  B images, C channels, h x w the map
Paper    Tan and Le, ICML 2019 (EfficientNet); Sandler et al., CVPR 2018 (the inverted residual block); Hu et al., CVPR
         2018 (squeeze and excitation)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from torch import Tensor, nn
from torch.nn import functional as F

Activation = Callable[[], nn.Module]


@dataclass(frozen=True, slots=True)
class Group:
    """Blocks in a row.

    Fields:
        kind: "cn" a convolution; "ds" depthwise, then pointwise; "er" a wide convolution, then a pointwise one; "ir"
            the inverted residual: pointwise, depthwise, pointwise.
        repeats, kernel, stride: how many blocks, the side of their kernel, and the stride of the first.
        expansion: how many times wider a block is inside.
        channels: C that it gives.
        squeeze: share of the channels it takes to which squeeze and excitation narrows; 0 for none.
    """

    kind: str
    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int
    squeeze: float = 0.0


@dataclass(frozen=True, slots=True)
class Form:
    """A network of this family.

    Fields:
        groups: in order.
        stem, head: channels of the first and of the last convolution.
        same: TensorFlow's padding and epsilon, else torch's.
        activation: of all its parts.
        mean, std: of the pixels it takes, per channel, in 0..1.
    """

    groups: tuple[Group, ...]
    stem: int
    head: int
    same: bool
    activation: Activation
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def _lite(repeats: Sequence[int], channels: Sequence[int]) -> Form:
    first, *rest = zip(repeats, (3, 3, 5, 3, 5, 5, 3), (1, 2, 2, 2, 1, 2, 1), channels, strict=True)
    kinds = [("ds", 1, first), *(("ir", 6, one) for one in rest)]
    groups = tuple(Group(kind, count, kernel, stride, wider, c) for kind, wider, (count, kernel, stride, c) in kinds)
    return Form(groups, 32, 1280, True, lambda: nn.ReLU6(inplace=True), (0.5,) * 3, (0.5,) * 3)


FORMS: Final[dict[str, Form]] = {
    "tf_efficientnet_lite0": _lite((1, 2, 2, 3, 3, 4, 1), (16, 24, 40, 80, 112, 192, 320)),
    "tf_efficientnet_lite2": _lite((1, 3, 3, 4, 4, 5, 1), (16, 24, 48, 88, 120, 208, 352)),
    # the least network that has every kind of block: what tests start again and again
    "test_efficientnet": Form(
        (
            Group("cn", 1, 3, 1, 1, 16),
            Group("er", 1, 3, 2, 4, 24),
            Group("er", 1, 3, 2, 4, 32),
            Group("ir", 1, 3, 2, 4, 48, squeeze=0.25),
            Group("ir", 1, 3, 2, 4, 64, squeeze=0.25),
        ),
        24, 256, False, lambda: nn.SiLU(inplace=True), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225),
    ),
}  # fmt: skip
"""By timm's names."""
STRIDE: Final = 32


class EfficientNet(nn.Module):
    """Stem, groups of blocks and a last pointwise convolution.

    Args:
        form: one of FORMS, or another of this family.
    """

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.num_features = form.head
        build = _Builder(form)
        self.conv_stem = build.convolution(3, form.stem, 3, stride=2)
        self.bn1 = build.norm(form.stem)
        _SqueezeExcite(8, 8, nn.Identity())  # drawn and thrown away, as timm does: so a seed gives the same network
        groups, channels = [], form.stem
        for group in form.groups:
            blocks = []
            for number in range(group.repeats):
                blocks.append(_Block(build, group, channels, stride=1 if number else group.stride))
                channels = group.channels
            groups.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*groups)
        self.conv_head = build.convolution(channels, form.head, 1)
        self.bn2 = build.norm(form.head)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                _initialise(module)

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised pixels -> (B, C, h, w)."""
        x: Tensor = self.blocks(self.bn1(self.conv_stem(images)))
        x = self.bn2(self.conv_head(x))
        return x


class _NormAct(nn.BatchNorm2d):
    """Batch norm with its activation, under one name."""

    def __init__(self, channels: int, epsilon: float, activation: nn.Module) -> None:
        super().__init__(channels, eps=epsilon)
        self.act = activation

    def forward(self, x: Tensor) -> Tensor:
        activated: Tensor = self.act(super().forward(x))
        return activated


class _SameConvolution(nn.Conv2d):
    """With a stride, padded as TensorFlow does: h cells become ceil(h / stride), the odd row of zeros below.

    Padding of k - s + (-h mod s) in all, for s = stride <= k = kernel.
    """

    def forward(self, x: Tensor) -> Tensor:
        down, across = (
            k - s + -side % s for side, k, s in zip(x.shape[-2:], self.kernel_size, self.stride, strict=True)
        )
        padded = F.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2))
        return F.conv2d(padded, self.weight, self.bias, self.stride, groups=self.groups)


class _SqueezeExcite(nn.Module):
    """Each channel times a gate that is read off the means of all."""

    def __init__(self, channels: int, kept: int, activation: nn.Module) -> None:
        super().__init__()
        self.conv_reduce = nn.Conv2d(channels, kept, 1)
        self.act1 = activation
        self.conv_expand = nn.Conv2d(kept, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.conv_expand(self.act1(self.conv_reduce(x.mean((2, 3), keepdim=True)))).sigmoid()
        return x * gate


class _Builder:
    """Makes the parts of one form."""

    def __init__(self, form: Form) -> None:
        self._same, self.activation = form.same, form.activation

    def convolution(self, channels: int, out: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
        """Without a bias, for a norm follows."""
        kind = _SameConvolution if self._same and stride > 1 else nn.Conv2d
        padding = 0 if kind is _SameConvolution else kernel // 2
        return kind(channels, out, kernel, stride=stride, padding=padding, groups=groups, bias=False)

    def norm(self, channels: int, *, active: bool = True) -> nn.Module:
        """With the activation behind it, or none."""
        return _NormAct(channels, 1e-3 if self._same else 1e-5, self.activation() if active else nn.Identity())


class _Block(nn.Module):
    """One block of a group: its parts in order, and the shortcut around them where the sides are alike."""

    def __init__(self, build: _Builder, group: Group, channels: int, *, stride: int) -> None:
        super().__init__()
        kernel, out, wide = group.kernel, group.channels, channels * group.expansion
        self.has_skip = stride == 1 and channels == out and group.kind != "cn"
        match group.kind:
            case "cn":
                self.conv = build.convolution(channels, out, kernel, stride=stride)
                self.bn1 = build.norm(out)
            case "ds":
                self.conv_dw = build.convolution(channels, channels, kernel, stride=stride, groups=channels)
                self.bn1 = build.norm(channels)
                self.conv_pw = build.convolution(channels, out, 1)
                self.bn2 = build.norm(out, active=False)
            case "er":
                self.conv_exp = build.convolution(channels, wide, kernel, stride=stride)
                self.bn1 = build.norm(wide)
                self.conv_pwl = build.convolution(wide, out, 1)
                self.bn2 = build.norm(out, active=False)
            case _:
                self.conv_pw = build.convolution(channels, wide, 1)
                self.bn1 = build.norm(wide)
                self.conv_dw = build.convolution(wide, wide, kernel, stride=stride, groups=wide)
                self.bn2 = build.norm(wide)
                if group.squeeze:
                    self.se = _SqueezeExcite(wide, round(channels * group.squeeze), build.activation())
                self.conv_pwl = build.convolution(wide, out, 1)
                self.bn3 = build.norm(out, active=False)

    def forward(self, x: Tensor) -> Tensor:
        through = x
        for part in self.children():
            through = part(through)
        return through + x if self.has_skip else through


def _initialise(convolution: nn.Conv2d) -> None:
    """Normal, of variance 2 over the outputs that a weight reaches; TensorFlow's, and timm's."""
    k, l = convolution.kernel_size  # noqa: E741
    reached = k * l * convolution.out_channels // convolution.groups
    nn.init.normal_(convolution.weight, 0, math.sqrt(2 / reached))
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
