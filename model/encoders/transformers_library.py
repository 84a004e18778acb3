"""`hf:FOLDER` and `hf:ORGANISATION/MODEL`: what transformers' AutoModel opens, if it looks at photos.

A folder is as `save_pretrained` writes it: config.json, model.safetensors, preprocessor_config.json. No code of
a model's own is run, and weights are read from safetensors alone.

Letters  B images, S image side, N tokens, C channels, E channels of the pooled output
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from PIL import Image
from torch import Tensor, nn

from threadmatch.model.backbone import Backbone
from threadmatch.model.config import GRNetConfig
from threadmatch.model.encoder_config import EncoderConfig, Triple
from threadmatch.model.encoders.library import Trained, Wanted, at_size, needed
from threadmatch.model.errors import CheckpointError, ConfigError
from threadmatch.model.framing import Framing, Interpolation
from threadmatch.model.tokens import TokenBody

PREFIX: Final = "hf:"
EXTRA: Final = "hf"
_UNSAID: Final = ("_name_or_path", "dtype", "torch_dtype", "transformers_version")
"""Of a configuration: where it lay, and what changes no number."""
_AGREES: Final = 1e-4
_INTERPOLATION: Final[dict[Image.Resampling, Interpolation]] = {
    Image.Resampling.BICUBIC: "bicubic",
    Image.Resampling.BILINEAR: "bilinear",
    Image.Resampling.LANCZOS: "lanczos",
    Image.Resampling.NEAREST: "nearest",
}


class TransformersTokens(TokenBody):
    """The image side of a model of transformers.

    Args:
        vision: that takes `pixel_values` and gives `last_hidden_state`.
        projection: from its pooled output to the vector that it was trained to compare; None for none.
        pooled: "pooler" where `pooler_output` was trained; else "class" for the class token, "mean" for the mean.
        prefix: tokens that show no place: the class token and registers.
        resized: whether photos have another size than the one trained on, so that it must fit its positions.
    """

    def __init__(self, vision: nn.Module, projection: nn.Module | None, *, pooled: str, prefix: int, resized: bool):
        super().__init__()
        self.vision, self.projection = vision, projection
        self.pooled, self.prefix = pooled, prefix
        self._more = {"interpolate_pos_encoding": True} if resized and _fits_positions(vision) else {}

    def see(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See `TokenBody.see`."""
        said = self.vision(pixel_values=images, return_dict=True, **self._more)
        seen: Tensor = said.last_hidden_state
        if self.pooled == "pooler":
            pooled = said.pooler_output.flatten(1)
        else:
            pooled = seen[:, 0] if self.pooled == "class" else seen[:, self.prefix :].mean(dim=1)
        pooled = pooled if self.projection is None else self.projection(pooled)
        return seen if seen.ndim == 4 else seen[:, self.prefix :], pooled


def open_trained(wanted: Wanted) -> Trained:
    """The network with its weights, its text side left out.

    Raises:
        ConfigError: transformers is not installed, or the model cannot be used.
        CheckpointError: the weights cannot be had.
    """
    transformers = needed("transformers", EXTRA)
    if wanted.weights is not None:
        raise ConfigError("hf: reads the weights of a folder or of the hub; leave --weights out, or name the folder")
    try:
        model, found = transformers.AutoModel.from_pretrained(
            wanted.name,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            dtype=torch.float32,
        )
        processor = transformers.AutoImageProcessor.from_pretrained(wanted.name, trust_remote_code=False)
    except Exception as error:  # transformers and the hub raise many kinds; all mean the same to the reader
        raise CheckpointError(
            f"transformers opens no model and image processor under {wanted.name!r} ({type(error).__name__}: "
            f"{str(error)[:300]}); expected config.json, model.safetensors and preprocessor_config.json"
        ) from error
    untrained = [name for name in found["missing_keys"] if "pooler" not in name]
    if untrained:
        raise CheckpointError(f"{wanted.name} lacks {len(untrained)} tensors of its own architecture: {untrained[:3]}")
    seen = processor.to_dict()
    trained_px, framing = _framing(seen)
    image_px = wanted.image_px or trained_px
    backbone, architecture = _taken(model.eval(), seen, image_px, pooler=not found["missing_keys"])
    mean, std = _scaling(seen)
    encoder = EncoderConfig(
        architecture=architecture,
        mean=mean,
        std=std,
        framing=at_size(framing, trained_px, image_px),
        own_pooled=True,
    )
    return Trained(f"{PREFIX}{wanted.short}", backbone, image_px, encoder)


def build(config: GRNetConfig) -> Backbone:
    """The network of a checkpoint, its weights still to be read."""
    assert config.encoder is not None
    transformers = needed("transformers", EXTRA)
    own = config.encoder.architecture
    try:
        described = dict(own["config"])
        settings = transformers.AutoConfig.for_model(described.pop("model_type"), **described)
        vision = transformers.AutoModel.from_config(settings)
        projection = None if own["projection"] is None else nn.Linear(**own["projection"], bias=False)
        body = TransformersTokens(
            vision, projection, pooled=own["pooled"], prefix=own["prefix"], resized=own["resized"]
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"transformers builds no network of this description ({error!r}): {own!r:.300}") from error
    return _backbone(body, config.encoder.mean, config.encoder.std, config.image_px)


