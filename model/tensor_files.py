"""Named tensors in a safetensors file, and the fingerprint of settings and tensors. Nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from threadmatch.model.descriptions import CONFIG_FILE, WEIGHTS_FILE
from threadmatch.model.errors import CheckpointError


def digest(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 name of settings (plain JSON) and tensors, 16 hex digits.

    Tensors count as float16, so that a checkpoint and its half-size copy are the same.
    """
    return digests([(settings, tensors.keys())], tensors)[0]


def digests(wanted: Sequence[tuple[Mapping[str, Any], Set[str]]], tensors: Mapping[str, Tensor]) -> list[str]:
    """`digest` of several settings, each with the names of its tensors among these; each tensor is read once."""
    made = [hashlib.sha256(json.dumps(settings, sort_keys=True).encode()) for settings, _ in wanted]
    for name in sorted(tensors):
        value = tensors[name]
        halved = value.detach().cpu().to(torch.float16).contiguous().numpy()
        for one, (_, names) in zip(made, wanted, strict=True):
            if name in names:
                one.update(f"{name}{tuple(value.shape)}".encode())
                one.update(halved.tobytes())
    return [one.hexdigest()[:16] for one in made]


def write_described(folder: Path, description: Mapping[str, Any], tensors: Mapping[str, Tensor], *, half: bool) -> None:
    """Write config.json, which has a "fingerprint", and model.safetensors to a folder, made if missing.

    Args:
        folder: files of the same names are replaced.
        description: plain JSON.
        tensors: by name.
        half: store float16, half the size.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stored = {
        key: (value.half() if half and value.is_floating_point() else value).contiguous().cpu()
        for key, value in tensors.items()
    }
    save_file(stored, folder / WEIGHTS_FILE, metadata={"format": "pt", "fingerprint": description["fingerprint"]})
    (folder / CONFIG_FILE).write_text(json.dumps(description, indent=2) + "\n")
    # safetensors makes a file that only its owner reads; a service runs as somebody else
    (folder / WEIGHTS_FILE).chmod((folder / CONFIG_FILE).stat().st_mode & 0o777)


def read_fitting(folder: Path, expected: Mapping[str, Tensor], *, may_lack: frozenset[str]) -> dict[str, Tensor]:
    """The tensors of a folder's model.safetensors, held against those that its description asks for.

    Args:
        folder: with config.json.
        expected: by name, whose shapes count.
        may_lack: names that need not be there.

    Returns:
        float32 tensors by name.

    Raises:
        CheckpointError: the file is missing or damaged, or does not fit.
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
    needed = expected.keys() - may_lack
    missing, unknown = sorted(needed - tensors.keys()), sorted(tensors.keys() - expected.keys())
    wrong = sorted(k for k in needed & tensors.keys() if tensors[k].shape != expected[k].shape)
    if missing or unknown or wrong:
        raise CheckpointError(
            f"{path} does not fit its {CONFIG_FILE}: "
            f"missing {missing[:3]}, unknown {unknown[:3]}, other shape {wrong[:3]}"
        )
    return {key: value.float() for key, value in tensors.items()}
