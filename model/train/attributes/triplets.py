"""Triplets as the authors draw them: an attribute, a value of it, two photos of that value and one of another.

Letters  n photos, A attributes, T triplets
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from threadmatch.model.errors import DataError


@dataclass(frozen=True, slots=True)
class Triplets:
    """T triplets: (T,) attribute of each, and (T, 3) positions of anchor, positive and negative."""

    attributes: NDArray[np.int64]
    photos: NDArray[np.int64]


class TripletSampler:
    """Attribute uniform, value uniform within it, then anchor and positive of that value, negative of another.

    Args:
        marks: for each attribute (n, V) bool, which photo has which value.
        names: of the attributes, for the error.

    Raises:
        DataError: no attribute has a value that two photos have and a third, known, has not.
    """

    def __init__(self, marks: Sequence[NDArray[np.bool_]], names: Sequence[str]) -> None:
        self._of: dict[int, list[tuple[NDArray[np.int64], NDArray[np.int64]]]] = {}
        for attribute, own in enumerate(marks):
            known = own.any(1)
            able = [(np.flatnonzero(has), np.flatnonzero(known & ~has)) for has in own.T]
            if able := [(having, other) for having, other in able if len(having) > 1 and len(other)]:
                self._of[attribute] = able
        if not self._of:
            raise DataError(
                f"none of {', '.join(names)} has a value that two photos share and another has not: nothing to learn"
            )

    @property
    def attributes(self) -> list[int]:
        """Those that triplets can be drawn of."""
        return list(self._of)

    def draw(self, count: int, rng: np.random.Generator) -> Triplets:
        """Draw `count` triplets."""
        attributes = rng.choice(self.attributes, count)
        photos = np.empty((count, 3), np.int64)
        for row, attribute in enumerate(attributes):
            values = self._of[int(attribute)]
            having, other = values[rng.integers(len(values))]
            photos[row, :2] = rng.choice(having, 2, replace=False)
            photos[row, 2] = rng.choice(other)
        return Triplets(attributes, photos)


class JudgedTriplets:
    """Triplets that people judged, drawn evenly; as on Zappos50k.

    Args:
        triplets: by attribute (T, 3) positions of anchor, near and far.
        names: of the network's attributes, in order.

    Raises:
        DataError: triplets of an attribute that the network does not have.
    """

    def __init__(self, triplets: Mapping[str, NDArray[np.int64]], names: Sequence[str]) -> None:
        if unknown := sorted(set(triplets) - set(names)):
            raise DataError(f"there are triplets of {', '.join(unknown)}; the network has {', '.join(names)}")
        own = [np.full(len(rows), names.index(name)) for name, rows in triplets.items()]
        self._all = Triplets(np.concatenate(own), np.concatenate(list(triplets.values())))

    def draw(self, count: int, rng: np.random.Generator) -> Triplets:
        """Draw `count` triplets."""
        at = rng.integers(0, len(self._all.attributes), count)
        return Triplets(self._all.attributes[at], self._all.photos[at])