def _taken(model: Any, seen: Mapping[str, Any], image_px: int, *, pooler: bool) -> tuple[Backbone, dict[str, Any]]:
    """The image side of a model as a backbone, and what builds it again."""
    vision = getattr(model, "vision_model", model)
    projection = getattr(model, "visual_projection", None) if vision is not model else None
    settings = vision.config.to_dict()
    trained_px = settings.get("image_size", image_px)
    resized = (trained_px[0] if isinstance(trained_px, list | tuple) else trained_px) != image_px
    try:
        with torch.inference_mode():
            more = {"interpolate_pos_encoding": True} if resized and _fits_positions(vision) else {}
            said = vision(pixel_values=torch.zeros(1, 3, image_px, image_px), return_dict=True, **more)
    except (TypeError, RuntimeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"{type(model).__name__} cannot see photos of {image_px} pixels ({type(error).__name__}: {error})"
        ) from error
    prefix = _prefix(said.last_hidden_state, settings, image_px)
    trained = pooler and getattr(said, "pooler_output", None) is not None
    architecture = {
        "config": {name: value for name, value in settings.items() if name not in _UNSAID},
        "projection": None
        if projection is None
        else {"in_features": projection.in_features, "out_features": projection.out_features},
        "pooled": "pooler" if trained else ("class" if prefix else "mean"),
        "prefix": prefix,
        "resized": resized,
    }
    body = TransformersTokens(vision, projection, pooled=architecture["pooled"], prefix=prefix, resized=resized)
    _check(model, body, image_px, more)
    mean, std = _scaling(seen)
    return _backbone(body, mean, std, image_px), architecture


def _check(model: Any, body: TransformersTokens, image_px: int, more: Mapping[str, Any]) -> None:
    """Hold the pooled output to the library's own, where it says which vector is compared.

    Raises:
        ConfigError: they differ.
    """
    if not hasattr(model, "get_image_features"):
        return
    probe = torch.rand(1, 3, image_px, image_px, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        said = model.get_image_features(pixel_values=probe, **more)
        expected, found = getattr(said, "pooler_output", said), body.see(probe)[1]
    if expected.shape != found.shape or not torch.allclose(expected, found, atol=_AGREES, rtol=_AGREES):
        raise ConfigError(f"{type(model).__name__} pools its tokens in a way that is not known here")


def _backbone(body: TransformersTokens, mean: Triple, std: Triple, image_px: int) -> Backbone:
    body = body.float().eval()
    with torch.inference_mode():
        feature_map, pooled = body(torch.zeros(1, 3, image_px, image_px))
    backbone = Backbone(body, channels=feature_map.shape[1], pooled_channels=pooled.shape[1], mean=mean, std=std)
    return backbone.eval()


def _fits_positions(vision: nn.Module) -> bool:
    """Whether `forward` can be told to fit its position embeddings; those that cannot do so by themselves."""
    import inspect

    return "interpolate_pos_encoding" in inspect.signature(vision.forward).parameters


def _prefix(hidden: Tensor, settings: Mapping[str, Any], image_px: int) -> int:
    """How many tokens stand before those of places: class token, registers.

    Raises:
        ConfigError: it cannot be told.
    """
    if hidden.ndim == 4:
        return 0
    patch = settings.get("patch_size", 0)
    patch = patch[0] if isinstance(patch, list | tuple) else patch
    places = (image_px // patch) ** 2 if patch else 0
    count = hidden.shape[1]
    if places and 0 <= count - places <= 64:
        return count - places
    side = int(count**0.5)
    if side * side != count:
        raise ConfigError(f"this model gives {count} tokens for {image_px} pixels, which form no square")
    return 0


def _scaling(seen: Mapping[str, Any]) -> tuple[Triple, Triple]:
    """Mean and deviation of pixels in 0..1, whatever the processor multiplies them with first."""
    factor = 255 * float(seen.get("rescale_factor", 1 / 255)) if seen.get("do_rescale", True) else 255.0
    normal = seen.get("do_normalize", True)
    mean, std = (seen.get("image_mean"), seen.get("image_std")) if normal else ((0.0,) * 3, (1.0,) * 3)
    if mean is None or std is None or len(mean) != 3:
        raise ConfigError(f"the image processor says mean {mean} and std {std}, expected a number for each colour")
    red, green, blue = (float(value) / factor for value in mean)
    wide = tuple(float(value) / factor for value in std)
    return (red, green, blue), (wide[0], wide[1], wide[2])


def _framing(seen: Mapping[str, Any]) -> tuple[int, Framing]:
    """S and the way to it, of an image processor of transformers.

    Raises:
        ConfigError: it makes no squares.
    """
    size, crop = dict(seen.get("size") or {}), dict(seen.get("crop_size") or {})
    crop = crop if seen.get("do_center_crop") else {}
    resample = 3 if seen.get("resample") is None else int(seen["resample"])
    if resample not in _INTERPOLATION:
        raise ConfigError(f"the image processor resamples by way {resample}, known are {list(_INTERPOLATION)}")
    interpolation = _INTERPOLATION[Image.Resampling(resample)]
    sides = {crop.get("height"), crop.get("width")} if crop.get("height") else set()
    if size.get("shortest_edge"):
        first, fit = int(size["shortest_edge"]), "crop"
    elif size.get("longest_edge"):
        first, fit = int(size["longest_edge"]), "pad"
    elif size.get("height") and size.get("height") == size.get("width"):
        first, fit = int(size["height"]), "squash"
    else:
        raise ConfigError(f"the image processor resizes to {size}, of which no square comes; threadmatch gives squares")
    if len(sides) > 1:
        raise ConfigError(f"the image processor crops to {crop}; threadmatch gives squares")
    image_px = int(crop["height"]) if sides else first
    return image_px, Framing(fit, 0 if first == image_px else first, interpolation)  # type: ignore[arg-type]
