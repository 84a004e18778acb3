"""What a copy of a gallery is held against: a digest of all that was read, and the answers of both sides.

Letters  q queries, E embedding size
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeVar

import numpy as np

from threadmatch.indexer.errors import GalleryError
from threadmatch.indexer.index import Vectors
from threadmatch.indexer.reading.opened import OpenSnapshot
from threadmatch.indexer.reading.snapshot import StoredItem
from threadmatch.indexer.store.contents import Content
from threadmatch.model.features import FeatureSpec

SEARCHES: Final = 100
ANSWERS: Final = 10
MIN_AGREEMENT: Final = 0.95
"""Share of the answers that must be alike: both sides may have a graph, and a graph misses some."""
_SAME_DISTANCE: Final = 1e-4
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy did.

    Fields:
        items: of the gallery.
        sent: photos whose features were not there yet.
        checksum: of everything, as it was read and as it was read back.
        searches, agreement: how many were compared, and the share of their answers that is alike, 0..1.
        generation: that is in service now.
    """

    items: int
    sent: int
    checksum: str
    searches: int
    agreement: float
    generation: str


class Digest:
    """Of items in their order, with all that belongs to them.

    Args:
        specs: the features that each has.
    """

    def __init__(self, specs: Sequence[FeatureSpec]) -> None:
        self._keys = [spec.key for spec in specs]
        self._sum = hashlib.blake2b(digest_size=16)
        self.count = 0

    def add(self, item: StoredItem, features: Mapping[str, bytes], photo: bytes) -> None:
        """Take an item in, with its features by `FeatureSpec.key`."""
        said = (item.id, item.product_id, item.metadata, item.source, item.asked_box, item.size, item.sha256, item.box)
        self._sum.update(repr(said).encode())
        for data in (*(features[key] for key in self._keys), photo):
            self._sum.update(hashlib.blake2b(data, digest_size=16).digest())
        self.count += 1

    def __str__(self) -> str:
        return self._sum.hexdigest()


def batches(found: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size`, the last one shorter."""
    rest = iter(found)
    while batch := list(islice(rest, size)):
        yield batch


def content_of_item(item: StoredItem, features: Mapping[str, bytes], photo: bytes, look: bytes | None) -> Content:
    """What its photo became."""
    return Content(item.source, item.sha256, item.asked_box, *item.size, item.box, features, photo, look)


def some_vectors(snapshot: OpenSnapshot) -> Vectors:
    """(q, E) the vectors of up to SEARCHES items, spread evenly over the gallery."""
    step = max(1, snapshot.item_count // SEARCHES)
    ids = [item.id for number, item in enumerate(snapshot.stored_items()) if number % step == 0][:SEARCHES]
    name, size = snapshot.manifest.indexed.name, snapshot.manifest.embedding_dim
    return np.array([snapshot.features_of(name, item_id) for item_id in ids], np.float32).reshape(len(ids), size)


def compare_answers(one: OpenSnapshot, other: OpenSnapshot, queries: Vectors) -> float:
    """The share of the answers to (q, E) queries that two galleries have in common, 0..1, 1 where there are none.

    Raises:
        GalleryError: it is less than MIN_AGREEMENT.
    """
    shares = [_alike(one, other, query) for query in queries]
    agreement = float(np.mean(shares)) if shares else 1.0
    if agreement < MIN_AGREEMENT:
        raise GalleryError(
            f"{len(shares)} searches have {agreement:.1%} of their answers in common on both sides, expected "
            f"{MIN_AGREEMENT:.0%} at least; do not use the copy, make another"
        )
    return agreement


def _alike(one: OpenSnapshot, other: OpenSnapshot, query: Vectors) -> float:
    """Of one query. Items at the distance of the last answer count for each other: their order is nobody's."""
    ours, theirs = one.shortlist(query, ANSWERS), other.shortlist(query, ANSWERS)
    if not ours or not theirs:
        return float(not ours and not theirs)
    ids, last = {found.id for found in theirs}, theirs[-1].distance
    return sum(found.id in ids or abs(found.distance - last) < _SAME_DISTANCE for found in ours) / len(ours)
