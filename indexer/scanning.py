"""Compares a query with rows of coded vectors, in Faiss's own arithmetic. The only `import faiss`.

Rows are shown wherever they lie, a block at a time; the best are kept. So rows that are few are gathered first, which
costs less than asking of each row of an index whether it is meant.

Letters  n rows of a block, B bytes of a coded row, K results
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from threadmatch.indexer.errors import GalleryError

try:
    import faiss as _faiss
except ImportError as error:  # pragma: no cover - the test environment has it
    raise GalleryError("Faiss is not installed: pip install 'threadmatch[cpu]' (or 'threadmatch[gpu]')") from error

faiss: Any = _faiss  # its type stubs lack half of what is used here


class Scan:
    """One query's look at coded rows, by inner product. Not thread-safe.

    Args:
        quantizer: a `faiss.ScalarQuantizer`, which says how rows are coded.
        query: as many float32 numbers as a row has.
        k: how many rows to keep.
    """

    def __init__(self, quantizer: Any, query: NDArray[np.float32], k: int) -> None:
        self._query = np.ascontiguousarray(query, np.float32)  # the scanner keeps its address only
        self._scanner = quantizer.select_InvertedListScanner(faiss.METRIC_INNER_PRODUCT, None, False, None, False)
        self._scanner.set_query(faiss.swig_ptr(self._query))
        self._products = np.full(k, -np.inf, np.float32)  # with `_labels` a heap, the lowest first
        self._labels = np.full(k, -1, np.int64)

    def add(self, codes: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
        """Compare with more rows.

        Args:
            codes: (n, B) coded rows.
            labels: (n,) their numbers, not negative.
        """
        codes, labels = np.ascontiguousarray(codes), np.ascontiguousarray(labels, np.int64)
        heap = faiss.swig_ptr(self._products), faiss.swig_ptr(self._labels)
        self._scanner.scan_codes(len(codes), faiss.swig_ptr(codes), faiss.swig_ptr(labels), *heap, len(self._labels))

    def best(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """(K,) numbers and inner products, highest first, equal ones by number; K is less where fewer were shown."""
        held = np.flatnonzero(self._labels >= 0)
        order = held[np.lexsort((self._labels[held], -self._products[held]))]
        return self._labels[order], self._products[order]
