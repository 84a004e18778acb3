"""Backbones behind one form: images in, last feature map out, with maps of earlier stages if asked for.

Letters  B images, S image side, C channels, h x w the map, E channels of a pooled output
Paper    Hariharan et al., CVPR 2015 (hypercolumns: earlier maps beside the last)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from threadmatch.model.cutting import Fronts, Rests, Scale, Tapped
from threadmatch.model.efficientnet import FORMS, EfficientNet
from threadmatch.model.errors import ConfigError
from threadmatch.model.googlenet import OriginalGoogLeNet, TorchvisionGoogLeNet
from threadmatch.model.looked import Layout, Looked, means
from threadmatch.model.pyramid import averaged_to
from threadmatch.model.timm_networks import (
    TIMM_PREFIX,
    TimmBody,
    TimmTokens,
    create_network,
    is_transformer,
    resize_input,
)

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5,) * 3
LITE_MEAN, LITE_STD = (127 / 255,) * 3, (128 / 255,) * 3
PROBE_PX = 64
"""Side of the image that tells how many channels each stage has."""


class Backbone(nn.Module):
    """A network with its own pixel scaling.

    Args:
        body: (B, 3, S, S) float normalised pixels -> (B, C, h, w), or that and the pooled output (`tokens.TokenBody`).
        channels: C.
        pooled_channels: E of a body that has a pooled output of its own, 0 for others.
        mean, std: of the normalised pixels, per channel, in 0..1.

    Fields:
        taps: stages whose maps follow the last one's channels, averaged to its grid.
        tap_channels: of each.
        grid: rows and columns that the last map is averaged to, where there are no taps; () keeps it as it is.
        companion: another network that looks at the same photos (`accompany`).
        further: stages of this one whose maps lie beside with those of the companion.
        beside_channels: of each map that lies there.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        body: nn.Module,
        *,
        channels: int,
        pooled_channels: int = 0,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.body = body
        self.channels = channels
        self.pooled_channels = pooled_channels
        self.grid: tuple[int, int] | tuple[()] = ()
        self.taps: tuple[int, ...] = ()
        self.tap_channels: tuple[int, ...] = ()
        self.companion: Backbone | None = None
        self.further: tuple[int, ...] = ()
        self.beside_channels: tuple[int, ...] = ()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1) * 255, persistent=False)

    @property
    def map_channels(self) -> int:
        """Channels of what `forward` gives: C and those of the taps."""
        return self.channels + sum(self.tap_channels)

    @property
    def companion_place(self) -> int:
        """Which of the maps behind the last one is the companion's last."""
        return len(self.tap_channels) + len(self.further)

    @property
    def layout(self) -> Layout:
        """What lies where in what `forward` gives."""
        if self.companion is None:
            return Layout(self.channels, self.map_channels)
        start = self.map_channels + sum(self.beside_channels[: len(self.further)])
        return Layout(self.channels, self.map_channels, slice(start, start + self.companion.channels))

    def tap(self, stages: Sequence[int]) -> Backbone:
        """Let the maps of these stages follow the last one's from now on.

        Args:
            stages: counted from 0 as in `split`, rising, without the last.

        Raises:
            ConfigError: this backbone has no such stages.
        """
        own = self.stages()
        if list(stages) != sorted(set(stages)) or any(not 0 <= n < len(own) - 1 for n in stages):
            can = f"expected rising numbers of 0 to {len(own) - 2}" if len(own) > 1 else "it has its last map alone"
            raise ConfigError(f"maps of stages {list(stages)} are asked for beside this backbone's last; {can}")
        self.taps, self.tap_channels = tuple(stages), ()
        if not stages:
            return self
        channels = self.stage_channels()
        self.tap_channels = tuple(channels[n] for n in stages)
        return self

    def accompany(self, other: Backbone, further: Sequence[int] = ()) -> Backbone:
        """Let another network look at the same photos from now on. Its maps lie beside this one's (`Looked.beside`).

        What is pooled is then the mean of both last maps, so that stage one reads both, too.

        Args:
            other: with its own taps; it scales the pixels itself.
            further: stages of this network, no taps, whose maps lie there as well, first.

        Raises:
            ConfigError: either has a pooled output of its own.
        """
        if self.pooled_channels or other.pooled_channels:
            raise ConfigError("a network with a pooled output of its own can neither have a companion nor be one")
        channels = self.stage_channels() if further else ()
        self.companion, self.further = other, tuple(further)
        self.beside_channels = (*(channels[n] for n in further), other.channels, *other.tap_channels)
        self.pooled_channels = self.channels + other.channels
        return self

    def stage_channels(self) -> tuple[int, ...]:
        """Channels of each stage's map."""
        with torch.no_grad(), _evaluating(self):
            passed = torch.zeros(1, 3, PROBE_PX, PROBE_PX, device=self.mean.device)
            return tuple((passed := stage(passed)).shape[1] for stage in self.stages())

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) values 0..255, uint8 or float -> (B, C, h, w) last convolution activation.

        With taps (B, C + their channels, h, w), and with what lies beside them.
        """
        return self.look(pixels).whole

    def look(self, pixels: Tensor, kept: Sequence[int] = ()) -> Looked:
        """`forward`, and what else the network makes of the images.

        Args:
            pixels: (B, 3, S, S) values 0..255.
            kept: stages counted from 0 as in `split`, whose maps are wanted as they are.
        """
        own = self._look(pixels, {*kept, *self.further})
        if self.companion is None:
            return own
        other, (rows, columns) = self.companion.look(pixels).feature_map, own.feature_map.shape[2:]
        pooled = means(own.feature_map[:, : self.channels], other[:, : self.companion.channels])
        maps = [*(own.stages[n] for n in self.further), other]
        beside = torch.cat([averaged_to(one, (rows, columns)) for one in maps], dim=1)
        return Looked(own.feature_map, pooled, own.stages, beside)

    def _look(self, pixels: Tensor, kept: Collection[int]) -> Looked:
        normalised = (pixels.to(self.mean.dtype) - self.mean) / self.std
        if not self.taps and not kept:
            seen = self.body(normalised)
            feature_map, pooled = seen if isinstance(seen, tuple) else (seen, None)
            if self.grid:
                feature_map = F.adaptive_avg_pool2d(feature_map, self.grid)
            return Looked(feature_map, pooled)
        body = Tapped(self.stages(), self.taps)
        found = body.maps(normalised, {*self.taps, *kept})
        return Looked(body.joined(found), stages={n: found[n] for n in kept})

    def split(self, stage: int) -> tuple[nn.Module, nn.Module]:
        """Cut in two, for fine-tuning the second part alone: rest(front(pixels)) == self(pixels).

        Args:
            stage: how many stages the front has, 0 to the number of stages less one. With 0 it only scales the pixels.

        Returns:
            Front and rest; both share their weights with this backbone. With a companion both networks are cut there,
            and the front's map has the channels of both.

        Raises:
            ConfigError: this backbone has fewer stages, a map that is read lies in the front, or it has a pooled output
                of its own.
        """
        if self.companion is None:
            return self._split(stage, self.taps)
        own, other = self._split(stage, (*self.taps, *self.further)), self.companion.split(stage)
        return Fronts(own[0], other[0]), Rests(own[1], other[1], self.stage_channels()[stage - 1] if stage else 3)

    def _split(self, stage: int, taps: Sequence[int]) -> tuple[nn.Module, nn.Module]:
        """`split` of this network by itself, whose rest gives the maps of these stages behind its last."""
        if (self.pooled_channels and self.companion is None) or self.grid:
            raise ConfigError(
                "this backbone was taken over and stays as it was trained; leave [finetune] and [end_to_end] out and "
                "train the head"
            )
        stages = self.stages()
        if not 0 <= stage < len(stages):
            raise ConfigError(
                f"stage {stage} is asked for, but this backbone can be cut at 0 to {len(stages) - 1} only"
            )
        if any(tap < stage for tap in taps):
            raise ConfigError(f"the maps of stages {sorted(taps)} are read, so stages from {min(taps)} on train")
        front, rest = nn.Sequential(Scale(self.mean, self.std), *stages[:stage]), stages[stage:]
        return front, Tapped(rest, [tap - stage for tap in taps]) if taps else nn.Sequential(*rest)

    def stages(self) -> list[nn.Module]:
        return self.body.stages() if isinstance(self.body, _Staged) else [self.body]


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, and then as before: a probe must not count in a batch norm's statistics."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


@runtime_checkable
class _Staged(Protocol):
    """A body that is a chain of stages."""

    def stages(self) -> list[nn.Module]:
        """In order; their composition is the body."""
        ...


def build_backbone(name: str, *, image_px: int = 0) -> Backbone:
    """Build an untrained backbone; `pretrained.load_pretrained` or a checkpoint fills it.

    Args:
        name: one of BUILDERS, or "timm:<name>", any model that timm knows.
        image_px: S, which a transformer must know; 0 for the one it was trained with.

    Raises:
        ConfigError: the name is unknown; the known ones are listed.
    """
    if name.startswith(TIMM_PREFIX):
        return _from_timm(name.removeprefix(TIMM_PREFIX), image_px=image_px)
    if name not in BUILDERS:
        raise ConfigError(f"backbone {name!r} is unknown, expected one of {', '.join(BUILDERS)} or {TIMM_PREFIX}<name>")
    return BUILDERS[name]()


def _from_timm(
    name: str, mean: tuple[float, ...] | None = None, std: tuple[float, ...] | None = None, *, image_px: int = 0
) -> Backbone:
    if form := FORMS.get(name):
        body = TimmBody(EfficientNet(form))
        return Backbone(body, channels=form.head, mean=mean or form.mean, std=std or form.std)
    network = create_network(name)
    settings: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    return timm_backbone(
        network, mean=mean or tuple(settings["mean"]), std=std or tuple(settings["std"]), image_px=image_px
    )


def timm_backbone(
    network: nn.Module,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    image_px: int = 0,
) -> Backbone:
    """A network of `timm_networks.create_network` as a backbone.

    Args:
        network: taken over, and resized to other photos where it must be.
        mean, std: of the normalised pixels.
        image_px: S, which a transformer must know; 0 for the one it was trained with.
    """
    transformer = is_transformer(network)
    if transformer and image_px:
        resize_input(network, image_px)
    channels: int = network.num_features  # type: ignore[assignment]
    return Backbone(
        (TimmTokens if transformer else TimmBody)(network),
        channels=channels,
        pooled_channels=channels if transformer else 0,
        mean=mean,
        std=std,
    )


BUILDERS: dict[str, Callable[[], Backbone]] = {
    # timm's settings for this name differ from those its ImageNet weights were trained with, (pixel - 127) / 128
    "efficientnet_lite0": lambda: _from_timm("tf_efficientnet_lite0", LITE_MEAN, LITE_STD),
    "efficientnet_lite2": lambda: _from_timm("tf_efficientnet_lite2", LITE_MEAN, LITE_STD),
    # torchvision's transform_input on ImageNet-normalised pixels comes to (pixel - 0.5) / 0.5
    "googlenet": lambda: Backbone(TorchvisionGoogLeNet(), channels=1024, mean=HALF, std=HALF),
    "googlenet_original": lambda: Backbone(OriginalGoogLeNet(), channels=1024),
}
