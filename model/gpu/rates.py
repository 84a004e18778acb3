"""How fast the GPU's forms are, against torch on the same GPU and against what the GPU could do.

Contestants take turns (`speed.race`); each call waits until the GPU is done. Nothing here imports a kernel before it is
asked to measure one.

Letters  B pairs, R regions, C channels, P cells, K numbers a cell
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F

from threadmatch.model.dense import DenseMatcher
from threadmatch.model.descriptions import DEFAULT_MODEL, SHIPPED
from threadmatch.model.engine import GPU_CHUNK_PAIRS, Engine, needed_flops
from threadmatch.model.errors import CompileError
from threadmatch.model.features import CELLS, FeatureSpec
from threadmatch.model.gpu.checks import PAPER_CHANNELS, made_up_head
from threadmatch.model.gpu.head_packing import Tiles
from threadmatch.model.grnet import SimilarityHead, load_checkpoint
from threadmatch.model.speed import race

NOMINAL_TFLOPS: Final[Mapping[str, float]] = {
    "H200": 989,
    "H100": 989,
    "A100": 312,
    "L40S": 362,
    "L4": 121,
    "B200": 2250,
}
"""Dense bfloat16 products, of the makers' data sheets (SXM forms); of the first name that a device's own holds."""
SQUARE: Final = 8192
"""Side of the product that shows the GPU's own rate."""
PAIRS: Final = 2048
LITERAL_PAIRS: Final = 128
"""Pairs at a time of the literal form, whose gaps alone are 64 MB at the paper's sizes."""
CALLS: Final = (16, 200, 1600)
"""Pairs a call as a service makes them: the end of a chain, a whole shortlist, eight searches' together."""
CELLS_SHAPE: Final = (49, 256)
TRIED: Final = (
    Tiles(),
    Tiles(stages=2),
    Tiles(stages=4),
    Tiles(columns=128),
    Tiles(rows=128),
    Tiles(rows=128, columns=128, stages=2),
    Tiles(channels=32),
    Tiles(inner=32),
    Tiles(warps=4, stages=2),
    Tiles(rows=32, columns=64, warps=4, stages=2),
)
"""Among which `tile_rates` looks for better ones than those that serve."""


@dataclass(frozen=True, slots=True)
class PairRates:
    """Pairs a second of one head.

    Fields:
        model: whose.
        needed_mflop: least work of a pair, 10^6 operations (`engine.needed_flops`).
        pairs_per_s: with regions on the GPU already, by form.
        matrix_tflops: bfloat16 product of SQUARE, in the same race.
        share_of_matrix, share_of_nominal: of the kernel in bfloat16: pairs * needed work over that rate, and over the
            data sheet's; None where it is not known.
        call_ms: a call as a service makes it, from numbers in memory to scores in memory, by form and pairs.
    """

    model: str
    needed_mflop: float
    pairs_per_s: Mapping[str, float]
    matrix_tflops: float
    share_of_matrix: float
    share_of_nominal: float | None
    call_ms: Mapping[str, Mapping[int, float]]


def bench_heads() -> dict[str, SimilarityHead]:
    """The shipped head, and one at the paper's sizes and random weights; on the CPU."""
    shipped = load_checkpoint(SHIPPED / DEFAULT_MODEL).head.requires_grad_(False)
    return {DEFAULT_MODEL: shipped, "paper": made_up_head({}, PAPER_CHANNELS)}


def nominal_flops() -> float | None:
    """What the data sheet says of this device, operations a second in bfloat16."""
    name = torch.cuda.get_device_name()
    return next((1e12 * rate for known, rate in NOMINAL_TFLOPS.items() if known in name), None)


