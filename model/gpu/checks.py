"""Whether the kernels are right on this machine: what `make bench-gpu` asks before it measures anything.

The reference is always on the CPU, in float32: `SimilarityHead.forward`, equation by equation, and `dense_similarity`.

Letters  B pairs, R regions, C channels, n queries, m items
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from threadmatch.model.config import GRNetConfig
from threadmatch.model.errors import CompileError
from threadmatch.model.gpu.choosing import (
    COSINE_APART,
    SCORE_APART,
    hold_cells_to_torch,
    probe_regions,
    require_triton,
    share_apart,
)
from threadmatch.model.gpu.head_packing import Precision
from threadmatch.model.grnet import SimilarityHead

SMALL: Final[dict[str, Any]] = {"scales": ("1x1", "1x2", "2x2"), "similarity_channels": 40, "node_channels": 20}
"""Sizes that are no powers of two: a head that an interpreter goes through in a second."""
SMALL_CHANNELS: Final = 20
HEADS: Final[Mapping[str, Mapping[str, Any]]] = {
    "small, one step": {"steps": 1, "classifier": "one_logit"},
    "small, edges kept, none inside a scale": {"intra_scale_edges": False, "edges": "frozen"},
    "small, no edges between scales": {"inter_scale_edges": False, "steps": 2},
    "small, shared weights, bias, places and blend": {
        "step_weights": "shared",
        "steps": 4,
        "projection_bias": True,
        "position_code": True,
        "blend": ("global", "greedy"),
        "region_norm": "l2",
    },
}
"""What may differ in a head, by name."""
REPEATS: Final = 3
"""Runs of the same pairs: programs that read what others write would not give the same bits each time."""
REPEATED_PAIRS: Final = 2048
PAPER_CHANNELS: Final = 1024


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison with a reference.

    Fields:
        what: was compared.
        precision: of the kernel's products.
        pairs: compared.
        apart: the largest difference; of scores as a share of their size (`choosing.share_apart`).
        allowed: of it.
        error: why there is nothing to compare; "" where there is.
    """

    what: str
    precision: str
    pairs: int
    apart: float
    allowed: float
    error: str = ""

    @property
    def passed(self) -> bool:
        """Whether it is within what is allowed; NaN is not."""
        return not self.error and self.apart <= self.allowed


def made_up_head(settings: Mapping[str, Any], channels: int, *, seed: int = 3) -> SimilarityHead:
    """A head at random weights that tells pairs apart, the same each time."""
    head = SimilarityHead(GRNetConfig(**settings), channels).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for parameter in head.parameters():
        spread = (2 / parameter.shape[-1]) ** 0.5 if parameter.ndim > 1 else 1.0
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
    return head


def small_heads() -> dict[str, SimilarityHead]:
    """One of each of HEADS."""
    return {name: made_up_head({**SMALL, **settings}, SMALL_CHANNELS) for name, settings in HEADS.items()}


def check_pairs(heads: Mapping[str, SimilarityHead], *, device: str, pairs: int) -> list[Check]:
    """Each head by the kernel, in both precisions, against the literal form.

    Args:
        heads: on the CPU, by name.
        device: "cuda", or "cpu" in Triton's interpreter.
        pairs: of each head.
    """
    return [
        _check_head(name, head, precision, device=device, pairs=pairs)
        for name, head in heads.items()
        for precision in ("float32", "bfloat16")
    ]


@torch.inference_mode()
def _check_head(name: str, head: SimilarityHead, precision: Precision, *, device: str, pairs: int) -> Check:
    query, items = probe_regions(head, pairs)
    expected = torch.cat([head(query.expand(len(some), -1, -1), some) for some in items.split(16)])
    allowed = SCORE_APART[precision]
    try:
        require_triton()
        from threadmatch.model.gpu.pair_engine import PairEngine

        found = PairEngine(head, device=device, precision=precision).score(query, items.half())
    except CompileError as error:
        return Check(name, precision, pairs, float("inf"), allowed, str(error))
    return Check(name, precision, pairs, share_apart(expected, found), allowed)


