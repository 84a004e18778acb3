"""How fast a step of training is: mixed precision, and memory that is not handed back to the system between steps."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import nn

from model.errors import ConfigError

Precision = Literal["float32", "bfloat16"]

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # glibc, malloc.h
_KEEP_BYTES = 2**31 - 1
_GROW_BYTES = 256 * 2**20


def check_precision(name: str) -> None:
    """Raises:
    ConfigError: there is no such precision.
    """
    if name not in get_args(Precision):
        raise ConfigError(f"precision {name!r} is not known, known are {', '.join(get_args(Precision))}")


def mixed(precision: Precision, device: str = "cpu") -> torch.autocast:
    """Matrix products in `precision`; weights, sums and losses stay float32. Needs no scaling of the loss, since
    bfloat16 has float32's range."""
    return torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bfloat16")


_KINDS: dict[type, type[nn.Conv2d]] = {}


def _in_float32(layer: type[nn.Conv2d]) -> type[nn.Conv2d]:
    """A kind of convolution, timm's padded one say, that stays out of mixed precision."""
    if layer in _KINDS:
        return _KINDS[layer]

    class Float32(layer):  # type: ignore[misc, valid-type]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.autocast(x.device.type, enabled=False):
                out: torch.Tensor = super().forward(x.float())
                return out

    return _KINDS.setdefault(layer, Float32)


@contextmanager
def depthwise_in_float32(module: nn.Module) -> Iterator[None]:
    """Keep depthwise convolutions out of mixed precision: they are no matrix products, and on CPUs their gradient in
    bfloat16 takes three times as long as in float32."""
    chosen = [(one, type(one)) for one in module.modules() if isinstance(one, nn.Conv2d) and one.groups > 1]
    for one, kind in chosen:
        one.__class__ = _in_float32(kind)
    try:
        yield
    finally:
        for one, kind in chosen:
            one.__class__ = kind


def keep_freed_memory() -> None:
    """Let this process keep memory that torch frees, as its own allocator does on a GPU.

    A step frees and asks for the same hundreds of megabytes again. glibc gives such blocks back at once, and the system
    hands them out zeroed, page by page: a third of a step of fine-tuning. Does nothing where the C library is another.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)
        mallopt(_M_TOP_PAD, _GROW_BYTES)
