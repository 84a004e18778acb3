"""What both kernels' launches share: where Triton runs, and what can go wrong when it compiles.

This module imports Triton; whoever asks whether there is one goes by `choosing`.
"""

from __future__ import annotations

from typing import Final

import torch
import triton
from triton.errors import TritonError

from threadmatch.model.gpu import pair_kernel
from threadmatch.model.gpu.head_packing import Precision

INTERPRETED_PROGRAMS: Final = 3
"""Under the interpreter programs run one after another; several, so that each has more than one pair."""
FAILURES: Final = (TritonError, RuntimeError, OSError, ValueError)
"""What compiling or a first launch raises: Triton's own, its passes' and CUDA's, no C compiler for the launcher."""


def interpreted() -> bool:
    """Whether the kernels are run by Triton's interpreter, which is decided when they are imported."""
    return not isinstance(pair_kernel.score_pairs, triton.JITFunction)


def programs_of(device: torch.device) -> int:
    """Programs of a launch: one for each multiprocessor, whose registers one fills."""
    if device.type != "cuda":
        return INTERPRETED_PROGRAMS
    count: int = torch.cuda.get_device_properties(device).multi_processor_count
    return count


def rounding_of(precision: Precision) -> tuple[int, torch.dtype]:
    """The kernels' ROUNDING, and the type in which weights and nodes are kept."""
    if precision == "float32":
        return pair_kernel.EXACT.value, torch.float32
    if interpreted():
        return pair_kernel.EMULATED.value, torch.float32
    return pair_kernel.NATIVE.value, torch.bfloat16