def check_dense(*, device: str) -> list[Check]:
    """The dense kernel, in both precisions, against torch, in every form in which a gallery keeps cells."""
    return [_check_cells(precision, device) for precision in ("float32", "bfloat16")]


def _check_cells(precision: Precision, device: str) -> Check:
    what = "dense: int4, int8 and float16"
    try:
        require_triton()
        from threadmatch.model.gpu.dense_engine import DenseEngine

        apart = hold_cells_to_torch(DenseEngine(device=device, precision=precision))
    except CompileError as error:
        return Check(what, precision, 0, float("inf"), COSINE_APART, str(error))
    return Check(what, precision, 0, apart, COSINE_APART)


@torch.inference_mode()
def check_repeats(head: SimilarityHead, *, device: str, pairs: int = REPEATED_PAIRS) -> Check:
    """The same pairs again and again, in other places of the launch: the scores are the same, bit for bit."""
    from threadmatch.model.gpu.pair_engine import PairEngine

    query, items = probe_regions(head, pairs)
    engine = PairEngine(head, device=device)
    first = engine.score(query, items)
    apart = 0.0
    for turn in range(1, REPEATS):
        moved = torch.roll(items, 17 * turn, dims=0)
        apart = max(apart, float((torch.roll(engine.score(query, moved), -17 * turn) - first).abs().max()))
    return Check("the same pairs again, bit for bit", engine.precision, pairs, apart, 0.0)


@dataclass(frozen=True, slots=True)
class RankCheck:
    """How two ways order the same items.

    Fields:
        matcher: whose scores.
        queries, items: n, and m of each.
        first_equal, all_equal: queries whose first item is the same one; whose order is.
        apart: largest difference of one item's scores, as a share of their size.
        swapped_apart: largest difference, in the reference's scores, of two items that stand the other way round; such
            a share too. Items that are less apart than rounding are tied.
        allowed: of both.
    """

    matcher: str
    queries: int
    items: int
    first_equal: int
    all_equal: int
    apart: float
    swapped_apart: float
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether the orders are equal but for ties."""
        return self.apart <= self.allowed and self.swapped_apart <= 2 * self.allowed


def check_ranks(matcher: str, expected: Sequence[Tensor], found: Sequence[Tensor], *, allowed: float) -> RankCheck:
    """Compare the orders of n queries' items.

    Args:
        matcher: name, for the report.
        expected: (m,) scores each, of the reference.
        found: likewise, of what is held to it.
        allowed: see `RankCheck`.
    """
    first = all_equal = 0
    apart = swapped = 0.0
    for reference, other in zip(expected, found, strict=True):
        own, others = reference.argsort(descending=True, stable=True), other.argsort(descending=True, stable=True)
        first += bool(own[0] == others[0])
        all_equal += bool((own == others).all())
        apart = max(apart, share_apart(reference, other))
        swapped = max(swapped, share_apart(reference[own], reference[others]))
    items = len(expected[0]) if expected else 0
    return RankCheck(matcher, len(expected), items, first, all_equal, apart, swapped, allowed)


@torch.inference_mode()
def check_small_ranks(*, device: str, queries: int = 3, items: int = 6) -> RankCheck:
    """Of a small head at random weights: the kernel's orders in bfloat16 against the literal form's."""
    from threadmatch.model.gpu.pair_engine import PairEngine

    head = made_up_head({**SMALL, "blend": ("global", "greedy")}, SMALL_CHANNELS)
    _, made = probe_regions(head, queries * (items + 1))
    photos, blocks = made[:queries], list(made[queries:].split(items))
    expected = [head(photo.expand(items, -1, -1), block) for photo, block in zip(photos, blocks, strict=True)]
    found = PairEngine(head, device=device).score_many(list(photos), blocks)
    return check_ranks("grnet, small", expected, found, allowed=SCORE_APART["bfloat16"])
