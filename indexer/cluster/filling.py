"""Fills a new generation of a cluster's gallery and puts it in service. Nobody sees it before the alias moves.

Contents that are there already, of any gallery and generation of the same model, are not sent again. A filling that is
broken off leaves its contents for the next one, and a generation that nothing names (`upkeep.compact` clears it away).

Letters  n items of a batch, E embedding size
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np

from threadmatch.indexer.cluster.contents import Contents
from threadmatch.indexer.cluster.filter_milvus import MAX_DOCUMENT_BYTES, document
from threadmatch.indexer.cluster.gallery import Cluster
from threadmatch.indexer.cluster.generation import CLOSED, EDITS, write_generation
from threadmatch.indexer.cluster.items import ItemRecord, Items, RowEntry, metadata_of, pack
from threadmatch.indexer.cluster.vectors import MAX_ID_BYTES, NewRow
from threadmatch.indexer.errors import GalleryBusyError, GalleryError, TooMuchMetadataError
from threadmatch.indexer.index import Vectors
from threadmatch.indexer.reading.columns import Column
from threadmatch.indexer.store.cards import Card
from threadmatch.indexer.store.contents import Content
from threadmatch.indexer.store.manifest import Manifest
from threadmatch.model.features import FeatureSpec

BATCH: Final = 256
_LOCK_S: Final = 120
"""How long a writer that died keeps others out; one that lives says so with each batch."""
_RENEW: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
"""
_LET_GO: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end return 1"


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item to fill in.

    Fields:
        card: what is shown of it; its content is a `content_number`.
        source: path or address that its photo came from.
        vector: (E,) unit length.
    """

    card: Card
    source: str
    vector: Vectors


@contextmanager
def writing(cluster: Cluster) -> Iterator[Callable[[], None]]:
    """Hold the gallery for publishing; what it gives is to be called at least every minute.

    Raises:
        GalleryBusyError: another process holds it; from the call too, where it was lost.
    """
    key, token = f"{cluster.names.prefix}:{cluster.names.gallery}:lock", uuid.uuid4().hex
    if cluster.store.write("SET", key, token, "NX", "EX", _LOCK_S) is None:
        raise GalleryBusyError(
            f"another process is filling {cluster.address}, or died less than {_LOCK_S} s ago; try again after that"
        )

    def renew() -> None:
        if not cluster.store.write("EVAL", _RENEW, 1, key, token, _LOCK_S, key=key):
            raise GalleryBusyError(f"{cluster.address} was taken over by another process; nothing was put in service")

    try:
        yield renew
    finally:
        cluster.store.write("EVAL", _LET_GO, 1, key, token, key=key)


class Filling:
    """A generation that is being filled. One thread.

    Args:
        cluster: where; its gallery is held (`writing`).
        features_fingerprint: of the model.
        specs: what is kept of each photo.
    """

    def __init__(self, cluster: Cluster, features_fingerprint: str, specs: Sequence[FeatureSpec]) -> None:
        self._cluster, self._specs = cluster, tuple(specs)
        self.generation = _next_generation(cluster)
        self.collection = cluster.names.collection(self.generation)
        self.items = Items(cluster.store, cluster.names, self.generation)
        self.contents = Contents(cluster.store, cluster.names.prefix, features_fingerprint)
        self.first_row = 1 + int(cluster.store.one("GET", cluster.names.sequence) or 0)
        self.last_row, self.count, self.written, self.sent = self.first_row - 1, 0, 0, 0
        size = next(spec for spec in specs if spec.indexed).shape[0]
        cluster.engine.create(self.collection, size)

    def name(self, items: Sequence[tuple[str, int]]) -> range:
        """Give items their rows, which name their contents: those that are there stay from here on (`clearing`).

        Args:
            items: ids and content numbers.
        """
        last = int(self._cluster.store.write("INCRBY", self._cluster.names.sequence, len(items)))
        rows = range(last - len(items) + 1, last + 1)
        entries = [RowEntry(row, item_id, content) for row, (item_id, content) in zip(rows, items, strict=True)]
        self._cluster.store.ask([*map(self.items.entry_command, entries)])
        return rows

    def lacking(self, numbers: Sequence[int]) -> set[int]:
        """Contents that have to be sent, of those that are named."""
        return self.contents.claim(list(dict.fromkeys(numbers)), self._specs)

    def send(self, contents: Sequence[Content]) -> None:
        """Store contents."""
        self._cluster.store.ask([self.contents.command(content)[1] for content in contents])
        self.sent += len(contents)

    def add(self, rows: range, items: Sequence[NewItem]) -> None:
        """Fill in items, each id once in a generation, whose contents are stored.

        Args:
            rows: of the items (`name`).
            items: at least one.

        Raises:
            TooMuchMetadataError: an id, or an item's metadata, is longer than Milvus takes.
        """
        names, generation = self._cluster.names, self.generation
        records = [
            ("SET", names.item(generation, item.card.id), pack(ItemRecord(row, item.card, item.source)))
            for row, item in zip(rows, items, strict=True)
        ]
        self._cluster.store.ask(records)
        new = [new_row(row, item.card, item.vector) for row, item in zip(rows, items, strict=True)]
        self.written = self._cluster.engine.insert(self.collection, new)
        self.last_row = rows[-1]
        self.count += len(items)

    def publish(self, manifest: Manifest, described: Sequence[Column], *, replace: bool) -> None:
        """Put the generation in service.

        Args:
            manifest: of it.
            described: what its columns hold.
            replace: drop edits that were made on top of the one before.

        Raises:
            GalleryError: the generation in service was edited since it was filled, and `replace` is not given.
        """
        cluster, store = self._cluster, self._cluster.store
        write_generation(store, cluster.names, manifest, described, written=self.written)
        store.settle(f"{cluster.names.prefix}:{cluster.names.gallery}:settled")
        before = cluster.in_service()
        if before is not None:
            close(cluster, before, replace=replace)
        try:
            cluster.engine.put_in_service(cluster.names.alias, self.collection)
        except BaseException:
            if before is not None:
                reopen(cluster, before)
            raise


def new_row(row: int, card: Card, vector: Vectors) -> NewRow:
    """What Milvus keeps of an item.

    Raises:
        TooMuchMetadataError: its id, or what filters ask of its metadata, is longer than Milvus takes.
    """
    asked = document(card.product_id, metadata_of(card))
    size, id_size = len(json.dumps(asked, ensure_ascii=False).encode()), len(card.id.encode())
    if size > MAX_DOCUMENT_BYTES or id_size > MAX_ID_BYTES:
        raise TooMuchMetadataError(
            f"item {card.id[:80]!r} has an id of {id_size} bytes and metadata of {size} as filters see it; a cluster "
            f"takes {MAX_ID_BYTES} and {MAX_DOCUMENT_BYTES}"
        )
    return NewRow(row, card.id, asked, np.asarray(vector, np.float32))


def close(cluster: Cluster, generation: str, *, replace: bool) -> None:
    """Let a generation take no more edits.

    An edit looks whether its generation is closed after it has counted itself and written: so one that was answered is
    counted before the generation was closed, and is seen here.

    Raises:
        GalleryError: it was edited, and `replace` is not given; it stays open.
    """
    cluster.store.write("HSET", cluster.names.about(generation), CLOSED, 1)
    if replace:
        return
    try:
        check_unedited(cluster, generation)
    except GalleryError:
        reopen(cluster, generation)
        raise


def check_unedited(cluster: Cluster, generation: str) -> None:
    """Raise GalleryError where a generation was edited since it was filled."""
    edits = int(cluster.store.one("HGET", cluster.names.about(generation), EDITS) or 0)
    if edits:
        raise GalleryError(
            f"{edits} items of generation {generation} of {cluster.address} were put or deleted since it was filled, "
            "and a new generation would not have that: copy the gallery to a folder first, or say --replace to drop it"
        )


def reopen(cluster: Cluster, generation: str) -> None:
    """Let a generation take edits."""
    cluster.store.write("HDEL", cluster.names.about(generation), CLOSED)


def _next_generation(cluster: Cluster) -> str:
    found = [int(g) for name in cluster.engine.collections() if (g := cluster.names.generation_of(name)) is not None]
    return f"{1 + max(found, default=0):06d}"
