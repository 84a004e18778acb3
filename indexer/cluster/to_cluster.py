"""A gallery from its folder to a cluster: every item, feature and photo, verified before it is in service.

Letters  n items of a batch, E embedding size
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from threadmatch.indexer.cluster.comparing import (
    Copied,
    Digest,
    batches,
    compare_answers,
    content_of_item,
    some_vectors,
)
from threadmatch.indexer.cluster.filling import BATCH, Filling, NewItem, check_unedited, writing
from threadmatch.indexer.cluster.gallery import Cluster
from threadmatch.indexer.cluster.generation import FIRST_ROW, Moment
from threadmatch.indexer.cluster.names import content_number, short_number
from threadmatch.indexer.cluster.recall import MeasuredRecall
from threadmatch.indexer.cluster.snapshot import ClusterGeneration, ClusterSnapshot
from threadmatch.indexer.errors import DamagedItemError, GalleryError
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.indexer.reading.snapshot import Snapshot, StoredItem
from threadmatch.indexer.stamps import IndexStamp
from threadmatch.indexer.store import looks, records
from threadmatch.indexer.store.cards import Card
from threadmatch.indexer.store.looks import Look, look_of
from threadmatch.indexer.store.manifest import Manifest
from threadmatch.indexer.store.versions import now
from threadmatch.model.progress import Progress, unheard

FLUSH_ITEMS: Final = 10_000
"""From here on graphs are built at once; fewer vectors are compared one by one until Milvus thinks of it."""


def copy_to_cluster(folder: Path, cluster: Cluster, *, replace: bool = False, tell: Progress = unheard) -> Copied:
    """Make the items of a folder's gallery, edits on top included, the next generation of a cluster's.

    Args:
        folder: of the gallery.
        cluster: where to.
        replace: drop edits that were made there.
        tell: hears how far it is: "copying", "verifying", "publishing".

    Raises:
        GalleryError: one of the two cannot be read or written, or what was read back differs.
        DamagedItemError: a record of the folder is missing or fails its checksum.
        TooMuchMetadataError: an item has more than Milvus takes.
        GalleryBusyError: somebody else fills the cluster's gallery.
    """
    gallery = Gallery.open(folder)
    try:
        with writing(cluster) as renew, gallery.snapshot() as snapshot:

            def heard(stage: str, done: int, total: int, note: str = "") -> None:
                renew()
                tell(stage, done, total, note)

            before = cluster.in_service()
            if before is not None and not replace:  # said again at the end; here it saves the copying
                check_unedited(cluster, before)
            return _Copy(snapshot, cluster, heard).run(replace=replace)
    finally:
        gallery.close()


class _Copy:
    def __init__(self, snapshot: Snapshot, cluster: Cluster, tell: Progress) -> None:
        self._snapshot, self._cluster, self._tell = snapshot, cluster, tell
        self._specs = snapshot.manifest.features
        self._queries = some_vectors(snapshot)
        self._recall = MeasuredRecall(self._queries)
        self._filling = Filling(cluster, snapshot.manifest.model.features_fingerprint, self._specs)

    def run(self, *, replace: bool) -> Copied:
        digest, filling = Digest(self._specs), self._filling
        for batch in batches(self._snapshot.stored_items(), BATCH):
            self._tell("copying", filling.count, self._snapshot.item_count)
            self._batch(batch, digest)
        if filling.count >= FLUSH_ITEMS:
            self._cluster.engine.flush(filling.collection)
        manifest = self._manifest()
        of = ClusterGeneration(manifest, self._cluster.engine, filling.items)
        copy = ClusterSnapshot(of, Moment(filling.count, 0, filling.written, ()))
        self._verify(copy, str(digest))
        agreement = compare_answers(self._snapshot, copy, self._queries)
        self._tell("publishing", filling.count, filling.count)
        filling.publish(manifest, self._snapshot.described_columns(), replace=replace)
        return Copied(filling.count, filling.sent, str(digest), len(self._queries), agreement, manifest.generation)

    def _batch(self, batch: list[StoredItem], digest: Digest) -> None:
        numbers = [content_number(item.sha256, item.asked_box) for item in batch]
        rows = self._filling.name([(item.id, number) for item, number in zip(batch, numbers, strict=True)])
        parts, lacking = parts_of(self._snapshot, batch), self._filling.lacking(numbers)
        indexed = self._snapshot.manifest.indexed
        contents, vectors = [], np.empty((len(batch), *indexed.shape), np.float32)
        for place, (item, number) in enumerate(zip(batch, numbers, strict=True)):
            features, photo = parts.of(item)
            digest.add(item, features, photo)
            vectors[place] = indexed.unpack([features[indexed.key]])[0]
            if number in lacking:
                lacking.discard(number)
                contents.append(content_of_item(item, features, photo, self._look(parts.looks.get(item.content))))
        self._filling.send(contents)
        self._filling.add(
            rows,
            [
                NewItem(_card(item, number), item.source, vector)
                for item, number, vector in zip(batch, numbers, vectors, strict=True)
            ],
        )
        self._recall.add(self._filling.last_row, vectors)

    def _look(self, look: Look | None) -> bytes | None:
        """With the numbers that contents have in a cluster."""
        if look is None or not look.data:
            return None if look is None else b""
        verdicts = look.verdicts
        marks = ", ".join("?" * len(verdicts))
        with self._snapshot.readers.connection() as connection:
            query = f"SELECT content, sha256, asked_box FROM contents WHERE content IN ({marks})"  # noqa: S608
            known = {row[0]: short_number(content_number(*row[1:])) for row in connection.execute(query, [*verdicts])}
        return look_of(look.cells, {known[other]: same for other, same in verdicts.items() if other in known}).data

    def _manifest(self) -> Manifest:
        filling, settings = self._filling, self._cluster.address.settings.milvus
        recall, queries = self._recall.measure(self._cluster.engine, filling.collection, after=filling.written)
        index = IndexStamp(
            type="milvus",
            parameters={
                FIRST_ROW: filling.first_row,
                "M": settings.graph_links,
                "efConstruction": settings.build_width,
                "efSearch": settings.search_width,
                "shards": settings.shards,
            },
            seq=filling.last_row,
            items=filling.count,
            recall_at_200=recall,
            measured_queries=queries,
            why="a collection of Milvus with an HNSW graph a segment",
            crc32c=0,
            size_bytes=0,
        )
        changed = {"generation": filling.generation, "created": now(), "kind": "copy", "run": 0, "edits": 0}
        counted = {"seq": filling.last_row, "items": filling.count, "index": index}
        return self._snapshot.manifest.model_copy(update=changed | counted | {"columns": self._snapshot.columns()})

    def _verify(self, copy: ClusterSnapshot, expected: str) -> None:
        found = self._cluster.engine.count(self._filling.collection, after=self._filling.written)
        if found != self._filling.count:
            raise GalleryError(f"Milvus has {found} rows of the {self._filling.count} that were copied; copy again")
        digest = Digest(self._specs)
        for batch in batches(copy.read_back(), BATCH):
            self._tell("verifying", digest.count, self._filling.count)
            for item, features, photo in batch:
                digest.add(item, features, photo)
        if str(digest) != expected:
            raise GalleryError(f"what was read back of {digest.count} items is not what was copied; copy again")


@dataclass(frozen=True, slots=True)
class Parts:
    """Of some items of a folder: features by key, photos and looks, each by content."""

    features: dict[str, dict[int, bytes]]
    photos: dict[int, bytes]
    looks: dict[int, Look]

    def of(self, item: StoredItem) -> tuple[dict[str, bytes], bytes]:
        """All features of an item by key, and its photo; DamagedItemError."""
        for key, found in self.features.items():
            if item.content not in found:
                raise DamagedItemError(item.id, key)
        if item.content not in self.photos:
            raise DamagedItemError(item.id, "photo")
        return {key: found[item.content] for key, found in self.features.items()}, self.photos[item.content]


def parts_of(snapshot: Snapshot, batch: Sequence[StoredItem]) -> Parts:
    """What belongs to items of a folder's gallery."""
    contents = {item.content for item in batch}
    with snapshot.readers.connection() as connection:
        return Parts(
            {spec.key: records.read(connection, spec, contents) for spec in snapshot.manifest.features},
            records.read_photos(connection, contents),
            looks.read(connection, contents),
        )


def _card(item: StoredItem, number: int) -> Card:
    return Card(item.id, item.product_id, item.metadata, number, item.size, item.box)
