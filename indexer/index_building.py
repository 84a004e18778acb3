"""Builds the index of stage one, and lets it grow.

Up to FLAT_MAX_ITEMS vectors the search is exact. Beyond, it is a graph (HNSW) over float16 vectors whose `efSearch` is
raised until its recall, measured against exact search, is high enough; where that fails, the index is exact. What it
is raised for are queries between two items; what queries farther away find is measured and kept beside it. Building
a graph uses all cores and holds the graph in memory. A graph takes further vectors at the cost of those alone, so it is
not built anew for a few per cent of new items.

Letters  N vectors, E embedding size, Q queries, K results
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from threadmatch.indexer import projection
from threadmatch.indexer.errors import GalleryError
from threadmatch.indexer.index import HNSW_EF_SEARCH, Blocks, Ids, VectorIndex, Vectors, file_checksum
from threadmatch.indexer.projection import MEASURED_DEPTH
from threadmatch.indexer.recall_queries import like_queries, unlike_queries
from threadmatch.indexer.scanning import faiss
from threadmatch.indexer.stamps import IndexStamp
from threadmatch.model.progress import Progress, unheard

logger = logging.getLogger(__name__)

# docs/results.md, "Stage one index": on 2 cores an exact search of 50,000 vectors takes 2 ms at 512 numbers each and
# 6 ms at 1,280, less than a tenth of a whole search, with nothing missed; beyond that a graph pays.
FLAT_MAX_ITEMS = 50_000
RECALL_FLOOR = 0.98
RECALL_DEPTH = MEASURED_DEPTH  # the default shortlist
RECALL_QUERIES = 200
FAR_QUERIES = 100  # like a customer's, and as many unlike anything: measured, not aimed at
# In the parameters of a graph:
RECALL_LIKE = "recallLike"
RECALL_UNLIKE = "recallUnlike"
HNSW_LINKS = 32
HNSW_EF_CONSTRUCTION = 80
GROWTH = 1.5  # of a graph, beyond the items that its recall was measured on
ALIVE_SHARE = 0.8  # of a graph's vectors; with fewer it is built anew
MEASURED_ITEMS = "measuredItems"  # in the parameters of a graph that has grown


def build(
    blocks: Blocks,
    path: Path,
    *,
    count: int,
    dim: int,
    seq: int,
    flat_max: int = FLAT_MAX_ITEMS,
    tell: Progress = unheard,
) -> IndexStamp:
    """Build the index over a gallery's vectors and write it to a file.

    Args:
        blocks: gives (ids, (n, E) unit vectors) with ascending ids; memory holds one block and the index.
        path: of the new file.
        count: how many vectors that is in all.
        dim: E.
        seq: the row versions it stands for.
        flat_max: up to how many vectors the search stays exact.
        tell: hears how many vectors are in it.

    Returns:
        What was chosen, why, and the recall that was measured.
    """
    stamp: dict[str, Any] = {"type": "flat", "parameters": {"metric": "inner_product"}, "recall_at_200": 1.0}
    stamp["measured_queries"] = 0
    stamp["why"] = f"exact: {count} items, exact search is used up to {flat_max}"
    index = None
    if count > flat_max:
        index = _filled(
            faiss.IndexHNSWSQ(dim, faiss.ScalarQuantizer.QT_fp16, HNSW_LINKS, faiss.METRIC_INNER_PRODUCT),
            blocks,
            lambda done: tell("indexing", done, count),
        )
        tuned = _tune(VectorIndex(index), blocks)
        if tuned.between >= RECALL_FLOOR:
            stamp = _graph_stamp(count, flat_max, tuned)
        else:
            index = None
            stamp["why"] = (
                f"exact: the graph's recall@{RECALL_DEPTH} was {tuned.between:.3f} at best, {RECALL_FLOOR} is asked for"
            )
    if index is None:
        index = _filled(faiss.IndexFlatIP(dim), blocks)
    faiss.write_index(index, str(path))
    size, crc = file_checksum(path)
    logger.info("index built", extra={"type": stamp["type"], "items": count, "recall_at_200": stamp["recall_at_200"]})
    return IndexStamp(seq=seq, items=count, size_bytes=size, crc32c=crc, **stamp)


@dataclass(frozen=True, slots=True)
class _Tuned:
    """A graph's recall@RECALL_DEPTH, by kind of query (`indexer.recall_queries` has the last two)."""

    ef_search: int
    between: float
    queries: int
    like: float
    unlike: float


def _graph_stamp(count: int, flat_max: int, tuned: _Tuned) -> dict[str, Any]:
    parameters = {
        "metric": "inner_product",
        "M": HNSW_LINKS,
        "efConstruction": HNSW_EF_CONSTRUCTION,
        "efSearch": tuned.ef_search,
        "vectors": "float16",
        RECALL_LIKE: f"{tuned.like:.4f}",
        RECALL_UNLIKE: f"{tuned.unlike:.4f}",
    }
    why = (
        f"approximate: {count} items, more than {flat_max}; efSearch: the first of {HNSW_EF_SEARCH} with enough recall"
    )
    return {
        "type": "hnsw",
        "parameters": parameters,
        "recall_at_200": round(tuned.between, 4),
        "measured_queries": tuned.queries,
        "why": why,
    }


