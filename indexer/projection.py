"""A small copy of an index's vectors, to choose by it what is compared exactly: principal components, a byte each.

A search under a filter that lets many through would read a kilobyte of each of those vectors. It reads COMPONENTS bytes
instead, keeps a few times more rows than are asked for, and compares these alone with the vectors of the index. How
many that have to be is measured when the copy is made (`store.projected_file`); scores are always the exact ones.

    x ~ W' c,  c = round(B x / s) in -127..127,  W = s B        B (C, E): axes of the second moment of the vectors
    q.x ~ (W q).c                                               s (C,): the largest |B x| of a sample, over 127

On made-up vectors the bytes lose nothing against floats, one scale for all components nothing against one for each, and
taking the mean away first loses a little (docs/results.md, "Large galleries").

Letters  N vectors, E embedding size, C components, n rows of a part
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from threadmatch.indexer.scanning import Scan, faiss

COMPONENTS = 64
MEASURED_DEPTH = 200  # results that `wide` was measured for: the default shortlist
# In the parameters of an index:
PROJECTED = "projected"  # components, 0 where their recall was too low
WIDE = "projectedWide"
RECALL = "projectedRecall"

_TOP = 127
_OFFSET = 128  # codes are unsigned: 1 stands for -127, 255 for 127


@dataclass(frozen=True, slots=True)
class Axes:
    """What vectors are projected on.

    Fields:
        basis: (C, E) orthonormal rows, the strongest axis first.
        steps: (C,) what one step of a component's byte stands for.
    """

    basis: NDArray[np.float32]
    steps: NDArray[np.float32]

    @classmethod
    def of(cls, sample: NDArray[np.float32], components: int) -> Axes:
        """The strongest axes of a sample.

        Args:
            sample: (n, E) vectors, at least one.
            components: C; E where that is less.
        """
        moment = (sample.T @ sample).astype(np.float64) / len(sample)  # (E, E)
        _, axes = np.linalg.eigh(moment)  # weakest first
        basis = np.ascontiguousarray(axes[:, ::-1][:, :components].T, np.float32)
        largest = np.abs(sample @ basis.T).max(axis=0)
        return cls(basis, np.maximum(largest / _TOP, np.finfo(np.float32).tiny).astype(np.float32))

    @property
    def weights(self) -> NDArray[np.float32]:
        """(C, E) W: what a query is multiplied with to be compared with codes."""
        return self.basis * self.steps[:, None]

    def codes(self, vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
        """(n, C) the bytes of (n, E) vectors; what is larger than any of the sample is cut off."""
        components = np.rint(vectors @ self.basis.T / self.steps)
        return np.asarray(np.clip(components, -_TOP, _TOP) + _OFFSET, np.uint8)


def byte_quantizer(components: int) -> Any:
    """What tells Faiss that a byte b stands for b - 128.

    QT_8bit_direct_signed says the same, but compares whole numbers alone where that is faster: Faiss 1.15 cuts the
    query's fractions off where a row has 64 bytes.
    """
    quantizer = faiss.ScalarQuantizer(components, faiss.ScalarQuantizer.QT_8bit_uniform)
    lowest, width = -_OFFSET - 0.5, 255.0  # by Faiss's rule a byte stands for lowest + width (b + 0.5) / 255
    faiss.copy_array_to_vector(np.array([lowest, width], np.float32), quantizer.trained)
    return quantizer


class Projection:
    """The coded copy of all vectors of an index, in the order of their positions. It never changes; thread-safe.

    Args:
        weights: (C, E) W.
        parts: (n, C) codes each, one after another.
        wide: how many to compare exactly, of a search for MEASURED_DEPTH.
    """

    def __init__(self, weights: NDArray[np.float32], parts: Sequence[NDArray[np.uint8]], *, wide: int) -> None:
        self._weights, self._parts, self._wide = weights, tuple(parts), wide
        self._starts = np.cumsum([0, *map(len, self._parts)], dtype=np.int64)
        self._quantizer = byte_quantizer(len(weights))

    def __len__(self) -> int:
        return int(self._starts[-1])

    def wide(self, k: int) -> int:
        """How many to compare exactly where k are asked for."""
        return max(self._wide, -(-self._wide * k // MEASURED_DEPTH))

    def with_wide(self, wide: int) -> Projection:
        """The same with another width."""
        return Projection(self._weights, self._parts, wide=wide)

    def nearest(
        self, query: NDArray[np.float32], count: int, positions: NDArray[np.int64] | None = None
    ) -> NDArray[np.int64]:
        """Where the vectors most like a query seem to be.

        Args:
            query: (E,) unit length.
            count: how many.
            positions: ascending, which to choose from; None for all.

        Returns:
            Ascending positions, fewer than `count` where there are fewer.
        """
        scan = Scan(self._quantizer, self._weights @ query, count)
        bounds = None if positions is None else np.searchsorted(positions, self._starts)
        for number, (part, start) in enumerate(zip(self._parts, self._starts.tolist(), strict=False)):
            if positions is None or bounds is None:
                scan.add(part, np.arange(start, start + len(part), dtype=np.int64))
                continue
            mine = positions[bounds[number] : bounds[number + 1]]
            if len(mine):
                scan.add(part.take(mine - start, axis=0), mine)
        return np.sort(scan.best()[0])
