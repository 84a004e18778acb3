"""Which engine runs a network that turns photos into numbers: OpenVINO where it can be had, else torch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from threadmatch.model.compiling.network import BFLOAT16_ENGINE, compile_network
from threadmatch.model.errors import CheckpointError, CompileError

logger = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Run = Callable[[Pixels], list[Floats]]
"""(B, H, W, 3) uint8 RGB to a network's outputs."""


def by_torch(network: nn.Module) -> Run:
    """A network of `compile_network`'s form as torch runs it."""

    @torch.inference_mode()
    def run(pixels: Pixels) -> list[Floats]:
        return [np.asarray(one.numpy(), np.float32) for one in network(torch.from_numpy(pixels))]

    return run


def choose_engine(
    network: nn.Module, plain: Callable[[], nn.Module], probes: Sequence[Pixels], *, name: str, key: str, engine: str,
    cache: Path | None,
) -> tuple[str, Run]:  # fmt: skip
    """The engine that runs a network, by name, and how to ask it.

    Args:
        network: see `compile_network`.
        plain: makes the one that torch runs; the same, or one with its batch norm folded.
        probes, key, cache: see `compile_network`.
        name: for messages.
        engine: "torch", "openvino", or "auto" for OpenVINO where it can be had; BFLOAT16_ENGINE, which is for encoders,
            is here as "openvino".

    Raises:
        CheckpointError: no such engine, or OpenVINO was asked for by name and cannot be had.
    """
    if engine == "torch":
        return "torch", by_torch(plain())
    if engine not in ("auto", "openvino", BFLOAT16_ENGINE):
        raise CheckpointError(f"engine {engine!r} is unknown to {name}, expected auto, openvino or torch")
    try:
        return "openvino", compile_network(network, probes, key=key, cache=cache)
    except CompileError as error:
        if engine != "auto":
            raise CheckpointError(f"engine {engine} cannot run {name}: {error}") from error
        logger.warning("torch runs it", extra={"network": name, "reason": str(error)})
        return "torch", by_torch(plain())
