"""The two sides of a labelled set, whatever stands for a side: images, maps, features, product names.

A step of preparation turns one into another (`Sides.map`); what people refused stays with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class Sides(Generic[T]):
    """A gallery and its queries.

    Fields:
        gallery, queries: the same kind of thing.
        refused: by position of a query the positions of gallery items that somebody said are not it.
    """

    gallery: T
    queries: T
    refused: Mapping[int, Sequence[int]] = field(default_factory=dict)

    def map(self, change: Callable[[T], U]) -> Sides[U]:
        """Both sides changed alike, gallery first; `change` keeps positions, by which `refused` goes."""
        return Sides(change(self.gallery), change(self.queries), self.refused)
