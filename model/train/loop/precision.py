"""How fast a step of training is: mixed precision, and memory that is not handed back to the system between steps."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from threadmatch.model.errors import ConfigError

Precision = Literal["float32", "bfloat16"]

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # glibc, malloc.h
_KEEP_BYTES = 2**31 - 1
_GROW_BYTES = 256 * 2**20


def check_precision(name: str) -> None:
    """Refuse what is no precision.

    Raises:
        ConfigError: `name` is none; the known ones are named.
    """
    if name not in get_args(Precision):
        raise ConfigError(f"precision {name!r} is not known, known are {', '.join(get_args(Precision))}")


def check_at_least_one(settings: object, *names: str) -> None:
    """Refuse settings with which a run would not begin.

    Raises:
        ConfigError: one of them is below 1; named.
    """
    for name in names:
        value = getattr(settings, name)
        if value < 1:
            raise ConfigError(f"{name} is {value}, expected 1 at least")


@contextmanager
def mixed(precision: Precision, module: nn.Module) -> Iterator[None]:
    """Run a module with its matrix products in `precision`; weights and their gradients stay float32.

    bfloat16 has float32's range, so the loss needs no scaling. Depthwise convolutions stay in float32: they are no
    matrix products, and on CPUs their gradient in bfloat16 takes longer than in float32.
    """
    if precision == "float32":
        yield
        return
    depthwise = [one for one in module.modules() if isinstance(one, nn.Conv2d) and one.groups > 1]
    for one in depthwise:
        one.forward = _in_float32(one.forward)  # type: ignore[method-assign, assignment]
    try:
        with torch.autocast(next(module.parameters()).device.type, dtype=torch.bfloat16):
            yield
    finally:
        for one in depthwise:
            del one.forward  # the class's own is back


def _in_float32(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def apart(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return forward(x.float())

    return apart


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
