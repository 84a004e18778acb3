"""Weights on disk: model.safetensors, config.json and the fingerprint that ties them to what was made with them.

A checkpoint is a folder:
    model.safetensors   tensors by name, float16 or float32; nothing is unpickled
    config.json         name, fingerprint, features_fingerprint, model (a GRNetConfig), calibration, chain,
                        graph and certainty where there are any
    README.md           the model card
and a folder for each part (`parts`), where there are any
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from torch import Tensor

from threadmatch.model.chain import DEFAULT_CHAIN, Chain
from threadmatch.model.config import Calibration, GRNetConfig
from threadmatch.model.descriptions import CONFIG_FILE, WEIGHTS_FILE
from threadmatch.model.errors import CheckpointError
from threadmatch.model.part import Part
from threadmatch.model.parts import PARTS, write_parts
from threadmatch.model.tensor_files import digest, digests, read_fitting, write_described

FEATURE_FIELDS = (
    "backbone", "image_px", "scales", "pool", "embedding_pool", "embedding_channels", "neck_channels", "hypercolumn",
    "companion", "cell_hypercolumn", "region_norm", "features", "encoder",
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

    @property
    def attached(self) -> Mapping[str, Part]:
        """The parts on top of it, by name."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Its tensors by name, those of its parts under "parts."."""
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
    whole = {**model.config.to_dict(), "calibration": model.calibration.to_dict()}
    if model.chain != DEFAULT_CHAIN:  # older checkpoints keep their fingerprint
        whole["chain"] = [stage.to_dict() for stage in model.chain]
    whole |= _described(model)
    tensors = _core_tensors(model)
    named, features = digests([(whole, tensors.keys()), _of_features(model, tensors)], tensors)
    return Fingerprints(model=named, features=features)


def features_fingerprint(model: Checkpointed) -> str:
    """The second of `fingerprints` alone, in less time."""
    tensors = _core_tensors(model)
    kept, names = _of_features(model, tensors)
    return digest(kept, {name: tensors[name] for name in names})


def _of_features(model: Checkpointed, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], set[str]]:
    """The settings and the tensors' names that decide the stored features."""
    config = model.config.to_dict()
    kept = {name: config[name] for name in FEATURE_FIELDS if name in config}
    return kept, {name for name in tensors if not name.startswith("head.")}


def _described(model: Checkpointed) -> dict[str, Any]:
    """The parts that are plain JSON, where there are any."""
    parts = {"graph": model.graph, "certainty": model.certainty}
    return {name: part.to_dict() for name, part in parts.items() if part is not None}


def _core_tensors(model: Checkpointed) -> dict[str, Tensor]:
    """What a checkpoint's own file holds: neither counters of batches nor the parts."""
    return {
        name: value
        for name, value in model.state_dict().items()
        if not name.endswith("num_batches_tracked") and not name.startswith("parts.")
    }


def save_checkpoint(model: Checkpointed, folder: Path, *, half: bool = True) -> Fingerprints:
    """Write a model to a folder.

    Args:
        model: trained; its `name` (else the folder's) and `calibration` are written too.
        folder: made if missing; files of the same names are replaced. Parts trained on these features go with it.
        half: store float16, half the size.
    """
    prints = fingerprints(model)
    tensors = _core_tensors(model)
    if model.config.step_weights == "shared":  # one storage under several names: keep the first
        tensors = {key: value for key, value in tensors.items() if not _is_shared_copy(key)}
    description = {
        "name": model.name or folder.name,
        "fingerprint": prints.model,
        "features_fingerprint": prints.features,
        "model": model.config.to_dict(),
        "calibration": model.calibration.to_dict(),
        "chain": [stage.to_dict() for stage in model.chain],
        **_described(model),
    }
    write_described(folder, description, tensors, half=half)
    write_parts(model.attached.values(), folder, core=prints.features)
    return prints


def _is_shared_copy(key: str) -> bool:
    parts = key.split(".")
    return parts[:2] == ["head", "steps"] and int(parts[2]) > 1


def read_weights(network: Checkpointed, folder: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, float32, held against the network that its description builds.

    Raises:
        CheckpointError: the file is missing or damaged, or does not fit the network.
    """
    expected = {name: value for name, value in network.state_dict().items() if not name.startswith("parts.")}
    shared = network.config.step_weights == "shared"
    may_lack = {k for k in expected if k.endswith("num_batches_tracked") or (shared and _is_shared_copy(k))}
    return read_fitting(folder, expected, may_lack=frozenset(may_lack))


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
    for part in PARTS:
        _fetch_part(model_id, part, **hub)
    return Path(path).parent


def _fetch_part(model_id: str, part: str, **hub: Any) -> None:
    """A part's files beside the core's, where the hub has them.

    Raises:
        CheckpointError: the hub has the one and does not give the other.
    """
    try:
        hf_hub_download(repo_id=model_id, filename=f"{part}/{CONFIG_FILE}", **hub)
    except (EntryNotFoundError, LocalEntryNotFoundError):
        return
    except (HfHubHTTPError, OSError) as error:
        raise CheckpointError(f"the hub did not say whether {model_id!r} has a part {part!r} ({error})") from error
    try:
        hf_hub_download(repo_id=model_id, filename=f"{part}/{WEIGHTS_FILE}", **hub)
    except (HfHubHTTPError, OSError) as error:
        raise CheckpointError(f"{model_id!r} has a part {part!r} without its {WEIGHTS_FILE} ({error})") from error
