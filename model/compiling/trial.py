"""What torch says of the probes that a converted network is held to, kept beside it.

A start that finds it need not run torch's network, which takes longer than all else that a start does with it. It is
believed of the very network that gave it: the same weights, the same code, the same torch, the same probes.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Pixels = NDArray[np.uint8]
Answers = list[list[NDArray[Any]]]
"""Of each probe, the network's outputs."""

ANSWERS_FILE: Final = "answers.npz"
_IDENTITY: Final = "identity"


class Trial:
    """A network of torch's and the photos that another engine's answers are compared on.

    Args:
        network: in evaluation mode, on the CPU; takes (B, H, W, 3) uint8, gives a tuple of float tensors.
        probes: (B, H, W, 3) uint8 each.
    """

    def __init__(self, network: nn.Module, probes: Sequence[Pixels]) -> None:
        self.network, self.probes = network, tuple(probes)

    def asked(self) -> Answers:
        """What torch says now."""
        with torch.inference_mode():
            return [[values.numpy() for values in self.network(torch.from_numpy(probe))] for probe in self.probes]

    def keep(self, folder: Path, answers: Answers) -> None:
        """Write them; nothing where nobody could tell later on that the network is still the same."""
        if (identity := self.identity) is None:
            return
        named = {f"{place}-{output}": values for place, row in enumerate(answers) for output, values in enumerate(row)}
        np.savez(folder / ANSWERS_FILE, allow_pickle=False, **{_IDENTITY: np.array(identity)}, **named)

    def kept(self, folder: Path) -> Answers | None:
        """Those that `keep` wrote into a folder, whole as it was; None where there are none, or of another network."""
        path, identity = folder / ANSWERS_FILE, self.identity
        if identity is None or not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as file:
            if str(file[_IDENTITY]) != identity:
                return None
            outputs = (len(file.files) - 1) // len(self.probes)
            return [[file[f"{place}-{output}"] for output in range(outputs)] for place in range(len(self.probes))]

    @cached_property
    def identity(self) -> str | None:
        """SHA-256 of all that decides the answers; None where the source of a part cannot be read."""
        digest = hashlib.sha256(torch.__version__.encode())
        for module in sorted({type(part).__module__ for part in self.network.modules()}):
            source = getattr(sys.modules.get(module), "__file__", None)
            if source is None:
                return None
            digest.update(module.encode())
            try:
                digest.update(Path(source).read_bytes())
            except OSError:
                return None
        digest.update(repr(self.network).encode())
        for name, value in sorted(self.network.state_dict().items()):
            digest.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
            digest.update(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        for probe in self.probes:
            digest.update(f"{probe.shape}".encode())
            digest.update(probe.tobytes())
        return digest.hexdigest()
