"""timm's networks as bodies of a backbone: convolutional ones give a map, transformers a map of their tokens.

Letters  B images, S image side, C channels, h x w the map, E channels of the pooled output
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from threadmatch.model.errors import ConfigError
from threadmatch.model.tokens import TokenBody

TIMM_PREFIX = "timm:"


def create_network(name: str, **more: Any) -> nn.Module:
    """A network of timm without its classifier: a transformer with the pooling it was trained with, others without.

    Args:
        name: as timm knows it, with or without the tag of its weights.
        more: arguments of `timm.create_model`, such as `pretrained` and what a network's own folder says of its form.

    Raises:
        ConfigError: timm knows no such network; near ones are named.
    """
    import timm  # seconds to import, and only these networks need it

    try:
        network: nn.Module = timm.create_model(name, **{**more, "num_classes": 0, "global_pool": ""})
        if is_transformer(network):
            network = timm.create_model(name, **{**more, "num_classes": 0})
    except (RuntimeError, ValueError, TypeError) as error:
        near = ", ".join(timm.list_models(f"*{name[:12]}*")[:5]) or "see timm.list_models()"
        raise ConfigError(f"timm knows no model {name!r} ({error}); near: {near}") from error
    return network


def is_transformer(network: nn.Module) -> bool:
    """Whether it gives tokens: then timm says how many of them show no place."""
    return hasattr(network, "num_prefix_tokens")


def resize_input(network: nn.Module, image_px: int) -> None:
    """Let a transformer see other photos than it was trained on: its position embeddings are resized.

    Raises:
        ConfigError: it cannot.
    """
    settings: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    patches: Any = getattr(network, "patch_embed", None)
    now = tuple(getattr(patches, "img_size", None) or settings["input_size"][1:])
    if now == (image_px, image_px):
        return
    patch = getattr(patches, "patch_size", (1, 1))
    if image_px % patch[0] or image_px % patch[1]:
        near = max(patch[0], round(image_px / patch[0]) * patch[0])
        raise ConfigError(
            f"image_px is {image_px}, but this network cuts photos into squares of {patch[0]} pixels; take {near}"
        )
    if not hasattr(network, "set_input_size"):
        raise ConfigError(f"image_px is {image_px}, but this network sees photos of {now[0]} pixels only; take that")
    network.set_input_size(img_size=(image_px, image_px))  # type: ignore[operator]


class TimmBody(nn.Module):
    """timm's `forward_features`, refused where it gives tokens instead of a map."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._channels_last = getattr(network, "output_fmt", "NCHW") == "NHWC"

    def forward(self, images: Tensor) -> Tensor:
        feature_map: Tensor = self.network.forward_features(images)  # type: ignore[operator]
        if feature_map.ndim != 4:
            raise ConfigError(
                f"this backbone gives {tuple(feature_map.shape)}, expected a (B, C, h, w) map or a transformer that "
                "says which of its tokens show no place; take another one"
            )
        return feature_map.permute(0, 3, 1, 2) if self._channels_last else feature_map

    def stages(self) -> list[nn.Module]:
        """EfficientNets: stem, groups of blocks, head; ResNets: stem, layer1 to layer4; any other network is one."""
        if parts := self._parts("conv_stem", "bn1", "blocks", "conv_head", "bn2"):
            stem, stem_norm, blocks, head, head_norm = parts
            assert isinstance(blocks, nn.Sequential), "timm keeps an EfficientNet's groups in one chain"
            return [nn.Sequential(stem, stem_norm), *blocks, nn.Sequential(head, head_norm)]
        if parts := self._parts("conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "layer3", "layer4"):
            return [nn.Sequential(*parts[:4]), *parts[4:]]
        return [self]

    def _parts(self, *names: str) -> list[nn.Module]:
        """The network's parts of these names; none unless all are there."""
        parts = [getattr(self.network, name, None) for name in names]
        return [part for part in parts if isinstance(part, nn.Module)] if None not in parts else []


class TimmTokens(TokenBody):
    """A transformer of timm: its tokens without class token and registers, and what its classifier would read.

    Args:
        network: of `create_network`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def see(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See `TokenBody.see`."""
        seen: Tensor = self.network.forward_features(images)  # type: ignore[operator]
        pooled: Tensor = self.network.forward_head(seen, pre_logits=True)  # type: ignore[operator]
        return (seen if seen.ndim == 4 else seen[:, self.network.num_prefix_tokens :]), pooled
