"""The queries that recall is measured with when an index is published: some like a customer's, some like nothing.

A gallery's own vectors are no queries. They lie where the index was built, so that it finds all there is near them,
and a figure measured with them says little of a photo. A query that is like a customer's is

    q = c x + sqrt(1 - c^2) r,   r = (y + z) - ((y + z).x) x, at unit length

with x an item, y another one, z a random direction, all of unit length, and c spread evenly over COSINES. So half of
what a query has besides its item is of the kind that the gallery has, half is new to it, as it was measured of photos
(docs/results.md, "Queries that recall is measured with"); there are more low cosines, the hard ones, than photos have.
A query unlike anything is a random direction: photos that show nothing of a gallery's kind have more in common with
its vectors than that.

Letters  Q queries, E embedding size
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from threadmatch.indexer.index import VectorIndex, Vectors

COSINES: Final = (0.3, 0.9)
"""Of a query that is like a customer's to its item, the lowest and the highest."""


def like_queries(index: VectorIndex, count: int) -> Vectors:
    """(Q, E) unit vectors as far from items of an index as customers' photos are. The same each time."""
    random = np.random.default_rng(0)
    own, other = (index.vectors(index.ids[random.integers(0, len(index), count)]) for _ in range(2))
    beside = _unit(other) + _directions(random, count, index.dim)
    own = _unit(own)
    beside = _unit(beside - np.sum(beside * own, axis=1, keepdims=True) * own)
    cosines = np.linspace(*COSINES, count, dtype=np.float32)[:, None]
    return _unit(cosines * own + np.sqrt(1 - cosines**2) * beside)


def unlike_queries(index: VectorIndex, count: int) -> Vectors:
    """(Q, E) unit vectors that have nothing to do with an index but their size. The same each time."""
    return _directions(np.random.default_rng(1), count, index.dim)


def _directions(random: np.random.Generator, count: int, dim: int) -> Vectors:
    return _unit(random.standard_normal((count, dim), dtype=np.float32))


def _unit(vectors: NDArray[Any]) -> Vectors:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)
