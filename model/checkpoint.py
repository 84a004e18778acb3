"""Weights on disk: model.safetensors, config.json and the fingerprint that ties them to what was made with them.

A checkpoint is a folder:
    model.safetensors   tensors by name, float16 or float32; nothing is unpickled
    config.json         name, fingerprint, features_fingerprint, model (a GRNetConfig), calibration, chain,
                        graph and certainty where there are any
    README.md           the model card
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from threadmatch.model.chain import DEFAULT_CHAIN, Chain
from threadmatch.model.config import Calibration, GRNetConfig
from threadmatch.model.descriptions import CONFIG_FILE, WEIGHTS_FILE
from threadmatch.model.errors import CheckpointError

FEATURE_FIELDS = (
    "backbone", "image_px", "scales", "pool", "embedding_pool", "embedding_channels", "neck_channels", "hypercolumn",
    "region_norm", "features",
)  # fmt: skip
"""The settings that decide embedding and regions: a gallery depends on these and on no other."""


class Described(Protocol):
    """A part of a network that is plain JSON."""

    def to_dict(self) -> dict[str, Any]:
        """Its JSON."""
        ...


class Checkpointed(Protocol):
    """A network as a checkpoint holds it; `grnet.GRNet` is one."""

    name: str
    config: GRNetConfig
    calibration: Calibration
    chain: Chain

    @property
    def graph(self) -> Described | None:
        """The sparse graph behind the features, where one is fitted."""
        ...

    @property
    def certainty(self) -> Described | None:
        """How sure the chain's scores are, where that is fitted."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Its tensors by name."""
        ...


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """SHA-256 names, 16 hex digits each: of the whole model, and of what decides the stored features."""

    model: str
    features: str


def fingerprints(model: Checkpointed) -> Fingerprints:
    """Name a model by its settings and weights.

    The weights count as float16, so that a checkpoint and its half-size copy are the same model.
    """
    config = model.config.to_dict()
    kept = {name: config[name] for name in FEATURE_FIELDS if name in config}
    tensors = {name: value for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    features = {name: value for name, value in tensors.items() if not name.startswith("head.")}
    whole = {**config, "calibration": model.calibration.to_dict()}
    if model.chain != DEFAULT_CHAIN:  # older checkpoints keep their fingerprint
        whole["chain"] = [stage.to_dict() for stage in model.chain]
    whole |= _described(model)
    return Fingerprints(model=_digest(whole, tensors), features=_digest(kept, features))


def _described(model: Checkpointed) -> dict[str, Any]:
    """The parts that are plain JSON, where there are any."""
    parts = {"graph": model.graph, "certainty": model.certainty}
    return {name: part.to_dict() for name, part in parts.items() if part is not None}


def _digest(settings: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"{name}{tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].detach().cpu().to(torch.float16).contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def save_checkpoint(model: Checkpointed, folder: Path, *, half: bool = True) -> Fingerprints:
    """Write a model to a folder.

    Args:
        model: trained; its `name` (else the folder's) and `calibration` are written too.
        folder: made if missing; files of the same names are replaced.
        half: store float16, half the size.
    """
    folder.mkdir(parents=True, exist_ok=True)
    prints = fingerprints(model)
    tensors = {
        key: (value.half() if half and value.is_floating_point() else value).contiguous().cpu()
        for key, value in model.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    if model.config.step_weights == "shared":  # one storage under several names: keep the first
        tensors = {key: value for key, value in tensors.items() if not _is_shared_copy(key)}
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt", "fingerprint": prints.model})
    description = {
        "name": model.name or folder.name,
        "fingerprint": prints.model,
        "features_fingerprint": prints.features,
        "model": model.config.to_dict(),
        "calibration": model.calibration.to_dict(),
        "chain": [stage.to_dict() for stage in model.chain],
        **_described(model),
    }
    (folder / CONFIG_FILE).write_text(json.dumps(description, indent=2) + "\n")
    # safetensors makes a file that only its owner reads; a service runs as somebody else
    (folder / WEIGHTS_FILE).chmod((folder / CONFIG_FILE).stat().st_mode & 0o777)
    return prints


def _is_shared_copy(key: str) -> bool:
    parts = key.split(".")
    return parts[:2] == ["head", "steps"] and int(parts[2]) > 1


def read_weights(network: Checkpointed, folder: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, float32, held against the network that its description builds.

    Raises:
        CheckpointError: the file is missing or damaged, or does not fit the network.
    """
    path = folder / WEIGHTS_FILE
    try:
        tensors = load_file(path)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"no {WEIGHTS_FILE} in {folder}, where {CONFIG_FILE} is; the checkpoint is torn"
        ) from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or not a safetensors file ({error})") from error
    expected = network.state_dict()
    shared = network.config.step_weights == "shared"
    needed = {k for k in expected if not k.endswith("num_batches_tracked") and not (shared and _is_shared_copy(k))}
    missing, unknown = sorted(needed - tensors.keys()), sorted(tensors.keys() - expected.keys())
    wrong = sorted(k for k in needed & tensors.keys() if tensors[k].shape != expected[k].shape)
    if missing or unknown or wrong:
        raise CheckpointError(
            f"{path} does not fit its {CONFIG_FILE}: "
            f"missing {missing[:3]}, unknown {unknown[:3]}, other shape {wrong[:3]}"
        )
    return {key: value.float() for key, value in tensors.items()}


def fetch_checkpoint(model_id: str, **hub: Any) -> Path:
    """A local folder of the checkpoint: `model_id` itself if it is one, else downloaded from the Hugging Face hub.

    Raises:
        CheckpointError: neither a folder nor to be had from the hub; says what was tried.
    """
    folder = Path(model_id)
    if folder.is_dir():
        return folder
    try:
        for name in (WEIGHTS_FILE, CONFIG_FILE):
            path = hf_hub_download(repo_id=model_id, filename=name, **hub)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"no model {model_id!r}: there is no such folder here, and the Hugging Face hub gave no {WEIGHTS_FILE} and "
            f"{CONFIG_FILE} under that name ({type(error).__name__}: {str(error).splitlines()[0]})"
        ) from error
    return Path(path).parent
