"""Measures exact and approximate search over galleries of several sizes; this is where FLAT_MAX_ITEMS comes from.

    python -m threadmatch.indexer.index_bench --dim 1280 --sizes 5000 20000 50000

The vectors are made up, with the shape that embeddings have: few directions of real variation, clusters, positive
values, a little noise. Evenly random vectors would be far harder for any approximate index, and like no gallery.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from threadmatch.indexer.index import Ids, VectorIndex, Vectors
from threadmatch.indexer.index_building import RECALL_DEPTH, RECALL_LIKE, RECALL_UNLIKE, build, sample_queries

DIRECTIONS, CLUSTERS, NOISE = 64, 200, 0.1
BLOCK_ROWS = 5_000
QUERIES = 100


def made_up(count: int, dim: int, *, seed: int = 0) -> Callable[[], Iterator[tuple[Ids, Vectors]]]:
    """Blocks of (n,) ids and (n, E) unit vectors, the same each time; each seed has others of one kind."""

    def blocks() -> Iterator[tuple[Ids, Vectors]]:
        random = np.random.default_rng(0)
        spread = random.standard_normal((DIRECTIONS, dim), dtype=np.float32)
        centres = random.standard_normal((CLUSTERS, DIRECTIONS), dtype=np.float32)
        if seed:
            random = np.random.default_rng(seed)
        for start in range(0, count, BLOCK_ROWS):
            rows = min(BLOCK_ROWS, count - start)
            latent = random.standard_normal((rows, DIRECTIONS), dtype=np.float32)
            latent += centres[random.integers(0, CLUSTERS, rows)]
            values = np.maximum(latent @ spread, 0) + NOISE * random.standard_normal((rows, dim), dtype=np.float32)
            values /= np.linalg.norm(values, axis=1, keepdims=True)
            yield np.arange(start, start + rows, dtype=np.int64), values

    return blocks


def milliseconds(index: VectorIndex, queries: Vectors) -> tuple[float, float]:
    """Median and 95th percentile of one search for a shortlist, one at a time."""
    taken = []
    for query in queries:
        started = time.perf_counter()
        index.search(query, RECALL_DEPTH)
        taken.append(1000 * (time.perf_counter() - started))
    return float(np.median(taken)), float(np.percentile(taken, 95))


def main() -> None:
    """Print one line a size and kind, as a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--dim", type=int, default=1280, help="numbers in a vector")
    parser.add_argument("--sizes", type=int, nargs="+", default=[5_000, 10_000, 20_000, 50_000])
    options = parser.parse_args()
    out = sys.stdout
    recalls = "recall@200 between items", "like photos", "unlike any"
    headings = ("items", "index", "efSearch", *recalls, "p50 ms", "p95 ms", "build s", "MB")
    out.write(f"| {' | '.join(headings)} |\n{'|---' * len(headings)}|\n")
    for count in options.sizes:
        for flat_max in (count, 0):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "index"
                started = time.perf_counter()
                blocks = made_up(count, options.dim)
                stamp = build(blocks, path, count=count, dim=options.dim, seq=0, flat_max=flat_max)
                seconds = time.perf_counter() - started
                index = VectorIndex.read(path, stamp)
            queries = sample_queries(index, QUERIES)
            milliseconds(index, queries[:10])
            median, slow = milliseconds(index, queries)
            asked = stamp.parameters
            far = f"{asked.get(RECALL_LIKE, '-')} | {asked.get(RECALL_UNLIKE, '-')}"
            out.write(
                f"| {count} | {stamp.type} | {asked.get('efSearch', '-')} | {stamp.recall_at_200:.3f} | {far} "
                f"| {median:.2f} | {slow:.2f} | {seconds:.1f} | {stamp.size_bytes / 1e6:.0f} |\n"
            )
            out.flush()


if __name__ == "__main__":
    main()
