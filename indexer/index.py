"""The index of stage one: unit vectors under row numbers, searched by inner product.

It is exact, or a graph (HNSW) over float16 vectors; how it is built says `indexer.index_building`. A file is mapped, so
that opening is quick and all processes share its pages. Under a filter a graph is searched the wider the fewer of its
nodes may be given. Where they are few, by SCANNED_ROWS, a smaller copy of the vectors (`indexer.projection`) says which
of those are compared; without one, below FILTER_EXACT_SHARE, all of them are.

Letters  N vectors, E embedding size, Q queries, K results
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from threadmatch.indexer.errors import GalleryError
from threadmatch.indexer.projection import Projection
from threadmatch.indexer.row_numbers import places_of
from threadmatch.indexer.scanning import Scan, faiss
from threadmatch.indexer.stamps import IndexStamp

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]
Blocks = Callable[[], Iterator[tuple[Ids, Vectors]]]  # called again for each pass over the gallery

HNSW_EF_SEARCH = (200, 400, 800, 1600)
GATHERED_SHARE = 0.5  # of an exact index: from here on all products cost less than those of rows that lie apart
NEAREST_EF_SEARCH = 64  # for neighbours of items, of which a few may be missed
FILTER_EXACT_SHARE = 0.2  # a graph loses its way when few of its nodes are allowed; below this share all are compared
# With a projection all are scanned while rows times share is less: a scan costs the more the more rows there are, a
# graph the more the fewer it may give. They meet at nine tenths of 100,000 and, by estimate, two fifths of a million.
SCANNED_ROWS = 150_000
EXACT_ROWS = 2_000  # so few are all compared exactly: half a millisecond
EXACT_TIMES = 3  # and up to so many times what would be compared of them: to choose costs as much as to compare

_KEPT_SHARE = 0.4  # of an index, up to which the positions of a choice are kept: 3 MB of a million
_GATHERED_ROWS = 2_048  # at a time: two megabytes, which stay in the processor's cache
_MULTIPLIED_ROWS = 256  # at a time: half a megabyte of float32

_PAGE_BYTES = 4096
_TOUCHED_BYTES = 16 * 1024 * 1024  # at a time


class Choice:
    """Which vectors of an index a search may give; made by `VectorIndex.choice`. It never changes.

    Attributes:
        count: how many.
    """

    def __init__(self, mask: NDArray[np.bool_]) -> None:
        self.count = int(mask.sum())
        self._bits = np.packbits(mask, bitorder="little")
        self.total = len(mask)
        self._positions = np.flatnonzero(mask) if self.count <= _KEPT_SHARE * len(mask) else None

    @property
    def share(self) -> float:
        """Of the index."""
        return self.count / max(1, self.total)

    @property
    def positions(self) -> Ids:
        """Ascending; at hand where they are few."""
        return np.flatnonzero(self.mask()) if self._positions is None else self._positions

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
        projection: for a graph, of its vectors.

    Raises:
        GalleryError: its ids do not ascend.
    """

    def __init__(self, index: Any, *, ef_search: int | None = None, projection: Projection | None = None) -> None:
        self._index = index
        self._projection = projection
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

    @property
    def size_bytes(self) -> int:
        """Of its vectors and links."""
        return sum(part.nbytes for part in self._parts())

    def touched(self) -> Iterator[int]:
        """Read each page of a mapped index once, so that this process has it at hand; gives bytes, part by part."""
        for part in self._parts():
            for start in range(0, len(part), _TOUCHED_BYTES):
                piece = part[start : start + _TOUCHED_BYTES]
                piece[::_PAGE_BYTES].max()
                yield len(piece)

    def _parts(self) -> list[NDArray[np.uint8]]:
        """Its large arrays, where they lie."""
        if self.exact:
            return [] if self._vectors is None else [self._vectors.reshape(-1).view(np.uint8)]
        graph = self._inner.hnsw
        links = faiss.rev_swig_ptr(graph.neighbors.data(), graph.neighbors.size())
        return [self._stored_codes().reshape(-1), links.view(np.uint8)]

    def _stored_codes(self) -> NDArray[np.uint8]:
        """(N, bytes of a coded vector) of a graph, where they lie."""
        storage = faiss.downcast_index(self._inner.storage)
        codes = np.asarray(faiss.rev_swig_ptr(storage.codes.data(), storage.codes.size()))
        return codes.reshape(-1, storage.code_size)

    @classmethod
    def read(cls, path: Path, stamp: IndexStamp, *, projection: Projection | None = None) -> VectorIndex:
        """Load an index file that a manifest describes.

        Args:
            path: of the file.
            stamp: what the manifest says of it.
            projection: of its vectors, where there is one.

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
        loaded = cls(index, ef_search=int(ef_search) if ef_search else None, projection=projection)
        if len(loaded) != stamp.items:
            raise GalleryError(f"{path} holds {len(loaded)} vectors, its manifest says {stamp.items}")
        return loaded

    def with_projection(self, projection: Projection) -> VectorIndex:
        """The same index, searched with another projection."""
        return VectorIndex(self._index, ef_search=self.ef_search, projection=projection)

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
        if self.exact:
            found, similarities = self._exact_search(query, k, choice)
        else:
            graph = self._graph_search(query, k, choice) if self._use_graph(choice) else None
            found, similarities = self._compared(query, k, choice) if graph is None else graph
        return self.ids[found], similarities

    def scanned(self, query: Vectors, k: int, *, choice: Choice) -> tuple[Ids, Vectors]:
        """What `search` would give if it did not ask the graph that this index has; as there."""
        found, similarities = self._compared(query, min(k, choice.count), choice)
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
        positions = self._positions(ids)
        if self.exact:
            return np.asarray(self._inner.reconstruct_batch(positions), dtype=np.float32).reshape(-1, self.dim)
        codes = self._stored_codes().take(positions, axis=0)  # together: each by itself waits for memory by itself
        return np.asarray(faiss.downcast_index(self._inner.storage).sq.decode(codes), np.float32)

    def block(self, start: int, count: int) -> Vectors:
        """(n, E) the vectors at `count` positions from `start` on, as the index holds them; fewer at its end."""
        count = min(count, len(self) - start)
        stored = self._inner if self.exact else faiss.downcast_index(self._inner.storage)
        return np.asarray(stored.reconstruct_n(start, count), np.float32).reshape(-1, self.dim)

    def _positions(self, ids: Ids) -> Ids:
        """Of those that are there."""
        places = places_of(self.ids, ids)
        return places[places >= 0]

    def _use_graph(self, choice: Choice | None) -> bool:
        if choice is None:
            return True
        if self._projection is None:
            return choice.share >= FILTER_EXACT_SHARE
        return choice.count * choice.share >= SCANNED_ROWS

    def _graph_search(self, query: Vectors, k: int, choice: Choice | None) -> tuple[Ids, Vectors] | None:
        """Ask the graph, the wider the fewer of its nodes may be given; None when it finds fewer than there are."""
        wide = max(self.ef_search, k) if choice is None else math.ceil(max(self.ef_search, k) / choice.share)
        parameters = faiss.SearchParametersHNSW(efSearch=wide, sel=choice.selector() if choice else None)
        similarities, found = self._inner.search(query[None], k, params=parameters)
        if (found[0] < 0).any():
            return None
        return found[0], similarities[0]

    def _compared(self, query: Vectors, k: int, choice: Choice | None) -> tuple[Ids, Vectors]:
        """Compare with what may be given of a graph's vectors, or with those of them that its projection proposes."""
        positions = None if choice is None else choice.positions
        count = len(self) if positions is None else len(positions)
        if self._projection is not None and count > EXACT_ROWS:
            wide = self._projection.wide(k, query)
            if count > EXACT_TIMES * wide:
                positions = self._projection.nearest(query, wide, positions)
        stored = faiss.downcast_index(self._inner.storage)
        codes = self._stored_codes()
        scan = Scan(stored.sq, query, k)
        for start in range(0, count if positions is None else len(positions), _GATHERED_ROWS):
            if positions is None:
                rows = np.arange(start, min(start + _GATHERED_ROWS, count), dtype=np.int64)
                scan.add(codes[start : start + _GATHERED_ROWS], rows)
            else:
                rows = positions[start : start + _GATHERED_ROWS]
                scan.add(codes.take(rows, axis=0), rows)
        return scan.best()

    def _exact_search(self, query: Vectors, k: int, choice: Choice | None) -> tuple[Ids, Vectors]:
        """Compare with all that an exact index may give."""
        assert self._vectors is not None, "some were asked for"
        positions = None
        if choice is not None and choice.share <= GATHERED_SHARE:
            positions = choice.positions
            products = inner_products(self._vectors, query, positions)
        else:
            products = inner_products(self._vectors, query)  # cheaper than gathering a copy of most rows
            if choice is not None:
                positions = choice.positions
                products = products[positions]
        best = best_of(products, k)
        return best if positions is None else positions[best], products[best]


