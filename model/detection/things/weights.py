"""The weights of `network`, a byte each: nothing is unpickled.

    w = scale_o q,   scale_o = max |w_o| / 127        for each output o of a convolution or of the last layer

Batch norm multiplies outputs, so rounding before or after it is folded is the same.

FOLDER/weights.safetensors   q in int8 and NAME.scale in float32; the rest, batch norm and biases, in float32
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from threadmatch.model.errors import CheckpointError

SHIPPED: Final = Path(__file__).parent / "weights" / "imagenet-lite0"
WEIGHTS_FILE: Final = "weights.safetensors"
SCALE: Final = ".scale"
COUNTERS: Final = "num_batches_tracked"
LEVELS: Final = 127


def save_weights(network: nn.Module, folder: Path) -> None:
    """Write a network's weights; the folder is made if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for name, value in network.state_dict().items():
        if name.endswith(COUNTERS):
            continue
        if value.dim() < 2:
            tensors[name] = value.float().contiguous()
            continue
        scale = value.flatten(1).abs().amax(dim=1).clamp_min(1e-12) / LEVELS  # (O,)
        tensors[name] = (value / _over(scale, value)).round().to(torch.int8).contiguous()
        tensors[name + SCALE] = scale.float()
    save_file(tensors, folder / WEIGHTS_FILE)
    (folder / WEIGHTS_FILE).chmod(0o644)


def load_weights(network: nn.Module, folder: Path | None = None) -> None:
    """Fill a network of the same form, in place.

    Args:
        network: all of whose weights are replaced.
        folder: None for what ships.

    Raises:
        CheckpointError: the file is missing, damaged, or of another network.
    """
    path = (folder or SHIPPED) / WEIGHTS_FILE
    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error})") from error
    expected = {name: value for name, value in network.state_dict().items() if not name.endswith(COUNTERS)}
    scales = {name + SCALE for name, value in expected.items() if value.dim() >= 2}
    wrong = sorted((expected.keys() | scales) ^ stored.keys())
    wrong = wrong or sorted(name for name, value in expected.items() if stored[name].shape != value.shape)
    if wrong:
        raise CheckpointError(f"{path} is of another network: {len(wrong)} tensors differ, {wrong[:3]} ...")
    weights = {
        name: value.float() * _over(stored[name + SCALE], value) if name + SCALE in scales else value
        for name, value in stored.items()
        if name in expected
    }
    network.load_state_dict(weights, strict=False)


def fingerprint(network: nn.Module) -> str:
    """SHA-256 name of a network's weights, 16 hex digits."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _over(scale: Tensor, value: Tensor) -> Tensor:
    """(O,) shaped to multiply (O, ...)."""
    return scale.view(-1, *[1] * (value.dim() - 1))
