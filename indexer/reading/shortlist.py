"""Stage one: the items whose vectors are most like a query's. The seam, and its body: Faiss, with edits beside it.

Letters  E embedding size, K results, n rows beside the index
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from threadmatch.indexer.errors import GalleryError
from threadmatch.indexer.index import Choice, Ids, Vectors, best_of, inner_products
from threadmatch.indexer.reading.conditions import Condition
from threadmatch.indexer.reading.filter_sql import to_sql
from threadmatch.indexer.reading.generation import LoadedGeneration
from threadmatch.indexer.reading.overlay import Changes
from threadmatch.indexer.store.cards import Card

REMEMBERED_FILTERS = 8


@dataclass(frozen=True, slots=True)
class Candidate:
    """An item of the shortlist. `row` is the number of its version; distance = 1 - cosine, 0..2, lower is closer."""

    id: str
    row: int  # of the generation; negative for an edit on top of it
    distance: float
    card: Card | None = field(default=None, compare=False, repr=False)  # what is shown of it, where that was read


class Shortlist(Protocol):
    """Nearest neighbours of one moment of a gallery. It never changes. Thread-safe."""

    def search(self, vector: Vectors, k: int, *, where: Condition | None = None) -> list[Candidate]:
        """The items closest to a query.

        Args:
            vector: (E,) unit length.
            k: how many; fewer come back only where fewer are allowed.
            where: which items to choose from, None for all. It narrows the gallery before the shortlist is cut.

        Returns:
            Closest first, each item once, the versions of that moment; equal distances in the order of rows.

        Raises:
            GalleryError: it cannot be read.
        """
        ...

    def vectors(self, rows: Sequence[int]) -> Vectors:
        """(n, E) the vectors of rows that `search` gave, in their order; an index may hold them rounded to float16."""
        ...


class FaissShortlist:
    """A generation's index, the rows that came after it, and the edits on top, compared one by one.

    Args:
        loaded: the generation.
        changes: the edits on top of it.
    """

    def __init__(self, loaded: LoadedGeneration, changes: Changes) -> None:
        self._loaded, self._changes = loaded, changes
        self._filtered: LRUCache[Condition, Ids] = LRUCache(REMEMBERED_FILTERS)
        self._choices: LRUCache[Condition, tuple[Choice, NDArray[np.bool_]]] = LRUCache(REMEMBERED_FILTERS)
        self._lock = threading.Lock()
        late, late_vectors, self._alive = loaded.late, loaded.late_vectors, loaded.alive
        if len(changes.dead):
            self._alive = self._alive.copy()
            self._alive[changes.dead] = False
            kept = self._alive[late]
            late, late_vectors = (late, late_vectors) if kept.all() else (late[kept], late_vectors[kept])
        self._late, self._late_vectors = late, late_vectors
        whole = loaded.index.choice(self._alive)
        self._whole = None if whole.count == len(loaded.index) else whole

    def search(self, vector: Vectors, k: int, *, where: Condition | None = None) -> list[Candidate]:
        """See Shortlist."""
        choice, late = (self._whole, None) if where is None else self._choice(where)
        found = [self._loaded.index.search(vector, k, choice=choice)]
        if len(self._late):
            places = None if late is None else np.flatnonzero(late)
            products = inner_products(self._late_vectors, vector, places)
            best = best_of(products, k)
            found.append((self._late[best if places is None else places[best]], products[best]))
        if len(self._changes.rows):
            found.append(self._edited(vector, where))
        rows, similarities = (np.concatenate(parts) for parts in zip(*found, strict=True))
        if len(found) > 1:
            order = np.lexsort((rows, -similarities))[:k]
            rows, similarities = rows[order], similarities[order]
        cards = self._loaded.cards.get(rows)
        if len(cards) < len(rows):
            raise GalleryError(
                f"rows of generation {self._loaded.manifest.generation} are gone from the database; refresh, it was "
                "compacted"
            )
        return [
            Candidate(cards[row].id, row, max(0.0, 1.0 - float(similarity)), cards[row])
            for row, similarity in zip(rows.tolist(), similarities, strict=True)
        ]

    def vectors(self, rows: Sequence[int]) -> Vectors:
        """See Shortlist."""
        numbers = np.array(rows, np.int64)
        out = np.empty((len(numbers), self._loaded.manifest.embedding_dim), np.float32)
        edited = numbers < 0
        late = np.isin(numbers, self._late) if len(self._late) else np.zeros(len(numbers), bool)
        indexed = ~(edited | late)
        out[indexed] = self._loaded.index.vectors(numbers[indexed])
        out[late] = self._late_vectors[np.searchsorted(self._late, numbers[late])]
        places = np.searchsorted(-self._changes.rows, -numbers[edited])  # later edits are lower
        out[edited] = self._changes.vectors[places]
        return out

    def _choice(self, where: Condition) -> tuple[Choice, NDArray[np.bool_]]:
        """What a filter leaves of the index, and which of the rows beside it."""
        with self._lock:
            if where in self._choices:
                return self._choices[where]
        allowed = self._loaded.allowed(where)
        allowed &= self._alive
        made = self._loaded.index.choice(allowed), allowed[self._late]
        with self._lock:
            self._choices[where] = made
        return made

    def _edited(self, vector: Vectors, where: Condition | None) -> tuple[Ids, Vectors]:
        """Rows and similarities of the items that edits put; every one is compared."""
        chosen = self._changes.newest
        if where is not None:
            chosen = chosen & np.isin(self._changes.rows, self._allowed_edits(where))
        return self._changes.rows[chosen], inner_products(self._changes.vectors, vector)[chosen]

    def _allowed_edits(self, where: Condition) -> Ids:
        with self._lock:
            if where in self._filtered:
                return self._filtered[where]
        clause = to_sql(where)
        query = f"SELECT -i.edit FROM edits i WHERE i.edit > :after AND i.edit <= :upto AND ({clause.sql})"  # noqa: S608
        span = {"after": self._changes.after, "upto": self._changes.upto}
        with self._loaded.readers.connection() as connection:
            rows = connection.execute(query, {**span, **clause.values})
            allowed = np.fromiter((row for (row,) in rows), np.int64)
        with self._lock:
            self._filtered[where] = allowed
        return allowed
