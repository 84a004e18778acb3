"""Near-duplicates in a shortlist: the same photo under another id, saved again, resized, or cropped a little.

Decided from what the gallery holds. Embeddings that are far apart settle most pairs for nothing; the display photos
settle the rest (`model.same_photo`), inside the boxes that were encoded. What the catalogue itself calls different
colours never collapses, however alike the photos are.

Letters  N candidates, E embedding size
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from cachetools import LRUCache

from threadmatch.indexer.errors import DamagedItemError, ItemNotFoundError
from threadmatch.indexer.reading.shortlist import Candidate
from threadmatch.indexer.reading.snapshot import Item, Snapshot
from threadmatch.model.same_photo import Lab, is_same_photo, lab_square

logger = logging.getLogger(__name__)

# docs/results.md, "Near-duplicates": photos saved again at half the size and cropped have 0.77 at least.
MIN_COSINE = 0.75
MAX_PAIRS = 64  # pairs of photos that one search looks at; what is beyond counts as different
REMEMBERED = 50_000
COLOR_COLUMNS = ("color", "colour")


class Verdicts:
    """What was found of pairs of item versions of one gallery. Versions never change, so it stays true. Thread-safe."""

    def __init__(self) -> None:
        self._known: LRUCache[tuple[int, int], bool] = LRUCache(REMEMBERED)
        self._lock = threading.Lock()

    def get(self, pair: tuple[int, int]) -> bool | None:
        """True or False where the pair was compared lately, else None."""
        with self._lock:
            return self._known.get(pair)

    def put(self, pair: tuple[int, int], same: bool) -> None:
        """Remember a pair; the one that was asked about longest ago is forgotten."""
        with self._lock:
            self._known[pair] = same


class Duplicates:
    """Compares the items of one shortlist; used by one thread.

    Args:
        snapshot: the generation that the shortlist is of.
        candidates, items: N of each, in one order; a place is an index into them.
        verdicts: of this gallery.
    """

    def __init__(
        self, snapshot: Snapshot, candidates: Sequence[Candidate], items: Sequence[Item], verdicts: Verdicts
    ) -> None:
        self._snapshot, self._candidates, self._items, self._verdicts = snapshot, candidates, items, verdicts
        self._embeddings = snapshot.embeddings(candidates)  # (N, E)
        self._squares: dict[int, tuple[Lab, bytes] | None] = {}
        self._colors = [_colors(item) for item in items]  # of an item and all that was folded into it
        self._left = MAX_PAIRS

    def twin(self, place: int, shown: Sequence[int]) -> int | None:
        """The place among `shown` whose item has the same photo, the likeliest first; None when there is none."""
        if not shown:
            return None
        cosines = self._embeddings[list(shown)] @ self._embeddings[place]
        order: list[int] = np.argsort(-cosines, kind="stable").tolist()
        for nearest in order:
            if cosines[nearest] < MIN_COSINE:
                return None
            if self._same(shown[nearest], place):
                self._colors[shown[nearest]] = self._colors[place] | self._colors[shown[nearest]]
                return shown[nearest]
        return None

    def _same(self, first: int, second: int) -> bool:
        one, other = self._colors[first], self._colors[second]
        if self._left == 0 or any(one[name] != other[name] for name in one.keys() & other.keys()):
            return False
        self._left -= 1  # counted where it is remembered too: the same search has the same answer
        low, high = sorted((self._candidates[first].row, self._candidates[second].row))
        known = self._verdicts.get((low, high))
        if known is None:
            known = self._compare(first, second)
            self._verdicts.put((low, high), known)
        return known

    def _compare(self, first: int, second: int) -> bool:
        one, other = self._square(first), self._square(second)
        if one is None or other is None:
            return False
        if one[1] == other[1] and np.array_equal(one[0], other[0]):
            return True
        return is_same_photo(one[0], other[0])

    def _square(self, place: int) -> tuple[Lab, bytes] | None:
        """The part of an item's display photo that was encoded, and the photo; None where it is damaged."""
        if place not in self._squares:
            item = self._items[place]
            area = (
                item.box.x0 / item.width, item.box.y0 / item.height, item.box.x1 / item.width, item.box.y1 / item.height
            )  # fmt: skip
            try:
                photo = self._snapshot.photo(item.id)
                self._squares[place] = lab_square(photo, area), photo
            except (
                DamagedItemError,
                ItemNotFoundError,
                OSError,
            ) as error:  # one bad photo must not take down every search that meets it
                logger.error("damaged photo left out", extra={"item": item.id, "reason": str(error)})
                self._squares[place] = None
        return self._squares[place]


def _colors(item: Item) -> dict[str, Any]:
    """What the catalogue calls the item's colour, by column."""
    named = ((column.lower(), value) for column, value in item.metadata.items())
    return {column: value for column, value in named if column in COLOR_COLUMNS and value}
