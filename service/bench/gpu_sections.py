"""What `make bench-gpu` checks and measures, a section each; a section runs in a process of its own (`bench.gpu`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from threadmatch.indexer.gpu_bench import search_rates
from threadmatch.model.data.setups import Setup
from threadmatch.model.descriptions import DEFAULT_MODEL
from threadmatch.model.device_ranks import check_model_ranks
from threadmatch.model.gpu.checks import (
    Check,
    RankCheck,
    check_dense,
    check_pairs,
    check_repeats,
    check_small_ranks,
    small_heads,
)
from threadmatch.model.gpu.rates import bench_heads, dense_rates, pair_rates, tile_rates
from threadmatch.model.images import load_image
from threadmatch.model.speed import encode_speed
from threadmatch.model.synthetic.drawn.drawn_query import draw_street_query
from threadmatch.model.synthetic.garments.garment import garment
from threadmatch.service.bench.latency import RERANKED, WAYS
from threadmatch.service.bench.run import BenchOptions, jpeg, measure_service

SEED: Final = 7
MODEL_PX: Final = 224
CLIENTS: Final = (1, 16, 64)
CANDIDATES: Final = 200
SETTINGS: Final = {"max_searches": "512", "max_connections": "512", "max_pairs": "200000", "rerank_pairs": "4096"}
"""So that 64 clients at one address all wait for answers, and a call takes several searches' pairs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """How much a section does.

    Fields:
        device: "cuda", or "cpu" for Triton's interpreter.
        pairs: of each head that is checked.
        queries, items: whose orders are compared.
        gallery_items: drawn, ingested and searched.
        index_items: vectors of Faiss's race.
        seconds: of each race; clients ask for as long.
        work: folder.
    """

    device: str
    pairs: int
    queries: int
    items: int
    gallery_items: int
    index_items: int
    seconds: float
    work: Path


def _checked(checks: Iterable[Check | RankCheck]) -> dict[str, Any]:
    found = [asdict(check) | {"passed": check.passed} for check in checks]
    return {"passed": all(each["passed"] for each in found), "checks": found}


def kernels(scope: Scope) -> dict[str, Any]:
    """Both kernels against the literal forms: every kind of head, and on CUDA the shipped one and the paper's sizes."""
    checks: list[Check | RankCheck] = [*check_dense(device=scope.device)]
    heads = small_heads()
    if scope.device == "cuda":
        heads |= bench_heads()
        checks.append(check_repeats(bench_heads()[DEFAULT_MODEL], device=scope.device))
    else:  # an interpreter takes seconds a pair at those sizes
        checks.append(check_repeats(next(iter(heads.values())), device=scope.device, pairs=scope.pairs))
    checks += check_pairs(heads, device=scope.device, pairs=scope.pairs)
    checks.append(check_small_ranks(device=scope.device))
    return _checked(checks)


def ranks(scope: Scope) -> dict[str, Any]:
    """Every matcher of the shipped model on the GPU against the CPU, over drawn photos."""
    photos = _drawn(scope.queries, Setup.HARD_OCCLUSION)
    return _checked(check_model_ranks(DEFAULT_MODEL, photos, _drawn(scope.items, Setup.EASY), device=scope.device))


def pairs(scope: Scope) -> dict[str, Any]:
    """Pairs a second of literal form, torch and kernel, and the share of the GPU's rate."""
    rates = [pair_rates(name, head, seconds=scope.seconds) for name, head in bench_heads().items()]
    return {"heads": [asdict(each) for each in rates]}


def dense(scope: Scope) -> dict[str, Any]:
    """Milliseconds of a dense match: CPU, torch on the GPU, the kernel."""
    return {"calls_ms": dense_rates(seconds=scope.seconds / 2)}


def encode(scope: Scope) -> dict[str, Any]:
    """Images a second, GPU and CPU, a photo a call and many."""
    result: dict[str, Any] = {}
    for device, batches in (("cuda", (16, 64, 256)), ("cpu", (16,))):
        result[device] = [
            asdict(encode_speed(DEFAULT_MODEL, device=device, batch=batch, seconds=scope.seconds / 2, seed=SEED))
            for batch in batches
        ]
    return result


def index(scope: Scope) -> dict[str, Any]:
    """faiss-gpu against faiss-cpu, where both are in the Faiss that is installed."""
    return search_rates(items=scope.index_items)


def service(scope: Scope) -> dict[str, Any]:
    """/search by a real `threadmatch serve` on the device."""
    return measure_service(
        BenchOptions(
            model="",
            device=scope.device,
            gallery_items=scope.gallery_items,
            clients=CLIENTS,
            candidates=CANDIDATES,
            batch=16,
            seconds=scope.seconds / 2,
            seed=SEED,
            work=scope.work,
            with_service=True,
            ways=(*WAYS, *RERANKED),
            settings=SETTINGS,
        ),
        lambda message: print(message, flush=True),
    )


def tiles(scope: Scope) -> dict[str, Any]:
    """Which tiles would be faster than those that serve; as many as there is time for."""
    end, rows = time.monotonic() + SECTIONS["tiles"].limit_s * 0.8, []
    for row in tile_rates(bench_heads()[DEFAULT_MODEL], seconds=scope.seconds / 6):
        rows.append(row)
        if time.monotonic() > end:
            break
    return {"tiles": rows}


def _drawn(count: int, setup: Setup) -> NDArray[np.uint8]:
    """(count, S, S, 3) street photos of garments 0 to count - 1, as the shipped model sees them."""
    files = [jpeg(draw_street_query(garment(SEED, n), setup=setup, seed=SEED).image, None) for n in range(count)]
    return np.stack([load_image(file, image_px=MODEL_PX)[0].pixels for file in files])


@dataclass(frozen=True, slots=True)
class Section:
    """One part.

    Fields:
        run: does it; JSON-ready, "passed" where it checks something.
        limit_s: after which it is ended.
        interpreted: whether Triton's interpreter can do it on the CPU.
    """

    run: Callable[[Scope], dict[str, Any]]
    limit_s: float
    interpreted: bool = False


SECTIONS: Final[Mapping[str, Section]] = {
    "kernels": Section(kernels, 130, interpreted=True),
    "ranks": Section(ranks, 70),
    "pairs": Section(pairs, 80),
    "dense": Section(dense, 30),
    "encode": Section(encode, 50),
    "index": Section(index, 30),
    "service": Section(service, 150),
    "tiles": Section(tiles, 80),
}
"""In order: what is wrong need not be measured, and what only tunes comes last."""
