"""What launches the dense kernel: whole numbers go to the GPU as a gallery keeps them, and are taken apart there.

Letters  P cells of a photo, Q of an item, K numbers a cell, N items
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from threadmatch.model.coded import Coded, Stored, floats
from threadmatch.model.errors import CompileError
from threadmatch.model.gpu import dense_kernel
from threadmatch.model.gpu.head_packing import Precision, padded
from threadmatch.model.gpu.launching import interpreted, rounding_of
from threadmatch.model.region_matchers import tensor

CHUNK_ITEMS: Final = 8192
"""Items a launch: 100 MB of int8 at the shipped sizes."""
MOST_CELLS: Final = 128
"""Of a photo and of an item: all their products stand in registers."""
BLOCK_K: Final = 64
STAGES: Final = 2
WARPS: Final = 4


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """N items' cells on the CPU, in one FORM of the kernel; scales (N, Q) float32, one number where there are none."""

    form: int
    values: Tensor
    scales: Tensor


class DenseEngine:
    """Dense matches by one kernel: `dense.dense_similarity` of each photo with each of its own items.

    Args:
        device: "cuda"; "cpu" under Triton's interpreter alone.
        precision: of products with whole numbers; those of floats are exact to 2^-20 in both.

    Raises:
        CompileError: there is nothing that could run a kernel.
    """

    def __init__(self, *, device: str = "cuda", precision: Precision = "bfloat16") -> None:
        if device == "cpu" and not interpreted():
            raise CompileError("a Triton kernel runs on CUDA, or under its interpreter (TRITON_INTERPRET=1)")
        self.device, self.precision = torch.device(device), precision
        self._rounding, _ = rounding_of(precision)

    @torch.inference_mode()
    def score_many(self, photos: Sequence[Tensor], items: Sequence[Stored]) -> list[Tensor]:
        """See `dense.CellEngine.score_many`.

        Raises:
            CompileError: a photo or an item has more than MOST_CELLS cells.
        """
        counts = [len(each) for each in items]
        if not sum(counts):
            return [torch.empty(0) for _ in counts]
        cells, stacked = _joined(items), torch.stack(list(photos)).to(self.device, torch.float32)
        owner = torch.arange(len(counts), dtype=torch.int32).repeat_interleave(torch.tensor(counts)).to(self.device)
        found = []
        for start in range(0, sum(counts), CHUNK_ITEMS):
            some = slice(start, start + CHUNK_ITEMS)
            scales = cells.scales[some] if cells.form else cells.scales
            values = cells.values[some].to(self.device)
            found.append(self.score_pairs(stacked, values, scales.to(self.device), owner[some], form=cells.form))
        return list(torch.cat(found).cpu().split(counts))

    def score_pairs(self, photos: Tensor, items: Tensor, scales: Tensor, owner: Tensor, *, form: int) -> Tensor:
        """Score pairs in one launch; all on the device.

        Args:
            photos: (B, P, K) float32.
            items: (N, Q, K) floats or int8, or (N, Q, K / 2) uint8; N at least 1.
            scales: (N, Q) float32.
            owner: (N,) int32: the photo of each.
            form: of the kernel's.

        Returns:
            (N,) float32 on the device.

        Raises:
            CompileError: a photo or an item has more than MOST_CELLS cells.
        """
        (_, photo, channels), (count, item, _) = photos.shape, items.shape
        if max(photo, item) > MOST_CELLS:
            raise CompileError(f"{max(photo, item)} cells are more than the {MOST_CELLS} that the kernel holds")
        assert 0 < count == len(owner)
        assert items.numel() < 2**31, "offsets are of 32 bits"
        scores = torch.empty(count, device=self.device)
        stored = channels // 2 if form == dense_kernel.NIBBLES.value else channels
        kernel: Any = dense_kernel.dense_match
        kernel[(count,)](
            scores, photos.contiguous(), items.contiguous(), scales.contiguous(), owner,
            PHOTO=photo, ITEM=item, CHANNELS=channels, FORM=form, ROUNDING=self._rounding,
            BLOCK_P=padded(photo), BLOCK_Q=padded(item), BLOCK_K=min(BLOCK_K, padded(stored)), STAGES=STAGES,
            num_warps=WARPS,
        )  # fmt: skip
        return scores


def _joined(items: Sequence[Stored]) -> _Cells:
    """All items in the narrowest form that all have."""
    coded = [each for each in items if isinstance(each, Coded)]
    if len(coded) < len(items):
        return _Cells(dense_kernel.FLOATS.value, _cat([floats(each) for each in items]), torch.zeros(1))
    scales = _cat([each.scales for each in coded])
    nibbles = [each.nibbles for each in coded if each.nibbles is not None]
    if len(nibbles) == len(coded):
        return _Cells(dense_kernel.NIBBLES.value, _cat(nibbles), scales)
    return _Cells(dense_kernel.BYTES.value, _cat([each.codes for each in coded]), scales)


def _cat(arrays: Sequence[Any]) -> Tensor:
    """(n_k, ...) each -> (sum of n_k, ...)."""
    return tensor(arrays[0] if len(arrays) == 1 else np.concatenate(arrays))
