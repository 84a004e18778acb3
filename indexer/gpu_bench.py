"""Exact search on a GPU against the same on the CPU: Faiss's part of `make bench-gpu`.

Letters  N vectors, E numbers a vector, Q queries, K results
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from threadmatch.indexer.index import Vectors
from threadmatch.indexer.index_bench import made_up
from threadmatch.indexer.index_building import RECALL_DEPTH
from threadmatch.indexer.scanning import faiss

DIM: Final = 512
QUERIES_A_CALL: Final = (1, 64)
ROUNDS: Final = 30


def why_no_gpu() -> str:
    """Why this Faiss has no GPU; "" where it has one."""
    if not hasattr(faiss, "StandardGpuResources"):
        return "the Faiss that is installed is faiss-cpu; faiss-gpu (extra gpu) is another build of the same module"
    if not faiss.get_num_gpus():
        return "faiss-gpu is installed and sees no GPU"
    return ""


def search_rates(*, items: int, dim: int = DIM) -> dict[str, Any]:
    """Search for a shortlist in made-up vectors, by the CPU and, where there is one, by the GPU.

    Returns:
        `items`, `dim`; by `cpu` and `gpu` the median milliseconds of a call, by queries a call; `same_first` and
        `same_shortlist`, the shares of first results and of results that both found. Without a GPU, `gpu` says why.
    """
    vectors = np.concatenate([values for _, values in made_up(items, dim)()])
    queries = np.concatenate([values for _, values in made_up(max(QUERIES_A_CALL), dim, seed=1)()])
    plain = faiss.IndexFlatIP(dim)
    plain.add(vectors)
    result: dict[str, Any] = {"items": items, "dim": dim, "cpu_threads": faiss.omp_get_max_threads()}
    result["cpu"] = _milliseconds(plain, queries)
    if reason := why_no_gpu():
        return result | {"gpu": None, "reason": reason}
    other = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, plain)
    result["gpu"] = _milliseconds(other, queries)
    (_, expected), (_, found) = plain.search(queries, RECALL_DEPTH), other.search(queries, RECALL_DEPTH)
    shared = [len(np.intersect1d(one, two)) for one, two in zip(expected, found, strict=True)]
    result["same_first"] = float((expected[:, 0] == found[:, 0]).mean())
    result["same_shortlist"] = float(np.mean(shared)) / RECALL_DEPTH
    return result


def _milliseconds(index: Any, queries: Vectors) -> dict[int, float]:
    """By queries a call, the median."""
    return {
        count: _median_ms(functools.partial(index.search, queries[:count], RECALL_DEPTH)) for count in QUERIES_A_CALL
    }


def _median_ms(call: Callable[[], object]) -> float:
    call()
    taken = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - started))
    return round(float(np.median(taken)), 3)