def inner_products(vectors: Vectors, query: Vectors, positions: Ids | None = None) -> Vectors:
    """(n,) inner products of (N, E) vectors with (E,), of all of them or of those at (n,) positions, on one core.

    Always as many rows at a time, so that a row's product is the same to the bit whatever lies beside it. And few: in a
    mapped file they lie at no multiple of four bytes, so numpy makes a copy of whatever it multiplies, and one of all
    of them would go through memory, not through the cache, for each search.
    """
    count = len(vectors) if positions is None else len(positions)
    found, some = np.empty(count, np.float32), np.zeros((_MULTIPLIED_ROWS, vectors.shape[1]), np.float32)
    for start in range(0, count, _MULTIPLIED_ROWS):
        stop = min(start + _MULTIPLIED_ROWS, count)
        rows = vectors[start:stop] if positions is None else vectors[positions[start:stop]]
        if len(rows) < _MULTIPLIED_ROWS or not rows.flags.aligned:
            some[: stop - start] = rows
            rows = some
        found[start:stop] = np.dot(rows, query)[: stop - start]
    return found


def best_of(products: Vectors, k: int) -> Ids:
    """(K,) places of the k highest of (n,) products, highest first, equal ones by place; all where there are fewer."""
    best = np.argpartition(-products, k - 1)[:k] if k < len(products) else np.arange(len(products))
    return best[np.lexsort((best, -products[best]))]


def file_checksum(path: Path) -> tuple[int, int]:
    """Size in bytes and CRC-32C of a file."""
    crc: Any = google_crc32c.Checksum()  # type: ignore[no-untyped-call]
    size = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            crc.update(block)
            size += len(block)
    return size, int.from_bytes(crc.digest(), "big")
