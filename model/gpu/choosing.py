"""What matches on a device: kernels where they run and agree with torch, torch everywhere else; the log says why.

A kernel that answers is no proof that it answers rightly, on a GPU, a driver and a Triton that nobody here has tried.
So each is held to torch's float32 on made-up pairs before it serves, once a start; that compiles it besides.

Letters  B pairs, R regions, C channels, P cells, K numbers a cell
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from threadmatch.model.coded import Coded, Stored
from threadmatch.model.dense import CellEngine, dense_similarity
from threadmatch.model.engine import Engine
from threadmatch.model.errors import CompileError
from threadmatch.model.features import CELLS, FeatureSpec
from threadmatch.model.gpu.head_packing import Precision
from threadmatch.model.grnet import SimilarityHead, normed
from threadmatch.model.region_matchers import tensor

logger = logging.getLogger(__name__)

KERNEL_DEVICE: Final = "cuda"
PROBES: Final = 24
"""Made-up pairs; one of them a photo with itself."""
SCORE_APART: Final[dict[Precision, float]] = {"float32": 1e-3, "bfloat16": 2e-2}
"""Largest difference from torch's float32 that is rounding, as a share of the scores' size (docs/gpu.md)."""
LEAST_SIZE: Final = 0.1
"""Of scores, where a head gives about nothing to all."""
COSINE_APART: Final = 1e-4
"""Likewise, of mean cosines."""
PROBE_CELLS: Final = (49, 64)
"""Cells and numbers a cell of the dense kernel's probe."""


class PairScorer(Protocol):
    """Scores queries against candidates by a head: `engine.Engine`, or a kernel with its interface."""

    def score_many(self, queries: Sequence[Tensor], candidates: Sequence[Tensor]) -> list[Tensor]:
        """(R, C) each and (n, R, C) each, n may be 0 -> (n,) float32 logits on the CPU each."""
        ...


def pair_scorer(
    head: SimilarityHead, device: str, *, precision: Precision = "bfloat16", kernels_on: str = KERNEL_DEVICE
) -> PairScorer:
    """What scores pairs by a head on a device.

    Args:
        head: trained.
        device: "cpu" or "cuda".
        precision: of a kernel's products.
        kernels_on: the device that has kernels; "cpu" under Triton's interpreter.
    """
    plain = Engine(head, device=device)
    if device != kernels_on:
        return plain
    try:
        require_triton()
        from threadmatch.model.gpu.pair_engine import PairEngine

        kernel = PairEngine(head, device=device, precision=precision)
        hold_to(plain, kernel, head, apart=SCORE_APART[precision])
    except CompileError as error:
        logger.warning("torch reranks", extra={"instead_of": "a Triton kernel", "reason": str(error)})
        return plain
    logger.info("a Triton kernel reranks", extra={"precision": precision, "tiles": str(kernel.tiles)})
    return kernel


def cell_engine(device: str, *, kernels_on: str = KERNEL_DEVICE) -> CellEngine | None:
    """What matches cells on a device in place of torch; None for torch. `kernels_on` as for `pair_scorer`."""
    if device != kernels_on:
        return None
    try:
        require_triton()
        from threadmatch.model.gpu.dense_engine import DenseEngine

        kernel = DenseEngine(device=device)
        hold_cells_to_torch(kernel)
    except CompileError as error:
        logger.warning("torch matches densely", extra={"instead_of": "a Triton kernel", "reason": str(error)})
        return None
    logger.info("a Triton kernel matches densely", extra={"precision": kernel.precision})
    return kernel


def require_triton() -> None:
    """Return where Triton can be imported.

    Raises:
        CompileError: it is not there, or does not start.
    """
    try:
        import triton  # noqa: F401 - whether it can be
    except (ImportError, OSError) as error:
        raise CompileError(f"Triton cannot be imported ({error}); torch's CUDA builds bring it") from error


def probe_regions(head: SimilarityHead, count: int = PROBES) -> tuple[Tensor, Tensor]:
    """A made-up query (R, C) and items (count, R, C), the same each time; the last item is the query itself."""
    config, generator = head.config, torch.Generator().manual_seed(0)
    own, *others = torch.randn(1 + count, config.regions, head.projection.shape[1], generator=generator).relu()
    shared = torch.linspace(0, 1, count)[:, None, None]  # from strangers to the very same
    regions = normed(torch.stack(others) * (1 - shared) + own * shared, config).half().float()
    return regions[-1], regions


def hold_to(plain: PairScorer, kernel: PairScorer, head: SimilarityHead, *, apart: float) -> float:
    """Compare two ways to score on made-up pairs.

    Args:
        plain: the reference.
        kernel: held to it.
        head: of both.
        apart: largest difference that is rounding, as a share of the scores' size.

    Returns:
        The largest difference, as that share.

    Raises:
        CompileError: they differ by more.
    """
    query, items = probe_regions(head)
    [expected], [found] = plain.score_many([query], [items]), kernel.score_many([query], [items.half()])
    share = share_apart(expected, found)
    if not share <= apart:  # so that NaN is more
        raise CompileError(
            f"its scores of {len(items)} made-up pairs differ from torch's by up to {share:.2g} of their size, "
            f"{apart:g} would be rounding"
        )
    return share


def share_apart(expected: Tensor, found: Tensor) -> float:
    """Largest difference of two (n,) of scores, as a share of the size of the first, their root mean square.

    Rounding is a share of what is added up, so of the scores, not of what tells them apart.
    """
    size = max(LEAST_SIZE, float(expected.square().mean().sqrt()))
    return float((expected - found).abs().max()) / size


def hold_cells_to_torch(kernel: CellEngine) -> float:
    """Compare a dense kernel with torch on made-up cells in every form in which a gallery keeps them.

    Returns:
        The largest difference.

    Raises:
        CompileError: it is more than COSINE_APART.
    """
    cells, channels = PROBE_CELLS
    generator = torch.Generator().manual_seed(0)
    photo, *rest = F.normalize(torch.randn(PROBES + 1, cells, channels, generator=generator), dim=-1)
    apart = 0.0
    for dtype in ("int4", "int8", "float16"):
        spec = FeatureSpec(CELLS, (cells, channels), dtype)
        stored: Stored = spec.stored([spec.pack(one.numpy()) for one in rest])
        [found] = kernel.score_many([photo], [stored])
        shown = tensor(stored).float() if isinstance(stored, Coded) else torch.from_numpy(stored).float()
        apart = max(apart, float((found - dense_similarity(photo[None], shown)).abs().nan_to_num(nan=1.0).max()))
    if apart > COSINE_APART:
        raise CompileError(
            f"its scores of {PROBES} made-up items differ from torch's by up to {apart:.2g}, "
            f"{COSINE_APART:g} would be rounding"
        )
    return apart