@torch.inference_mode()
def pair_rates(model: str, head: SimilarityHead, *, seconds: float) -> PairRates:
    """Race literal form, torch's serving form, the kernel in both precisions and a plain product, on CUDA.

    Args:
        model: name, for the report.
        head: on the CPU.
        seconds: for each of the races.
    """
    from threadmatch.model.gpu.pair_engine import PairEngine

    needed = needed_flops(head.config, head.projection.shape[1])
    items = _regions(head, PAIRS)
    stored = items.half()
    plain = Engine(head, device="cuda")
    kernels = {name: PairEngine(head, precision=name) for name in ("float32", "bfloat16")}
    calls = {"serving, torch": plain.score_many} | {
        f"kernel, {name}": kernel.score_many for name, kernel in kernels.items()
    }
    call_ms = {name: _call_ms(score, items[0], stored, seconds / len(calls)) for name, score in calls.items()}
    on_gpu, query = items.cuda(), items[:1].cuda()
    half, owner = stored.cuda(), torch.zeros(PAIRS, dtype=torch.int32, device="cuda")
    a, b = (torch.randn(SQUARE, SQUARE, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    contestants: dict[str, Callable[[], object]] = {
        "literal, torch": _waiting(functools.partial(_literal, head.cuda(), query, on_gpu)),
        "serving, torch": _waiting(lambda: [plain.score_pairs(query, some) for some in on_gpu.split(GPU_CHUNK_PAIRS)]),
        "product": _waiting(lambda: torch.mm(a, b)),
    }
    for name, kernel in kernels.items():
        contestants[f"kernel, {name}"] = _waiting(functools.partial(kernel.score_pairs, query, half, owner))
    timings = race(contestants, seconds=seconds)
    head.cpu()
    rate = 2.0 * SQUARE**3 / timings.pop("product").best_s
    per_s = {name: round(PAIRS / timing.best_s, 1) for name, timing in timings.items()}
    done, nominal = per_s["kernel, bfloat16"] * needed, nominal_flops()
    return PairRates(
        model, round(needed / 1e6, 1), per_s, round(rate / 1e12, 1), round(done / rate, 3),
        None if nominal is None else round(done / nominal, 3), call_ms,
    )  # fmt: skip


@torch.inference_mode()
def tile_rates(head: SimilarityHead, *, seconds: float) -> Iterator[dict[str, Any]]:
    """Pairs a second of the kernel in bfloat16 with each of TRIED, one by one; what cannot be compiled says why."""
    from threadmatch.model.gpu.pair_engine import PairEngine

    items = _regions(head, PAIRS)
    query, half = items[:1].cuda(), items.half().cuda()
    owner = torch.zeros(PAIRS, dtype=torch.int32, device="cuda")
    for tiles in TRIED:
        try:
            kernel = PairEngine(head, tiles=(tiles,))
        except CompileError as error:
            yield {"tiles": str(tiles), "error": str(error)[:300]}
            continue
        timing = race({"kernel": _waiting(functools.partial(kernel.score_pairs, query, half, owner))}, seconds=seconds)
        yield {"tiles": str(tiles), "pairs_per_s": round(PAIRS / timing["kernel"].best_s, 1)}


@torch.inference_mode()
def dense_rates(*, seconds: float) -> list[dict[str, Any]]:
    """Milliseconds of one photo's dense match with items as a gallery keeps them (int4): CPU, torch and the kernel."""
    from threadmatch.model.gpu.dense_engine import DenseEngine

    generator = torch.Generator().manual_seed(0)
    photo = F.normalize(torch.randn(CELLS_SHAPE, generator=generator), dim=-1).numpy()
    spec, rates = FeatureSpec(CELLS, CELLS_SHAPE, "int4"), []
    matchers = {
        "cpu": DenseMatcher(_no_grid),
        "cuda, torch": DenseMatcher(_no_grid, device="cuda"),
        "cuda, kernel": DenseMatcher(_no_grid, device="cuda", engine=DenseEngine()),
    }
    for count in CALLS:
        cells = F.normalize(torch.randn(count, *CELLS_SHAPE, generator=generator), dim=-1).numpy()
        records = [spec.pack(one) for one in cells]
        # unpacked anew by each: what a search does
        calls = {name: functools.partial(_match, matcher, photo, spec, records) for name, matcher in matchers.items()}
        timings = race(calls, seconds=seconds)
        rates.append({"items": count} | {name: round(1000 * each.median_s, 3) for name, each in timings.items()})
    return rates


def _match(matcher: DenseMatcher, photo: Any, spec: FeatureSpec, records: list[bytes]) -> object:
    return matcher.score_many([{CELLS: photo}], [{CELLS: spec.stored(records)}])


def _no_grid() -> tuple[int, int]:
    raise AssertionError("the grid of cells is asked for by explanations, and nothing is explained here")


def _regions(head: SimilarityHead, count: int) -> Tensor:
    """(count, R, C) made up, unit vectors of values of 0 and more."""
    shape = (count, head.config.regions, head.projection.shape[1])
    return F.normalize(torch.rand(shape, generator=torch.Generator().manual_seed(0)), dim=-1)


def _literal(head: SimilarityHead, query: Tensor, items: Tensor) -> list[Tensor]:
    return [head(query.expand(len(some), -1, -1), some) for some in items.split(LITERAL_PAIRS)]


def _waiting(call: Callable[[], object]) -> Callable[[], object]:
    """The call, and the GPU is done."""

    @torch.inference_mode()
    def run() -> None:
        call()
        torch.cuda.synchronize()

    return run


def _call_ms(
    score_many: Callable[[list[Tensor], list[Tensor]], object], query: Tensor, stored: Tensor, seconds: float
) -> dict[int, float]:
    calls = {str(count): functools.partial(score_many, [query], [stored[:count]]) for count in CALLS}
    timings = race(calls, seconds=seconds)
    return {int(count): round(1000 * timing.median_s, 3) for count, timing in timings.items()}