def grow(
    source: Path, stamp: IndexStamp, path: Path, *, blocks: Iterator[tuple[Ids, Vectors]], seq: int, alive: int
) -> IndexStamp | None:
    """Write a graph with more vectors in it; none leaves, those that are dead are passed over by searches.

    Args:
        source: the graph's file, described by `stamp`.
        path: of the new file.
        blocks: vectors to add, ids ascending and above all that are in it.
        seq: the row versions that the new one stands for.
        alive: how many of all its vectors are live then.

    Returns:
        None where it has to be built anew: it is no graph, too many of its vectors are dead, or it would be so much
        larger than when its recall was measured that this says little any more.

    Raises:
        GalleryError: the file is damaged.
    """
    measured = int(stamp.parameters.get(MEASURED_ITEMS, stamp.items))
    if stamp.type != "hnsw" or alive > GROWTH * measured:
        return None
    VectorIndex.read(source, stamp)
    index = faiss.read_index(str(source))  # a copy in memory: a mapped one cannot grow
    for ids, vectors in blocks:
        index.add_with_ids(np.ascontiguousarray(vectors), np.ascontiguousarray(ids))
    if alive < ALIVE_SHARE * index.ntotal:
        return None
    faiss.write_index(index, str(path))
    size, crc = file_checksum(path)
    return stamp.model_copy(
        update={
            "parameters": {**_without_projection(stamp.parameters), MEASURED_ITEMS: measured},
            "seq": seq,
            "items": int(index.ntotal),
            "size_bytes": size,
            "crc32c": crc,
            "why": f"approximate: grown from {measured} items, on which its recall was measured",
        }
    )


def _without_projection(parameters: Mapping[str, int | str]) -> dict[str, int | str]:
    """Of a graph's parameters, those that stay true when it grows."""
    return {name: value for name, value in parameters.items() if name not in projection.PARAMETERS}


def _filled(inner: Any, blocks: Blocks, tell: Callable[[int], None] = lambda _: None) -> Any:
    if hasattr(inner, "hnsw"):
        inner.hnsw.efConstruction = HNSW_EF_CONSTRUCTION
        inner.train(np.zeros((1, inner.d), np.float32))  # float16 learns nothing, but Faiss wants to be asked
    index = faiss.IndexIDMap(inner)
    for ids, vectors in blocks():  # a block at a time on all cores
        index.add_with_ids(np.ascontiguousarray(vectors), np.ascontiguousarray(ids))
        tell(int(index.ntotal))
    return index


def _tune(index: VectorIndex, blocks: Blocks) -> _Tuned:
    """The narrowest search with enough recall of queries between two items; its recall of queries farther away, too."""
    queries = sample_queries(index, RECALL_QUERIES)
    like, unlike = like_queries(index, FAR_QUERIES), unlike_queries(index, FAR_QUERIES)
    exact = exact_ids(np.concatenate([queries, like, unlike]), blocks, RECALL_DEPTH)
    between, far = exact[: len(queries)], exact[len(queries) :]
    recall = 0.0
    for ef_search in HNSW_EF_SEARCH:
        index.ef_search = ef_search
        recall = _recall(index, queries, between)
        if recall >= RECALL_FLOOR:
            break
    of_like, of_unlike = _recall(index, like, far[: len(like)]), _recall(index, unlike, far[len(like) :])
    return _Tuned(index.ef_search, recall, len(queries), of_like, of_unlike)


def _recall(index: VectorIndex, queries: Vectors, exact: list[Ids]) -> float:
    """Of the exact answers to (Q, E) queries the share that an index finds."""
    found = [index.search(query, RECALL_DEPTH)[0] for query in queries]
    return float(np.mean([len(np.intersect1d(f, e)) / len(e) for f, e in zip(found, exact, strict=True)]))


def sample_queries(index: VectorIndex, count: int) -> Vectors:
    """(Q, E) unit vectors that lie between two items: nearer to the gallery than photos are. The same each time."""
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, len(index), (2, min(count, len(index))))
    mixed = 0.7 * index._inner.reconstruct_batch(first) + 0.3 * index._inner.reconstruct_batch(second)
    norms = np.linalg.norm(mixed, axis=1, keepdims=True)
    return np.asarray(mixed / np.maximum(norms, 1e-12), dtype=np.float32)


def exact_ids(queries: Vectors, blocks: Blocks, k: int) -> list[Ids]:
    """For each query the ids of its k most alike vectors, by comparing with all; memory holds one block."""
    ids = np.empty((len(queries), 0), np.int64)
    best = np.empty((len(queries), 0), np.float32)
    for block_ids, vectors in blocks():
        ids = np.concatenate([ids, np.broadcast_to(block_ids, (len(queries), len(block_ids)))], axis=1)
        best = np.concatenate([best, queries @ vectors.T], axis=1)
        if best.shape[1] > k:
            keep = np.argpartition(-best, k - 1, axis=1)[:, :k]
            ids, best = np.take_along_axis(ids, keep, 1), np.take_along_axis(best, keep, 1)
    return list(ids)


def verify_by_search(index: VectorIndex, vectors: Iterator[tuple[int, Vectors]]) -> None:
    """Search an index for its own vectors.

    Raises:
        GalleryError: one of them is not found, or not at distance 0.
    """
    for number, vector in vectors:
        found, similarities = index.search(vector, 1)
        tolerance = 1e-3 if not index.exact else 1e-4
        if not len(found) or not math.isclose(float(similarities[0]), 1.0, abs_tol=tolerance):
            raise GalleryError(f"the new index does not find its own row {number} at distance 0; it is not published")
        if found[0] != number and not np.allclose(index.vector(number), vector, atol=1e-2):
            raise GalleryError(f"the new index holds another vector under row {number}; it is not published")
