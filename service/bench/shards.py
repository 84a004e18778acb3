"""A cluster's shortlist by its number of shards: one Milvus of this machine, the same made-up vectors each time.

    python -m threadmatch.service.bench.shards --rows 100000 --shards 1 2 4

Each collection is filled, flushed, and searched once all its graphs are built; then one is dropped and the next one
made. Vectors are those of `indexer.index_bench.made_up`. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from threadmatch.indexer.index_bench import made_up
from threadmatch.service.bench.cluster_site import PROGRAMS
from threadmatch.service.bench.engines import Server, lacking_milvus, milvus, running

if TYPE_CHECKING:
    from threadmatch.indexer.cluster.vectors import VectorEngine

DIM: Final = 512
FOUND: Final = 216
"""Rows of one search: a shortlist of 200 and what is asked for beyond it."""
SEARCHES: Final = 200
BATCH: Final = 1_000
_BUILT_S: Final = 3600


@dataclass(frozen=True, slots=True)
class Measured:
    """One collection: seconds until filled, and until its graphs were built; searches; Milvus's memory."""

    shards: int
    fill_s: float
    build_s: float
    median_ms: float
    slow_ms: float
    recall: float
    resident_gb: float


def measure(server: Server, rows: int, shards: int) -> Measured:
    """Fill a collection of so many shards, and search it.

    Args:
        server: a Milvus that runs.
        rows: vectors of DIM numbers.
        shards: of the collection.

    Raises:
        TimeoutError: its graphs were not built within an hour.
    """
    from threadmatch.indexer.cluster.recall import MeasuredRecall
    from threadmatch.indexer.cluster.settings import MilvusSettings
    from threadmatch.indexer.cluster.vectors import NewRow, VectorEngine

    engine = VectorEngine(MilvusSettings(uri=f"http://{server.place}", shards=shards, timeout_s=120))
    name, started, written, last = f"shards_{shards}", time.monotonic(), 0, 0
    queries = np.concatenate([vectors[:SEARCHES] for _, vectors in made_up(SEARCHES, DIM, seed=1)()])
    exact = MeasuredRecall(queries)
    engine.create(name, DIM)
    for _, block in made_up(rows, DIM)():
        for vectors in np.array_split(block, max(1, len(block) // BATCH)):
            new = [NewRow(last + 1 + at, f"item-{last + at}", {}, vector) for at, vector in enumerate(vectors)]
            written = engine.insert(name, new)
            last += len(new)
            exact.add(last, vectors)
    engine.flush(name)
    filled = time.monotonic()
    while (built := engine.built(name)) < rows:
        if time.monotonic() - filled > _BUILT_S:
            raise TimeoutError(f"graphs of {built} of {rows} rows are built after {_BUILT_S} s")
        time.sleep(1)
    done = time.monotonic()
    recall, _ = exact.measure(engine, name, after=written)  # warms it up, too
    median, slow = _milliseconds(engine, name, queries, written)
    resident = _resident_gb(server)
    engine.drop(name)
    engine.close()
    return Measured(shards, filled - started, done - filled, median, slow, recall, resident)


def _milliseconds(engine: VectorEngine, name: str, queries: NDArray[np.float32], written: int) -> tuple[float, float]:
    taken = []
    for query in queries:
        started = time.perf_counter()
        engine.search(name, query, FOUND, where="", after=written)
        taken.append(1000 * (time.perf_counter() - started))
    return float(np.median(taken)), float(np.percentile(taken, 95))


def _resident_gb(server: Server) -> float:
    assert server.process is not None, "it runs"
    status = Path(f"/proc/{server.process.pid}/status").read_text("utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1e6


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="A cluster's shortlist by its number of shards.")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 2, 4])
    given = parser.parse_args()
    if reason := lacking_milvus():
        sys.exit(f"cannot start: {reason} (docs/cluster.md)")
    print("| shards | filled in | graphs built in | search, median | 95 of 100 | recall@200 | Milvus's memory |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="threadmatch-shards-") as folder:
        for shards in given.shards:
            server = milvus(Path(folder) / str(shards), PROGRAMS)
            with running(server):
                one = measure(server, given.rows, shards)
            cells = [f"{shards}", f"{one.fill_s:.0f} s", f"{one.build_s:.0f} s", f"{one.median_ms:.1f} ms"]
            cells += [f"{one.slow_ms:.1f} ms", f"{one.recall:.3f}", f"{one.resident_gb:.1f} GB"]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
