"""A small copy of an index's vectors, to choose by it what is compared exactly: principal components, a byte each.

A search under a filter that lets many through would read a kilobyte of each of those vectors. It reads a sixteenth to a
quarter of that, keeps a few times more rows than are asked for, and compares these alone with the vectors of the index.
How many that have to be is measured when the copy is made (`store.projected_recall`); scores are always the exact ones.

    x ~ W' c,  c = round(B x / s) in -127..127,  W = s B        B (C, E): axes of the second moment of the vectors
    q.x ~ (W q).c                                               s (C,): the largest |B x| of a sample, over 127

What the axes lose of a vector is lost of its product with a query, and the more so the less of the query lies in them:
a query that has nothing of the gallery is chosen for worst. So two widths are measured, with queries of both kinds
(`indexer.recall_queries`), and a search takes the one that is meant for its query.

On made-up vectors the bytes lose nothing against floats, one scale for all components nothing against one for each, and
taking the mean away first loses a little (docs/results.md, "Large galleries").

Letters  N vectors, E embedding size, C components, n rows of a part
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from threadmatch.indexer.scanning import Scan, faiss

MEASURED_DEPTH = 200  # results that the widths were measured for: the default shortlist
# In the parameters of an index:
PROJECTED = "projected"  # components, 0 where their recall was too low
RECALL_LIKE = "projectedRecallLike"  # recall@MEASURED_DEPTH, and the number compared for it
WIDE_LIKE = "projectedWide"
RECALL_UNLIKE = "projectedRecallUnlike"
WIDE_UNLIKE = "projectedWideUnlike"
LIKE_SHARE = "projectedLikeShare"  # of a query in the axes, from which on it counts as like
FORMER_RECALL = "projectedRecall"  # measured with queries between two items, by former versions
PARAMETERS = (PROJECTED, RECALL_LIKE, WIDE_LIKE, RECALL_UNLIKE, WIDE_UNLIKE, LIKE_SHARE, FORMER_RECALL)

_TOP = 127
_LEAST = np.finfo(np.float32).tiny
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
        return cls(basis, np.maximum(largest / _TOP, _LEAST).astype(np.float32))

    @property
    def weights(self) -> NDArray[np.float32]:
        """(C, E) W: what a query is multiplied with to be compared with codes."""
        return self.basis * self.steps[:, None]

    def codes(self, vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
        """(n, C) the bytes of (n, E) vectors; what is larger than any of the sample is cut off."""
        components = np.rint(vectors @ self.basis.T / self.steps)
        return np.asarray(np.clip(components, -_TOP, _TOP) + _OFFSET, np.uint8)


@dataclass(frozen=True, slots=True)
class Widths:
    """How many of a projection's choice to compare exactly, of a search for MEASURED_DEPTH.

    Fields:
        like: for a query that is like those of customers, and any other where `share` is 0.
        unlike: for a query of which less than `share` lies in the axes.
        share: of a query's squared length, 0..1.
    """

    like: int
    unlike: int = 0
    share: float = 0.0

    @classmethod
    def read(cls, parameters: Mapping[str, int | str]) -> Widths:
        """What an index's parameters say; those of a former version know one width for all queries."""
        unlike, share = parameters.get(WIDE_UNLIKE, 0), parameters.get(LIKE_SHARE, 0)
        return cls(int(parameters[WIDE_LIKE]), int(unlike), float(share))

    def parameters(self) -> dict[str, int | str]:
        """The reverse of `read`."""
        return {WIDE_LIKE: self.like, WIDE_UNLIKE: self.unlike, LIKE_SHARE: f"{self.share:.4f}"}


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
        widths: how many to compare exactly.
    """

    def __init__(self, weights: NDArray[np.float32], parts: Sequence[NDArray[np.uint8]], *, widths: Widths) -> None:
        self._weights, self._parts, self.widths = weights, tuple(parts), widths
        self._steps = np.maximum(np.linalg.norm(weights, axis=1), _LEAST)  # s: B has unit rows
        self._starts = np.cumsum([0, *map(len, self._parts)], dtype=np.int64)
        self._quantizer = byte_quantizer(len(weights))

    def __len__(self) -> int:
        return int(self._starts[-1])

    def share(self, query: NDArray[np.float32]) -> float:
        """How much of a query's squared length lies in the axes, 0..1 for one of unit length."""
        return float(np.square(self._weights @ query / self._steps).sum())

    def wide(self, k: int, query: NDArray[np.float32]) -> int:
        """How many to compare exactly where k are asked for."""
        like = not self.widths.share or self.share(query) >= self.widths.share
        wide = self.widths.like if like else self.widths.unlike
        return max(wide, -(-wide * k // MEASURED_DEPTH))

    def with_widths(self, widths: Widths) -> Projection:
        """The same with other widths."""
        return Projection(self._weights, self._parts, widths=widths)

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
