"""The index of stage one: unit vectors under row numbers, searched by inner product. The only `import faiss`.

Up to FLAT_MAX_ITEMS vectors the search is exact. Beyond, it is a graph (HNSW) over float16 vectors whose `efSearch` is
raised until its recall, measured against exact search, is high enough; where that fails, the index is exact.

Letters  N vectors, E embedding size, Q queries, K results
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from threadmatch.indexer.errors import GalleryError
from threadmatch.indexer.stamps import IndexStamp

try:
    import faiss as _faiss
except ImportError as error:  # pragma: no cover - the test environment has it
    raise GalleryError("Faiss is not installed: pip install 'threadmatch[cpu]' (or 'threadmatch[gpu]')") from error

faiss: Any = _faiss  # its type stubs lack half of what is used here

logger = logging.getLogger(__name__)

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]
Blocks = Callable[[], Iterator[tuple[Ids, Vectors]]]  # called again for each pass over the gallery

# docs/results.md, "Stage one index": on 2 cores an exact search of 50,000 vectors takes 2 ms at 512 numbers each and
# 6 ms at 1,280, less than a tenth of a whole search, with nothing missed; beyond that a graph pays.
FLAT_MAX_ITEMS = 50_000
RECALL_FLOOR = 0.98
RECALL_DEPTH = 200  # the default shortlist
RECALL_QUERIES = 200
HNSW_LINKS = 32
HNSW_EF_CONSTRUCTION = 80
HNSW_EF_SEARCH = (200, 400, 800, 1600)
GATHERED_SHARE = 0.25  # of an exact index: from here on all products cost less than a copy of those rows
NEAREST_EF_SEARCH = 64  # for neighbours of items, of which a few may be missed
FILTER_EXACT_SHARE = (
    0.2  # a graph loses its way when few of its nodes are allowed; below this share the search is exact
)


class Choice:
    """Which vectors of an index a search may give; made by `VectorIndex.choice`. It never changes.

    Attributes:
        count: how many.
    """

    def __init__(self, mask: NDArray[np.bool_]) -> None:
        self.count = int(mask.sum())
        self._bits = np.packbits(mask, bitorder="little")
        self._positions = np.flatnonzero(mask) if self.count <= GATHERED_SHARE * len(mask) else None
        self.total = len(mask)

    @property
    def share(self) -> float:
        """Of the index."""
        return self.count / max(1, self.total)

    @property
    def positions(self) -> Ids | None:
        """Ascending, where they are few; else None: then `mask` costs less."""
        return self._positions

    def mask(self) -> NDArray[np.bool_]:
        """(N,) by position."""
        return np.unpackbits(self._bits, count=self.total, bitorder="little").astype(bool)

    def selector(self) -> Any:
        """For Faiss."""
        return faiss.IDSelectorBitmap(self._bits)


class VectorIndex:
    """An index, mapped from its file where it was read from one. Thread-safe.

    Args:
        index: an IndexIDMap whose ids ascend.
        ef_search: for a graph, how wide it searches.
    """

    def __init__(self, index: Any, *, ef_search: int | None = None) -> None:
        self._index = index
        self._inner = faiss.downcast_index(index.index)
        self.ids: Ids = faiss.vector_to_array(index.id_map).astype(np.int64)  # (N,)
        self.exact = isinstance(self._inner, faiss.IndexFlat)
        self.ef_search = ef_search or HNSW_EF_SEARCH[0]
        if len(self.ids) > 1 and not (np.diff(self.ids) > 0).all():
            raise GalleryError(
                "the index holds ids that do not ascend; run `threadmatch gallery compact` to build it anew"
            )
        self._vectors: Vectors | None = None
        if self.exact and len(self.ids):
            flat = faiss.rev_swig_ptr(self._inner.get_xb(), len(self.ids) * self.dim)
            self._vectors = flat.reshape(len(self.ids), self.dim)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dim(self) -> int:
        """E."""
        return int(self._index.d)

    @classmethod
    def read(cls, path: Path, stamp: IndexStamp) -> VectorIndex:
        """Load an index file that a manifest describes.

        Raises:
            GalleryError: missing, damaged, or not what the manifest says.
        """
        try:
            size, crc = file_checksum(path)
            if (size, crc) != (stamp.size_bytes, stamp.crc32c):
                raise GalleryError(
                    f"{path} does not match its manifest (size or checksum); roll back or compact the gallery"
                )
            index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)  # its pages are shared by all processes
        except (OSError, RuntimeError) as error:
            raise GalleryError(f"cannot read the index {path}: {error}; roll back or compact the gallery") from error
        ef_search = stamp.parameters.get("efSearch")
        loaded = cls(index, ef_search=int(ef_search) if ef_search else None)
        if len(loaded) != stamp.items:
            raise GalleryError(f"{path} holds {len(loaded)} vectors, its manifest says {stamp.items}")
        return loaded

    def choice(self, rows: NDArray[np.bool_]) -> Choice:
        """What a search may give, for many searches.

        Args:
            rows: by id, whether it may; ids beyond its end may not.
        """
        if len(self) and self.ids[-1] >= len(rows):
            rows = np.append(rows, np.zeros(int(self.ids[-1]) + 1 - len(rows), bool))
        return Choice(rows[self.ids])

    def search(self, query: Vectors, k: int, *, choice: Choice | None = None) -> tuple[Ids, Vectors]:
        """The vectors most like a query.

        Args:
            query: (E,) unit length.
            k: how many; fewer come back only where fewer are allowed.
            choice: which to choose from, None for all.

        Returns:
            (K,) ids and (K,) inner products, highest first; equal ones in the order of their ids.
        """
        k = min(k, len(self) if choice is None else choice.count)
        if k == 0:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        graph = self._graph_search(query, k, choice) if self._use_graph(choice) else None
        if graph is None:
            graph = self._exact_search(query, k, choice)
        found, similarities = graph
        return self.ids[found], similarities

    def nearest(self, vectors: Vectors, k: int) -> tuple[Ids, Vectors]:
        """The vectors most like each of many, on all cores; as good as the index is, whatever was deleted since.

        Args:
            vectors: (Q, E) unit length.
            k: how many of each.

        Returns:
            (Q, K) ids, -1 where there are fewer, and (Q, K) inner products, highest first.
        """
        parameters = None if self.exact else faiss.SearchParametersHNSW(efSearch=max(NEAREST_EF_SEARCH, k))
        similarities, found = self._inner.search(np.ascontiguousarray(vectors), k, params=parameters)
        return np.where(found >= 0, self.ids[found] if len(self) else -1, -1), similarities

    def vector(self, number: int) -> Vectors:
        """(E,) the vector stored under an id, as the index holds it (a graph's is rounded to float16)."""
        return np.asarray(self._inner.reconstruct(int(self._positions(np.array([number]))[0])), dtype=np.float32)

    def vectors(self, ids: Ids) -> Vectors:
        """(n, E) the vectors stored under ids that the index has, in their order."""
        return np.asarray(self._inner.reconstruct_batch(self._positions(ids)), dtype=np.float32).reshape(-1, self.dim)

    def _positions(self, ids: Ids) -> Ids:
        places = np.searchsorted(self.ids, ids)
        inside = places < len(self.ids)
        places, ids = places[inside], ids[inside]
        present: Ids = places[self.ids[places] == ids]
        return present

    def _use_graph(self, choice: Choice | None) -> bool:
        return not self.exact and (choice is None or choice.share >= FILTER_EXACT_SHARE)

    def _graph_search(self, query: Vectors, k: int, choice: Choice | None) -> tuple[Ids, Vectors] | None:
        """Ask the graph, the wider the fewer of its nodes may be given; None when it finds fewer than there are."""
        wide = max(self.ef_search, k) if choice is None else math.ceil(max(self.ef_search, k) / choice.share)
        parameters = faiss.SearchParametersHNSW(efSearch=wide, sel=choice.selector() if choice else None)
        similarities, found = self._inner.search(query[None], k, params=parameters)
        if (found[0] < 0).any():
            return None
        return found[0], similarities[0]

    def _exact_search(self, query: Vectors, k: int, choice: Choice | None) -> tuple[Ids, Vectors]:
        """Compare with all that may be given; a graph's vectors are read where they lie, one pass over them."""
        if self._vectors is None:
            stored = faiss.downcast_index(self._inner.storage)
            parameters = faiss.SearchParameters(sel=choice.selector()) if choice else None
            similarities, found = stored.search(query[None], k, params=parameters)
            order = np.lexsort((found[0], -similarities[0]))
            return found[0][order], similarities[0][order]
        positions = choice.positions if choice else None
        if positions is not None:
            products = self._vectors[positions] @ query
        else:
            products = self._vectors @ query  # cheaper than gathering a copy of most rows
            if choice is not None:
                positions = np.flatnonzero(choice.mask())
                products = products[positions]
        best = np.argpartition(-products, k - 1)[:k] if k < len(products) else np.arange(k)
        best = best[np.lexsort((best, -products[best]))]
        return best if positions is None else positions[best], products[best]


def build(blocks: Blocks, path: Path, *, count: int, dim: int, seq: int, flat_max: int = FLAT_MAX_ITEMS) -> IndexStamp:
    """Build the index over a gallery's vectors and write it to a file.

    Args:
        blocks: gives (ids, (n, E) unit vectors) with ascending ids; memory holds one block and the index.
        path: of the new file.
        count: how many vectors that is in all.
        dim: E.
        seq: the row versions it stands for.
        flat_max: up to how many vectors the search stays exact.

    Returns:
        What was chosen, why, and the recall that was measured.
    """
    stamp: dict[str, Any] = {"type": "flat", "parameters": {"metric": "inner_product"}, "recall_at_200": 1.0}
    stamp["measured_queries"] = 0
    stamp["why"] = f"exact: {count} items, exact search is used up to {flat_max}"
    index = None
    if count > flat_max:
        index = _filled(
            faiss.IndexHNSWSQ(dim, faiss.ScalarQuantizer.QT_fp16, HNSW_LINKS, faiss.METRIC_INNER_PRODUCT), blocks
        )
        ef_search, recall, queries = _tune(VectorIndex(index), blocks)
        if recall >= RECALL_FLOOR:
            stamp = _graph_stamp(count, flat_max, ef_search=ef_search, recall=recall, queries=queries)
        else:
            index = None
            stamp["why"] = (
                f"exact: the graph's recall@{RECALL_DEPTH} was {recall:.3f} at best, {RECALL_FLOOR} is asked for"
            )
    if index is None:
        index = _filled(faiss.IndexFlatIP(dim), blocks)
    faiss.write_index(index, str(path))
    size, crc = file_checksum(path)
    logger.info("index built", extra={"type": stamp["type"], "items": count, "recall_at_200": stamp["recall_at_200"]})
    return IndexStamp(seq=seq, items=count, size_bytes=size, crc32c=crc, **stamp)


def _graph_stamp(count: int, flat_max: int, *, ef_search: int, recall: float, queries: int) -> dict[str, Any]:
    parameters = {
        "metric": "inner_product",
        "M": HNSW_LINKS,
        "efConstruction": HNSW_EF_CONSTRUCTION,
        "efSearch": ef_search,
        "vectors": "float16",
    }
    why = (
        f"approximate: {count} items, more than {flat_max}; efSearch: the first of {HNSW_EF_SEARCH} with enough recall"
    )
    return {
        "type": "hnsw",
        "parameters": parameters,
        "recall_at_200": round(recall, 4),
        "measured_queries": queries,
        "why": why,
    }


def _filled(inner: Any, blocks: Blocks) -> Any:
    if hasattr(inner, "hnsw"):
        inner.hnsw.efConstruction = HNSW_EF_CONSTRUCTION
        inner.train(np.zeros((1, inner.d), np.float32))  # float16 learns nothing, but Faiss wants to be asked
    index = faiss.IndexIDMap(inner)
    for ids, vectors in blocks():
        index.add_with_ids(np.ascontiguousarray(vectors), np.ascontiguousarray(ids))
    return index


def _tune(index: VectorIndex, blocks: Blocks) -> tuple[int, float, int]:
    """The narrowest search with enough recall: (efSearch, recall@200, queries it was measured on)."""
    queries = sample_queries(index, RECALL_QUERIES)
    exact = exact_ids(queries, blocks, RECALL_DEPTH)
    recall = 0.0
    for ef_search in HNSW_EF_SEARCH:
        index.ef_search = ef_search
        found = [index.search(query, RECALL_DEPTH)[0] for query in queries]
        recall = float(np.mean([len(np.intersect1d(f, e)) / len(e) for f, e in zip(found, exact, strict=True)]))
        if recall >= RECALL_FLOOR:
            break
    return index.ef_search, recall, len(queries)


def sample_queries(index: VectorIndex, count: int) -> Vectors:
    """(Q, E) unit vectors that lie between two items, since a customer's photo is no item. The same each time."""
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


def file_checksum(path: Path) -> tuple[int, int]:
    """Size in bytes and CRC-32C of a file."""
    crc: Any = google_crc32c.Checksum()  # type: ignore[no-untyped-call]
    size = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            crc.update(block)
            size += len(block)
    return size, int.from_bytes(crc.digest(), "big")
