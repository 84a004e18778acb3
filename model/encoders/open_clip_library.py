"""The image side of CLIPs: `open_clip:FOLDER`, `open_clip:ORGANISATION/MODEL` of the hub, `open_clip:ARCHITECTURE/TAG`.

A folder is as open_clip writes it for the hub: open_clip_config.json and open_clip_model.safetensors.

Letters  B images, S image side, N tokens, C channels, E channels of the pooled output
Paper    Radford et al., ICML 2021 (CLIP); Zhai et al., ICCV 2023 (SigLIP, whose image side is one of timm's)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from threadmatch.model.backbone import Backbone
from threadmatch.model.config import GRNetConfig
from threadmatch.model.encoder_config import EncoderConfig
from threadmatch.model.encoders.library import Trained, Wanted, at_size, needed
from threadmatch.model.errors import CheckpointError, ConfigError
from threadmatch.model.framing import Fit, Framing
from threadmatch.model.timm_networks import is_transformer, resize_input
from threadmatch.model.tokens import TokenBody

PREFIX: Final = "open_clip:"
EXTRA: Final = "open_clip"
CONFIG, WEIGHTS = "open_clip_config.json", ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_FITS: Final[dict[str, Fit]] = {"shortest": "crop", "longest": "pad", "squash": "squash"}


class OpenClipTokens(TokenBody):
    """The image side of a CLIP: its tokens, and the vector that it was trained to compare.

    Args:
        visual: of open_clip: a VisionTransformer, a ModifiedResNet or a TimmModel.

    Raises:
        ConfigError: another kind.
    """

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual
        kinds = {"VisionTransformer": self._clip, "ModifiedResNet": self._resnet, "TimmModel": self._timm}
        kind = type(visual).__name__
        if kind not in kinds or getattr(visual, "attn_pool", None) is not None:
            raise ConfigError(f"open_clip's {kind} gives no tokens that lie in rows; expected {', '.join(kinds)}")
        if kind == "VisionTransformer":
            visual.output_tokens = True  # type: ignore[assignment]
        self._see = kinds[kind]

    def see(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See `TokenBody.see`."""
        return self._see(self.visual, images)

    @staticmethod
    def _clip(visual: Any, images: Tensor) -> tuple[Tensor, Tensor]:
        pooled, tokens = visual(images)
        return tokens, pooled

    @staticmethod
    def _resnet(visual: Any, images: Tensor) -> tuple[Tensor, Tensor]:
        seen = visual.stem(images)
        for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
            seen = layer(seen)
        return seen, visual.attnpool(seen)

    @staticmethod
    def _timm(visual: Any, images: Tensor) -> tuple[Tensor, Tensor]:
        seen = visual.trunk.forward_features(images)
        pooled = visual.head(visual.trunk.forward_head(seen))
        if seen.ndim == 4:
            return seen.permute(0, 3, 1, 2) if getattr(visual.trunk, "output_fmt", "NCHW") == "NHWC" else seen, pooled
        if not is_transformer(visual.trunk):
            raise ConfigError("this network of timm does not say which of its tokens show a place; take another one")
        return seen[:, visual.trunk.num_prefix_tokens :], pooled


def open_trained(wanted: Wanted) -> Trained:
    """The network with its weights, its text side left out.

    Raises:
        ConfigError: open_clip is not installed or knows no such model, or it cannot be used.
        CheckpointError: the weights cannot be had.
    """
    open_clip = needed("open_clip", EXTRA)
    model_config, seen, source, weights = _described(open_clip, wanted)
    trained_px = _side(model_config["vision_cfg"].get("image_size", 224))
    image_px = wanted.image_px or trained_px
    try:
        model = open_clip.create_model(source, pretrained=weights, force_image_size=_asked(image_px, trained_px))
    except Exception as error:  # open_clip, the hub and torch raise many kinds; all mean the same to the reader
        raise CheckpointError(
            f"open_clip gives no model for {wanted.name!r} ({type(error).__name__}: {str(error)[:300]})"
        ) from error
    if weights is None and wanted.folder is None and "/" not in wanted.name:
        raise CheckpointError(f"{PREFIX}{wanted.name} names no weights; say {wanted.name}/TAG, or --weights FILE")
    preprocessing = {**open_clip.get_model_preprocess_cfg(model), **seen}
    visual = model.visual
    gelu = any(isinstance(part, open_clip.transformer.QuickGELU) for part in visual.modules())
    architecture = {
        "embed_dim": model_config["embed_dim"],
        "quick_gelu": gelu,
        "vision_cfg": {**model_config["vision_cfg"], "image_size": image_px, "timm_model_pretrained": False},
    }
    encoder = EncoderConfig(
        architecture=architecture,
        mean=tuple(preprocessing["mean"]),
        std=tuple(preprocessing["std"]),
        framing=at_size(_framing(preprocessing), trained_px, image_px),
        own_pooled=True,
    )
    short = wanted.short.removeprefix("hf-hub:")
    backbone = _backbone(visual, encoder, image_px)
    return Trained(f"{PREFIX}{short}", backbone.eval(), image_px, encoder)


