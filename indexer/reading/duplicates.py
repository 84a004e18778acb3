"""Near-duplicates in a shortlist: the same photo under another id, saved again, resized, or cropped a little.

Decided from what the gallery holds. Embeddings that are far apart settle most pairs, the colours of a few cells nearly
all the others, and what was compared before (`store.looks`) the rest: only a pair of which nothing is known yet has
its display photos compared (`model.same_photo`), inside the boxes that were encoded. What the catalogue itself calls
different colours never collapses, however alike the photos are.

Letters  N candidates, E embedding size, G cells a side
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from threadmatch.indexer.errors import DamagedItemError, ItemNotFoundError
from threadmatch.indexer.reading.items import Item
from threadmatch.indexer.reading.opened import OpenSnapshot
from threadmatch.indexer.reading.shortlist import Candidate
from threadmatch.indexer.store import looks
from threadmatch.indexer.store.looking import MIN_COSINE, ROUGH_BOUND, Picture, picture, same
from threadmatch.model.same_photo import roughness

logger = logging.getLogger(__name__)

MAX_PAIRS = 64  # pairs of photos that one search compares itself; what is beyond counts as different
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
        self, snapshot: OpenSnapshot, candidates: Sequence[Candidate], items: Sequence[Item], verdicts: Verdicts
    ) -> None:
        self._snapshot, self._candidates, self._items, self._verdicts = snapshot, candidates, items, verdicts
        self._embeddings = snapshot.embeddings(candidates)  # (N, E)
        self._looks = snapshot.looks(candidates)
        self._looked, self._cells = looks.known_cells(self._looks)  # whose cells are known, (N,); (N, G, G, 3)
        self._pictured = looks.may_be_pictures(self._looks)
        self._alike: dict[int, tuple[list[bool], NDArray[np.float32]]] = {}
        self._reached: NDArray[np.bool_] = np.zeros(len(candidates), bool)  # that any of those rows may be the photo of
        self._pictures: dict[int, Picture | None] = {}
        self._colors: dict[int, dict[str, Any]] = {}  # of an item and all that was folded into it
        self._left = MAX_PAIRS

    def twin(self, place: int, shown: Collection[int]) -> int | None:
        """The place among `shown` whose item has the same photo, the likeliest first; None when there is none.

        From one call to the next places may be added to `shown`, and none leaves it.
        """
        if len(self._alike) < len(shown):  # a search asks about 200 places, and ten of them are shown
            for other in shown:
                self._row(other)
        if not self._reached[place]:  # most are unlike all that is shown
            return None
        near = [(other, cosines[place]) for other in shown for alike, cosines in [self._row(other)] if alike[place]]
        for other, _ in sorted(near, key=lambda entry: -entry[1]):
            if self._same(other, place):
                self._colors[other] = self._colors_of(place) | self._colors_of(other)
                return other
        return None

    def _row(self, place: int) -> tuple[list[bool], NDArray[np.float32]]:
        """Which places may show the photo of one, as far as embeddings and cells say; and all cosines to it, (N,)."""
        if place not in self._alike:
            cosines = np.asarray(self._embeddings @ self._embeddings[place], np.float32)
            alike = (cosines >= MIN_COSINE) & self._pictured & self._pictured[place]  # no picture is like no other
            if self._looked[place]:
                asked = np.flatnonzero(alike & self._looked)
                alike[asked] = roughness(self._cells[place], self._cells[asked]) <= ROUGH_BOUND
            self._alike[place] = alike.tolist(), cosines
            self._reached |= alike
        return self._alike[place]

    def _same(self, first: int, second: int) -> bool:
        one, other = self._colors_of(first), self._colors_of(second)
        if any(one[name] != other[name] for name in one.keys() & other.keys()):
            return False
        known = self._known(first, second)
        if known is not None or self._left == 0:
            return bool(known)
        self._left -= 1  # counted where it is remembered too: the same search has the same answer
        low, high = sorted((self._candidates[first].row, self._candidates[second].row))
        known = self._verdicts.get((low, high))
        if known is None:
            known = self._compare(first, second)
            self._verdicts.put((low, high), known)
        return known

    def _colors_of(self, place: int) -> dict[str, Any]:
        if place not in self._colors:
            self._colors[place] = _colors(self._items[place])
        return self._colors[place]

    def _known(self, first: int, second: int) -> bool | None:
        """What was found when one of the two was published or put, None where they were not compared."""
        one, other = self._looks[first], self._looks[second]
        if one is None or other is None:
            return None
        if one.content == other.content:
            return True
        found = one.verdicts.get(other.content)
        return other.verdicts.get(one.content) if found is None else found

    def _compare(self, first: int, second: int) -> bool:
        one, other = self._picture(first), self._picture(second)
        return one is not None and other is not None and same(one, other)

    def _picture(self, place: int) -> Picture | None:
        """The part of an item's display photo that was encoded; None where it is damaged."""
        if place not in self._pictures:
            item = self._items[place]
            shown, reason = None, "its photo is no picture"
            try:
                photo = self._snapshot.photo(item.id)
                shown = picture(photo, (item.width, item.height), (item.box.x0, item.box.y0, item.box.x1, item.box.y1))
            except (DamagedItemError, ItemNotFoundError) as error:
                reason = str(error)  # one bad photo must not take down every search that meets it
            if shown is None:
                logger.error("damaged photo left out", extra={"item": item.id, "reason": reason})
            self._pictures[place] = shown
        return self._pictures[place]


def _colors(item: Item) -> dict[str, Any]:
    """What the catalogue calls the item's colour, by column."""
    named = ((column.lower(), value) for column, value in item.metadata.items())
    return {column: value for column, value in named if column in COLOR_COLUMNS and value}
