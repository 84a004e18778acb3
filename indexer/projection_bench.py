"""Measures filtered searches of a graph's vectors with a projection and without, in turns; PROJECTED_MIN_ITEMS' source.

    python -m threadmatch.indexer.projection_bench --dim 512 --sizes 50000 100000 1000000

The vectors are those of `indexer.index_bench`. Under such filters no graph is asked, so its links are few here and are
made in little time; components, widths and recall are those that publishing would choose and measure, and queries are
of its two kinds (`indexer.recall_queries`). Items are let through at random: scattered, as a filter by price would.
Times are the processor's: milliseconds of one core, medians of QUERIES.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from threadmatch.indexer.index import Choice, VectorIndex, Vectors, file_checksum
from threadmatch.indexer.index_bench import made_up
from threadmatch.indexer.index_building import RECALL_DEPTH
from threadmatch.indexer.projection import PROJECTED, RECALL_LIKE, RECALL_UNLIKE, WIDE_LIKE, WIDE_UNLIKE
from threadmatch.indexer.recall_queries import like_queries, unlike_queries
from threadmatch.indexer.scanning import faiss
from threadmatch.indexer.stamps import IndexStamp
from threadmatch.indexer.store import generations, projected_file

SHARES = (0.001, 0.01, 0.05, 0.1, 0.19)
QUERIES = 20
RECALLS = "recall@200, like and unlike"
LINKS, EF_CONSTRUCTION = 4, 4  # as few as Faiss takes


def made(folder: Path, count: int, dim: int) -> tuple[IndexStamp, float]:
    """Write an index of made-up vectors and its projection; the processor's seconds that the projection took."""
    graph = faiss.IndexHNSWSQ(dim, faiss.ScalarQuantizer.QT_fp16, LINKS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = EF_CONSTRUCTION
    graph.train(np.zeros((1, dim), np.float32))
    index = faiss.IndexIDMap(graph)
    for ids, vectors in made_up(count, dim)():
        index.add_with_ids(vectors, ids + 1)
    path = folder / generations.INDEX_FILE
    faiss.write_index(index, str(path))
    size, crc = file_checksum(path)
    kept = {"seq": count, "items": count, "size_bytes": size, "crc32c": crc, "recall_at_200": 0, "measured_queries": 0}
    stamp = IndexStamp.model_validate({"type": "hnsw", "why": "to be measured", **kept})
    started = time.process_time()
    return projected_file.ensured(folder, stamp, None, least=0), time.process_time() - started


def milliseconds(indexes: Sequence[VectorIndex], queries: Vectors, choice: Choice) -> list[float]:
    """Processor time of one search for a shortlist with each index, in turns; the first query warms them up."""
    taken = []
    for query in queries:
        row = []
        for index in indexes:
            started = time.process_time()
            index.search(query, RECALL_DEPTH, choice=choice)
            row.append(1000 * (time.process_time() - started))
        taken.append(row)
    medians: list[float] = np.median(taken[1:], axis=0).tolist()
    return medians


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one line a size and share, as a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--dim", type=int, default=512, help="numbers in a vector")
    parser.add_argument("--sizes", type=int, nargs="+", default=[50_000, 100_000, 300_000, 1_000_000])
    options = parser.parse_args(arguments)
    out = sys.stdout
    times = "all compared, ms", "projected, like, ms", "projected, unlike, ms"
    headings = "items", "let through", *times, "components", "compared, like and unlike", RECALLS, "made, s"
    out.write(f"| {' | '.join(headings)} |\n{'|---' * len(headings)}|\n")
    for count in options.sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            stamp, seconds = made(folder, count, options.dim)
            without = VectorIndex.read(folder / generations.INDEX_FILE, stamp)
            projection = projected_file.read(folder, stamp)
            if projection is None:
                out.write(f"| {count} | recall {stamp.parameters[RECALL_LIKE]} is too low |\n")
                continue
            projected = without.with_projection(projection)
            like, unlike = like_queries(without, 1 + QUERIES), unlike_queries(without, 1 + QUERIES)
            random = np.random.default_rng(0)
            about = [stamp.parameters[name] for name in (WIDE_LIKE, WIDE_UNLIKE, RECALL_LIKE, RECALL_UNLIKE)]
            chosen = "{} | {}, {} | {}, {}".format(stamp.parameters[PROJECTED], *about)
            for share in SHARES:
                choice = projected.choice(random.random(count + 1) < share)
                exact_ms, like_ms = milliseconds((without, projected), like, choice)
                (unlike_ms,) = milliseconds((projected,), unlike, choice)
                spent = f"{exact_ms:.2f} | {like_ms:.2f} | {unlike_ms:.2f}"
                out.write(f"| {count} | {choice.count} | {spent} | {chosen} | {seconds:.1f} |\n")
                out.flush()


if __name__ == "__main__":
    main()