def build(config: GRNetConfig) -> Backbone:
    """The network of a checkpoint, its weights still to be read."""
    assert config.encoder is not None
    model = needed("open_clip.model", EXTRA)
    own = config.encoder.architecture
    try:
        visual = model._build_vision_tower(own["embed_dim"], dict(own["vision_cfg"]), own["quick_gelu"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise ConfigError(f"open_clip builds no network of this description ({error!r}): {own!r:.300}") from error
    return _backbone(visual, config.encoder, config.image_px)


def _backbone(visual: Any, encoder: EncoderConfig, image_px: int) -> Backbone:
    if type(visual).__name__ == "TimmModel" and is_transformer(visual.trunk):
        resize_input(visual.trunk, image_px)
    body = OpenClipTokens(visual.float()).eval()
    with torch.inference_mode():
        feature_map, pooled = body(torch.zeros(1, 3, image_px, image_px))
    return Backbone(
        body,
        channels=feature_map.shape[1],
        pooled_channels=pooled.shape[1],
        mean=encoder.mean,
        std=encoder.std,
    )


def _described(open_clip: Any, wanted: Wanted) -> tuple[dict[str, Any], dict[str, Any], str, str | None]:
    """The model's config, its own words on preprocessing, and what open_clip builds it from: a name, and weights."""
    architecture, _, tag = wanted.name.partition("/")
    known: dict[str, Any] | None = open_clip.get_model_config(architecture)
    if wanted.folder is None and known is not None:
        if not tag and wanted.weights is None:
            tags = ", ".join(open_clip.list_pretrained_tags_by_model(architecture)) or "none"
            raise CheckpointError(
                f"{PREFIX}{architecture} names no weights; say {PREFIX}{architecture}/TAG, one of {tags}, or give "
                "--weights FILE"
            )
        return known, {}, architecture, str(wanted.weights or tag)
    folder = wanted.folder or _from_hub(wanted.name.removeprefix("hf-hub:"))
    try:
        described = json.loads((folder / CONFIG).read_text())
        model_config, seen = dict(described["model_cfg"]), dict(described.get("preprocess_cfg", {}))
        model_config["vision_cfg"] = dict(model_config["vision_cfg"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{folder} is no folder of open_clip ({error!r}); expected {CONFIG} with model_cfg, and {WEIGHTS[0]}"
        ) from error
    if wanted.weights is None and not any((folder / name).is_file() for name in WEIGHTS):
        raise CheckpointError(f"{folder} has no {WEIGHTS[0]}; give --weights FILE")
    return model_config, seen, f"local-dir:{folder}", None if wanted.weights is None else str(wanted.weights)


def _from_hub(name: str) -> Path:
    """The folder of the hub's cache that a model lies in."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        config = hf_hub_download(name, CONFIG)
        try:
            hf_hub_download(name, WEIGHTS[0])
        except EntryNotFoundError:  # open_clip reads the other with weights_only
            hf_hub_download(name, WEIGHTS[1])
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, EntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"no model {PREFIX}{name}: there is no such folder here, open_clip has no such architecture, and the "
            f"Hugging Face hub gave no {CONFIG} with weights ({type(error).__name__}: {str(error).splitlines()[0]})"
        ) from error
    return Path(config).parent


def _asked(image_px: int, trained_px: int) -> int | None:
    return None if image_px == trained_px else image_px


def _side(size: Any) -> int:
    sides = {int(side) for side in size} if isinstance(size, list | tuple) else {int(size)}
    if len(sides) != 1:
        raise ConfigError(f"this encoder sees photos of {size} pixels; threadmatch gives squares")
    return sides.pop()


def _framing(settings: dict[str, Any]) -> Framing:
    """open_clip's own evaluation transform (open_clip.transform.image_transform)."""
    fit = _FITS.get(settings.get("resize_mode") or "shortest")
    if fit is None:
        raise ConfigError(f"open_clip's resize_mode {settings['resize_mode']!r} is unknown: {', '.join(_FITS)}")
    grey = int(settings.get("fill_color") or 0)
    return Framing(fit, 0, settings.get("interpolation") or "bicubic", (grey, grey, grey))
