"""What launches the pair kernel: the GPU's form of `engine.Engine`, with its interface.

Pairs of several queries go through in one launch, since each pair names its query; so the queue that gathers searches
is what fills the GPU. One launch is all the work of a call, so a CUDA graph would have nothing to save.

Letters  Q queries, B pairs, R regions, C channels
Paper    Kuang et al., ICCV 2019, Eq. 1 to 8
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor

from threadmatch.model.errors import CompileError
from threadmatch.model.gpu import pair_kernel
from threadmatch.model.gpu.head_packing import TILES, PackedHead, Precision, Tiles, pack_head
from threadmatch.model.gpu.launching import FAILURES, interpreted, programs_of, rounding_of
from threadmatch.model.grnet import SimilarityHead

CHUNK_PAIRS: Final = 4096
"""Pairs a launch: 50 MB of regions at the shipped sizes, and offsets that fit 32 bits at the paper's."""


class PairEngine:
    """Scores queries against candidates by one kernel.

    Args:
        head: trained; its weights are copied, later changes of it are not seen.
        device: "cuda"; "cpu" under Triton's interpreter alone.
        precision: what products are made of.
        tiles: a program's; the first that can be had serves. None given: those of TILES.

    Raises:
        CompileError: the head is beyond the kernel, or no tiles can be had.
    """

    def __init__(
        self,
        head: SimilarityHead,
        *,
        device: str = "cuda",
        precision: Precision = "bfloat16",
        tiles: Sequence[Tiles] = (),
    ) -> None:
        if device == "cpu" and not interpreted():
            raise CompileError("a Triton kernel runs on CUDA, or under its interpreter (TRITON_INTERPRET=1)")
        self.device, self.precision = torch.device(device), precision
        self.regions, self.channels = head.config.regions, head.projection.shape[1]
        self._rounding, self._dtype = rounding_of(precision)
        self._programs = programs_of(self.device)
        self._turn = threading.Lock()
        self.tiles, self._packed, self._strips = self._first_that_runs(head, tiles or TILES[precision])

    def _first_that_runs(
        self, head: SimilarityHead, choices: Sequence[Tiles]
    ) -> tuple[Tiles, PackedHead, tuple[Tensor, Tensor]]:
        """Tiles, weights and the programs' strips of nodes; compiled and run once, on one pair of zeros."""
        reason = ""
        for tiles in choices:
            packed = pack_head(head, device=str(self.device), tiles=tiles, dtype=self._dtype)
            self.tiles, self._packed, self._strips = tiles, packed, self._scratch(packed)
            blank = torch.zeros(1, self.regions, self.channels, device=self.device)
            try:
                self.score_pairs(blank, blank, torch.zeros(1, dtype=torch.int32, device=self.device)).cpu()
            except FAILURES as error:
                reason = f"{type(error).__name__}: {error}"
                continue
            return tiles, packed, self._strips
        raise CompileError(f"the kernel runs with none of {len(choices)} tiles; the last said {reason}")

    def _scratch(self, packed: PackedHead) -> tuple[Tensor, Tensor]:
        """(programs, NODES, WIDTH) and (programs, 2, NODES, HIDDEN): what no other program touches."""
        sizes = packed.sizes
        nodes = torch.empty(self._programs, sizes["NODES"], sizes["WIDTH"], dtype=self._dtype, device=self.device)
        hidden = torch.empty(self._programs, 2, sizes["NODES"], sizes["HIDDEN"], dtype=self._dtype, device=self.device)
        return nodes, hidden

    @torch.inference_mode()
    def score(self, query: Tensor, candidates: Tensor) -> Tensor:
        """(R, C) and (n, R, C), n may be 0 -> (n,) float32 logits on the CPU."""
        return self.score_many([query], [candidates])[0]

    @torch.inference_mode()
    def score_many(self, queries: Sequence[Tensor], candidates: Sequence[Tensor]) -> list[Tensor]:
        """Score several queries, each against its own candidates; see `engine.Engine.score_many`."""
        counts = [len(block) for block in candidates]
        if not sum(counts):
            return [torch.empty(0) for _ in counts]
        stacked = torch.stack([query.float() for query in queries]).to(self.device)  # (Q, R, C)
        owner = torch.arange(len(counts), dtype=torch.int32).repeat_interleave(torch.tensor(counts)).to(self.device)
        flat = candidates[0] if len(candidates) == 1 else torch.cat(list(candidates))
        found = [
            self.score_pairs(stacked, chunk.to(self.device), mine)
            for chunk, mine in zip(flat.split(CHUNK_PAIRS), owner.split(CHUNK_PAIRS), strict=True)
        ]
        return list(torch.cat(found).cpu().split(counts))

    def score_pairs(self, queries: Tensor, items: Tensor, owner: Tensor) -> Tensor:
        """Score pairs in one launch.

        Args:
            queries: (Q, R, C) float32 on the device.
            items: (B, R, C) float16 or float32 on the device, CHUNK_PAIRS at most; B at least 1.
            owner: (B,) int32 on the device: the query of each.

        Returns:
            (B,) float32 on the device.
        """
        assert items.shape[1:] == queries.shape[1:] == (self.regions, self.channels)
        assert 0 < len(items) == len(owner)
        assert items.numel() < 2**31, "offsets are of 32 bits"
        packed, (nodes, hidden) = self._packed, self._strips
        scores = torch.empty(len(items), device=self.device)
        kernel: Any = pair_kernel.score_pairs
        with self._turn:  # the strips are those of the programs of one launch; a stream keeps launches apart
            kernel[(min(len(items), self._programs),)](
                scores, queries.contiguous(), items.contiguous(), owner, len(items), packed.index, packed.mask,
                packed.projection, packed.steps, packed.constants, packed.position, nodes, hidden,
                **packed.sizes, ROUNDING=self._rounding, num_warps=self.tiles.warps,
            )  # fmt: skip
        return scores
