"""A cluster's gallery as a folder's: every item, feature and photo, verified."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from threadmatch.indexer.cluster.comparing import (
    Copied,
    Digest,
    batches,
    compare_answers,
    content_of_item,
    some_vectors,
)
from threadmatch.indexer.cluster.filling import BATCH
from threadmatch.indexer.cluster.gallery import Cluster, ClusterGallery
from threadmatch.indexer.cluster.snapshot import ClusterSnapshot
from threadmatch.indexer.cluster.to_cluster import parts_of
from threadmatch.indexer.errors import GalleryError
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.indexer.store import generations
from threadmatch.indexer.store.database import DATABASE
from threadmatch.indexer.store.manifest import Manifest
from threadmatch.indexer.store.publish import Occasion, publish, tie
from threadmatch.indexer.store.versions import Store, Version
from threadmatch.model.features import FeatureSpec
from threadmatch.model.progress import Progress, unheard


def copy_to_folder(cluster: Cluster, folder: Path, *, tell: Progress = unheard) -> Copied:
    """Make a cluster's gallery a folder's. What is edited there meanwhile may be in it, or not.

    Args:
        cluster: where from.
        folder: a new one.
        tell: hears how far it is: "copying", then what publishing tells.

    Raises:
        GalleryError: the folder has a gallery, one of the two cannot be read or written, or the copy differs.
        DamagedItemError: a record is missing or fails its checksum.
    """
    if (folder / DATABASE).exists():
        raise GalleryError(f"{folder} has a gallery already, or part of one; give a new folder")
    snapshot = ClusterGallery(cluster).current
    folder.mkdir(parents=True, exist_ok=True)
    with generations.lock(folder):
        copied = _copied(cluster, snapshot, folder, tell)
    return _compared(folder, snapshot, copied)


def _copied(cluster: Cluster, snapshot: ClusterSnapshot, folder: Path, tell: Progress) -> Copied:
    manifest, digest = snapshot.manifest, Digest(snapshot.manifest.features)
    store = Store(folder)
    try:
        tie(store, _Made(manifest))
        run = store.start_run(kind="ingest", plan=f"copy of {cluster.address} {manifest.generation}", base=None)
        for batch in batches(snapshot.read_back(), BATCH):
            tell("copying", digest.count, snapshot.item_count)
            for item, features, photo in batch:
                digest.add(item, features, photo)
                number = store.content_of(item.sha256, item.asked_box, first=0)
                number = number or store.add_content(content_of_item(item, features, photo, None))
                store.put_version(run, Version(item.id, item.product_id, item.metadata, item.source, number))
            store.commit()
        occasion = Occasion(kind="ingest", rejected=manifest.rejected, catalogue=manifest.catalogue)
        made = publish(folder, store, run, occasion, tell=tell)
    finally:
        store.close()
    return Copied(digest.count, digest.count, str(digest), 0, 0.0, made.generation)


def _compared(folder: Path, snapshot: ClusterSnapshot, copied: Copied) -> Copied:
    opened = Gallery.open(folder)
    try:
        with opened.snapshot() as copy:
            digest = Digest(copy.manifest.features)
            for batch in batches(copy.stored_items(), BATCH):
                parts = parts_of(copy, batch)
                for item in batch:
                    digest.add(item, *parts.of(item))
            if str(digest) != copied.checksum:
                raise GalleryError(f"what {folder} holds is not what was read; copy again into a new folder")
            queries = some_vectors(copy)
            return replace(copied, searches=len(queries), agreement=compare_answers(copy, snapshot, queries))
    finally:
        opened.close()


@dataclass(frozen=True, slots=True)
class _Made:
    """The model of a manifest."""

    manifest: Manifest

    @property
    def name(self) -> str:
        return self.manifest.model.name

    @property
    def fingerprint(self) -> str:
        return self.manifest.model.fingerprint

    @property
    def features_fingerprint(self) -> str:
        return self.manifest.model.features_fingerprint

    @property
    def features(self) -> tuple[FeatureSpec, ...]:
        return self.manifest.features
