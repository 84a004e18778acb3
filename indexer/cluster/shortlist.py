"""Stage one over Milvus: it proposes rows, the store says which of them are the newest of their items.

Letters  E embedding size, K results
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from threadmatch.indexer.cluster.feature_store import RowContents, StoredFeatures
from threadmatch.indexer.cluster.filter_milvus import TRUE, Expression, to_milvus
from threadmatch.indexer.cluster.items import Items
from threadmatch.indexer.cluster.vectors import MAX_FOUND, FoundRow, VectorEngine
from threadmatch.indexer.errors import GalleryError
from threadmatch.indexer.index import Vectors
from threadmatch.indexer.reading.conditions import Condition
from threadmatch.indexer.reading.filter_arrow import matches
from threadmatch.indexer.reading.shortlist import Candidate
from threadmatch.indexer.store.cards import Card
from threadmatch.indexer.store.column_chunks import chunk, read_chunk
from threadmatch.model.features import indexed_feature

SPARE: Final = 16
"""Results that are asked for beyond K, for those that turn out to be an older version of their item."""
WIDER: Final = 4


class NotAskedError(GalleryError):
    """A condition that Milvus cannot ask, and that is true of too few of the items most like the query."""


class MilvusShortlist:
    """A generation's collection as of one moment's last write. See `Shortlist`; items that change later may be missing.

    Args:
        engine: Milvus.
        items: of the generation.
        rows: where contents that were read are remembered.
        features: for `vectors`.
        after: the time of the last write that a search must see.
    """

    def __init__(
        self, engine: VectorEngine, items: Items, rows: RowContents, features: StoredFeatures, *, after: int
    ) -> None:
        self._engine, self._items, self._rows, self._features, self._after = engine, items, rows, features, after
        self._collection = items.names.collection(items.generation)
        self._indexed = indexed_feature(features.specs).name

    def search(self, vector: Vectors, k: int, *, where: Condition | None = None) -> list[Candidate]:
        """See Shortlist.

        Raises:
            NotAskedError: Milvus cannot ask this, and among the MAX_FOUND items most like the query too few are so.
            GalleryError: more than MAX_FOUND items are asked for, or an engine refuses.
            StoreUnavailableError: an engine does not answer.
        """
        if k > MAX_FOUND:
            raise GalleryError(f"a cluster's shortlist has {MAX_FOUND} items at most, {k} were asked for")
        asked = Expression("", exact=True) if where is None else to_milvus(where)
        count = min(MAX_FOUND, k + SPARE)
        while True:
            found = self._engine.search(self._collection, vector, count, where=asked.text, after=self._after)
            if len(found) < count:
                found = self._or_all(found, vector, asked)
            kept = self._newest(found)
            if where is not None and not asked.exact:
                kept = _true_of(where, kept)
            if len(kept) >= k or len(found) < count:
                return kept[:k]
            if count == MAX_FOUND:
                break
            count = min(MAX_FOUND, WIDER * count)
        if asked.exact:
            return kept
        raise NotAskedError(
            f"a cluster cannot look for a part of a text or compare two columns by itself, and among the {MAX_FOUND} "
            f"items most like the photo only {len(kept)} are so: add a condition on a value, or ask for "
            f"{max(1, len(kept))} candidates"
        )

    def vectors(self, rows: Sequence[int]) -> Vectors:
        """See Shortlist; to the last bit, from the store."""
        return np.asarray(self._features.get(self._indexed, rows), np.float32)

    def _or_all(self, found: list[FoundRow], vector: Vectors, asked: Expression) -> list[FoundRow]:
        """What was found, or every row that is allowed, compared here, where Milvus gave fewer than there are.

        Before a segment's graph is built, Milvus looks into some cells of a coarse index only (`interimIndex`), and a
        narrow filter may leave few rows there: 20 of 100 were found among 100,000.
        """
        where = asked.text or TRUE
        rows = self._engine.rows(self._collection, where, last=0, count=len(found) + 1, after=self._after)
        if len(rows) <= len(found):
            return found
        rows = self._engine.rows(self._collection, where, last=0, count=MAX_FOUND, after=self._after)
        similarities = self.vectors([row for row, _ in rows]) @ vector
        return [
            FoundRow(row, item_id, float(similarity))
            for (row, item_id), similarity in zip(rows, similarities, strict=True)
        ]

    def _newest(self, found: list[FoundRow]) -> list[Candidate]:
        """Those that are the newest version of their items, closest first, equal ones in the order of rows."""
        records = self._items.read([hit.id for hit in found])
        kept: dict[int, Candidate] = {}  # by row: an insert that was tried twice may be there twice
        for hit, record in zip(found, records, strict=True):
            if record is not None and record.row == hit.row and record.card is not None:
                kept[hit.row] = Candidate(hit.id, hit.row, max(0.0, 1.0 - hit.similarity), record.card)
        self._rows.remember({one.row: one.card.content for one in kept.values() if one.card is not None})
        return sorted(kept.values(), key=lambda one: (one.distance, one.row))


def _true_of(where: Condition, candidates: list[Candidate]) -> list[Candidate]:
    chosen = choose(where, [(one.row, one.card) for one in candidates if one.card is not None])
    return [one for one, is_so in zip(candidates, chosen.tolist(), strict=True) if is_so]


def choose(where: Condition, shown: Sequence[tuple[int, Card]]) -> NDArray[np.bool_]:
    """(n,) which of these rows a condition is true of."""
    if not shown:
        return np.zeros(0, bool)
    # A chunk's rows ascend in a gallery's files; here any order will do, since only their places are asked for.
    listed = [(row, card.id, card.product_id, card.metadata) for row, card in shown]
    return matches(where, read_chunk(memoryview(chunk(listed))))
