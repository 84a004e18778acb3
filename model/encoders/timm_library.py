"""`timm:NAME` and `timm:FOLDER`: networks of timm, their weights from the hub, a folder or a file.

A folder is as timm writes it for the hub: config.json (architecture, pretrained_cfg, model_args), model.safetensors.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from threadmatch.model.backbone import Backbone, timm_backbone
from threadmatch.model.config import GRNetConfig
from threadmatch.model.encoder_config import EncoderConfig
from threadmatch.model.encoders.library import Trained, Wanted, at_size
from threadmatch.model.errors import CheckpointError, ConfigError
from threadmatch.model.framing import Fit, Framing
from threadmatch.model.timm_networks import TIMM_PREFIX, create_network, is_transformer

CONFIG, WEIGHTS = "config.json", "model.safetensors"
_FITS: dict[str, Fit] = {"center": "crop", "squash": "squash", "border": "pad"}


def open_trained(wanted: Wanted) -> Trained:
    """The network with its weights.

    Raises:
        ConfigError: timm knows no such network, or it cannot see photos of this size.
        CheckpointError: the weights cannot be had, or are another network's.
    """
    described: dict[str, Any] = {"architecture": wanted.name}
    if wanted.folder is not None:
        described = _description(wanted.folder)
    name, arguments = str(described["architecture"]), dict(described.get("model_args") or {})
    overlay = described.get("pretrained_cfg")
    weights = wanted.weights or (wanted.folder / WEIGHTS if wanted.folder is not None else None)
    if weights is not None:
        network = create_network(name, pretrained_cfg_overlay=overlay, **arguments)
        _fill(network, weights)
    else:
        network = _from_hub(name)
    from timm.data.config import resolve_model_data_config  # seconds to import, and only these networks need it

    settings = resolve_model_data_config(network)  # type: ignore[no-untyped-call]
    trained_px = int(settings["input_size"][1])
    image_px = wanted.image_px or trained_px
    mean, std = tuple(settings["mean"]), tuple(settings["std"])
    backbone = timm_backbone(network, mean=mean, std=std, image_px=image_px)
    encoder = EncoderConfig(
        architecture={"model_args": arguments} if arguments else {},
        mean=mean,
        std=std,
        framing=at_size(_framing(settings), trained_px, image_px),
        own_pooled=is_transformer(network),
    )
    return Trained(f"{TIMM_PREFIX}{name}", backbone.eval(), image_px, encoder)


def build(config: GRNetConfig) -> Backbone:
    """The network of a checkpoint, its weights still to be read."""
    assert config.encoder is not None
    own = config.encoder
    network = create_network(config.backbone.removeprefix(TIMM_PREFIX), **own.architecture.get("model_args", {}))
    return timm_backbone(network, mean=own.mean, std=own.std, image_px=config.image_px)


def _description(folder: Path) -> dict[str, Any]:
    try:
        described: dict[str, Any] = json.loads((folder / CONFIG).read_text())
        if not isinstance(described["architecture"], str):
            raise TypeError("architecture is no name")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{folder} is no folder of timm ({error!r}); expected {CONFIG} with architecture and pretrained_cfg, and "
            f"{WEIGHTS}"
        ) from error
    return described


def _from_hub(name: str) -> nn.Module:
    import timm

    try:
        if timm.is_model(name) and not timm.is_model_pretrained(name):
            raise CheckpointError(f"timm has no weights for {name}; give --weights FILE.safetensors, or a folder")
        return create_network(name, pretrained=True)
    except (ConfigError, CheckpointError):
        raise
    except Exception as error:  # timm and the hub raise many kinds; all mean the same to the reader
        raise CheckpointError(
            f"no weights for timm:{name}: timm's download failed ({type(error).__name__}: {str(error)[:300]}); go "
            "online once, fill the Hugging Face cache, or give --weights FILE.safetensors"
        ) from error


def _fill(network: nn.Module, path: Path) -> None:
    """Read a file of weights, those of the classifier left out. Tensors alone: nothing is unpickled.

    Raises:
        CheckpointError: it cannot be read, or lacks some; a network is never left half random.
    """
    try:
        from timm.models import load_state_dict

        weights: dict[str, Tensor] = load_state_dict(str(path), weights_only=True)
    except Exception as error:  # torch, pickle and safetensors raise many kinds for what is no file of tensors
        if "weights_only" in str(error):
            raise CheckpointError(
                f"{path} holds more than tensors, and nothing is unpickled; save its tensors as safetensors"
            ) from error
        raise CheckpointError(f"{path} is no readable file of weights ({type(error).__name__}: {error})") from error
    expected = network.state_dict()
    if expected.keys() - weights.keys() or _other_shape(expected, weights):
        convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
        weights = weights if convert is None else convert(weights, network)
    missing = sorted(expected.keys() - weights.keys())
    wrong = _other_shape(expected, weights)
    if missing or wrong:
        raise CheckpointError(
            f"{path} does not fit this network: {len(missing)} of {len(expected)} tensors are missing {missing[:3]}, "
            f"{len(wrong)} have another shape {wrong[:3]}; is it of another architecture?"
        )
    network.load_state_dict({name: weights[name] for name in expected})


def _other_shape(expected: dict[str, Tensor], weights: dict[str, Tensor]) -> list[str]:
    return sorted(name for name, value in expected.items() if name in weights and weights[name].shape != value.shape)


def _framing(settings: dict[str, Any]) -> Framing:
    """timm's own evaluation transform (timm.data.transforms_imagenet_eval)."""
    fit = _FITS.get(settings["crop_mode"])
    if fit is None:
        raise ConfigError(f"timm's crop_mode {settings['crop_mode']!r} is unknown, expected one of {', '.join(_FITS)}")
    side = int(settings["input_size"][1])
    red, green, blue = (round(255 * value) for value in settings["mean"])
    return Framing(fit, math.floor(side / settings["crop_pct"]), settings["interpolation"], (red, green, blue))
