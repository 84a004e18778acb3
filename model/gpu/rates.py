"""How fast the GPU's forms are, against torch on the same GPU and against what the GPU could do.

Contestants take turns (`racing.race`), and each call waits until the GPU is done. No kernel is imported before one is
to be measured.

Letters  B pairs, R regions, C channels, P cells, K numbers a cell
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from threadmatch.model.gpu.head_packing import Precision, Tiles
from threadmatch.model.grnet import SimilarityHead, load_checkpoint
from threadmatch.model.racing import race

NOMINAL_TFLOPS: Final[Mapping[str, float]] = {
    "H200": 989,
    "H100": 989,
    "A100": 312,
    "L40S": 362,
    "L4": 121,
    "B200": 2250,
}
"""Dense bfloat16 products, of the makers' data sheets (SXM forms); of the first name that a device's own holds."""
LITERAL_PAIRS: Final = 128
"""Pairs at a time of the literal form, whose gaps alone are 64 MB at the paper's sizes."""
CELLS_SHAPE: Final = (49, 256)
PRECISIONS: Final[tuple[Precision, Precision]] = ("float32", "bfloat16")
KERNEL_FLOAT32, KERNEL = (f"kernel, {precision}" for precision in PRECISIONS)
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
class Load:
    """What is computed.

    Fields:
        device: "cuda"; "cpu" in Triton's interpreter, to see whether this runs at all.
        pairs: of one launch.
        square: side of the product that shows the device's own rate in bfloat16.
        calls: pairs a call as a service makes them: the end of a chain, a whole shortlist, eight searches' together.
        tried: tiles.
    """

    device: str = "cuda"
    pairs: int = 2048
    square: int = 8192
    calls: tuple[int, ...] = (16, 200, 1600)
    tried: tuple[Tiles, ...] = TRIED


FULL: Final = Load()


@dataclass(frozen=True, slots=True)
class PairRates:
    """Pairs a second of one head.

    Fields:
        model: whose.
        needed_mflop: least work of a pair, 10^6 operations (`engine.needed_flops`).
        pairs_per_s: with regions on the GPU already, by form.
        matrix_tflops: of the product of two squares, in the same race.
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


def nominal_flops(device: str) -> float | None:
    """What the data sheet says of a device, operations a second in bfloat16."""
    name = torch.cuda.get_device_name() if device == "cuda" else ""
    return next((1e12 * rate for known, rate in NOMINAL_TFLOPS.items() if known in name), None)


@torch.inference_mode()
def pair_rates(model: str, head: SimilarityHead, *, seconds: float, load: Load = FULL) -> PairRates:
    """Race literal form, torch's serving form, the kernel in both precisions and a plain product.

    Args:
        model: name, for the report.
        head: on the CPU.
        seconds: for each of the races.
        load: what is computed.
    """
    from threadmatch.model.gpu.pair_engine import PairEngine

    needed = needed_flops(head.config, head.projection.shape[1])
    items = _regions(head, load.pairs)
    plain = Engine(head, device=load.device)
    exact, rounded = (PairEngine(head, device=load.device, precision=name) for name in PRECISIONS)
    calls = {"serving, torch": plain.score_many, KERNEL_FLOAT32: exact.score_many, KERNEL: rounded.score_many}
    call_ms = {
        name: _call_ms(score, items[0], items.half(), load.calls, seconds / len(calls)) for name, score in calls.items()
    }
    there, query = items.to(load.device), items[:1].to(load.device)
    owner = torch.zeros(load.pairs, dtype=torch.int32, device=load.device)
    a, b = (torch.randn(load.square, load.square, device=load.device).bfloat16() for _ in range(2))
    literal = copy.deepcopy(head).to(load.device)
    contestants: dict[str, Callable[[], object]] = {
        "literal, torch": lambda: _literal(literal, query, there),
        "serving, torch": lambda: [plain.score_pairs(query, some) for some in there.split(GPU_CHUNK_PAIRS)],
        KERNEL_FLOAT32: lambda: exact.score_pairs(query, there.half(), owner),
        KERNEL: lambda: rounded.score_pairs(query, there.half(), owner),
        "product": lambda: torch.mm(a, b),
    }
    timings = race({name: _waiting(call, load.device) for name, call in contestants.items()}, seconds=seconds)
    rate = 2.0 * load.square**3 / timings.pop("product").best_s
    per_s = {name: round(load.pairs / timing.best_s, 1) for name, timing in timings.items()}
    done, nominal = per_s[KERNEL] * needed, nominal_flops(load.device)
    return PairRates(
        model, round(needed / 1e6, 1), per_s, float(f"{rate / 1e12:.4g}"), float(f"{done / rate:.4g}"),
        None if nominal is None else float(f"{done / nominal:.4g}"), call_ms,
    )  # fmt: skip


@torch.inference_mode()
def tile_rates(head: SimilarityHead, *, seconds: float, load: Load = FULL) -> Iterator[dict[str, Any]]:
    """Pairs a second of the kernel in bfloat16 with each tiles, one by one; what cannot be compiled says why."""
    from threadmatch.model.gpu.pair_engine import PairEngine

    items = _regions(head, load.pairs)
    query, half = items[:1].to(load.device), items.half().to(load.device)
    owner = torch.zeros(load.pairs, dtype=torch.int32, device=load.device)
    for tiles in load.tried:
        try:
            kernel = PairEngine(head, device=load.device, tiles=(tiles,))
        except CompileError as error:
            yield {"tiles": str(tiles), "error": str(error)[:300]}
            continue
        run = _waiting(functools.partial(kernel.score_pairs, query, half, owner), load.device)
        timing = race({"kernel": run}, seconds=seconds)["kernel"]
        yield {"tiles": str(tiles), "pairs_per_s": round(load.pairs / timing.best_s, 1)}


@torch.inference_mode()
def dense_rates(*, seconds: float, load: Load = FULL) -> list[dict[str, Any]]:
    """Milliseconds of one photo's dense match with items as a gallery keeps them (int4): CPU, torch and the kernel.

    Each takes the records as they lie in a gallery, as a search does.
    """
    from threadmatch.model.gpu.dense_engine import DenseEngine

    generator = torch.Generator().manual_seed(0)
    photo = F.normalize(torch.randn(CELLS_SHAPE, generator=generator), dim=-1).numpy()
    spec, rates = FeatureSpec(CELLS, CELLS_SHAPE, "int4"), []
    matchers = {
        "cpu": DenseMatcher(_no_grid),
        f"{load.device}, torch": DenseMatcher(_no_grid, device=load.device, in_bytes=False),
        f"{load.device}, kernel": DenseMatcher(_no_grid, engine=DenseEngine(device=load.device)),
    }
    for count in load.calls:
        cells = F.normalize(torch.randn(count, *CELLS_SHAPE, generator=generator), dim=-1).numpy()
        records = [spec.pack(one) for one in cells]
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


def _waiting(call: Callable[[], object], device: str) -> Callable[[], object]:
    """The call, and the device is done."""

    @torch.inference_mode()
    def run() -> None:
        call()
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def _call_ms(
    score_many: Callable[[list[Tensor], list[Tensor]], object],
    query: Tensor,
    stored: Tensor,
    counts: Sequence[int],
    seconds: float,
) -> dict[int, float]:
    """By pairs a call, the median."""
    calls = {str(count): functools.partial(score_many, [query], [stored[:count]]) for count in counts}
    timings = race(calls, seconds=seconds)
    return {int(count): round(1000 * timing.median_s, 3) for count, timing in timings.items()}
