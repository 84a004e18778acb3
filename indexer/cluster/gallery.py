"""The reading side of a cluster's gallery, as the service and the command line use it: `reading.opened.OpenGallery`."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from threadmatch.indexer.cluster.generation import read_manifest, read_moment
from threadmatch.indexer.cluster.items import Items
from threadmatch.indexer.cluster.names import Names, content_number
from threadmatch.indexer.cluster.settings import Address, read_address
from threadmatch.indexer.cluster.snapshot import ClusterGeneration, ClusterSnapshot
from threadmatch.indexer.cluster.store import RecordStore
from threadmatch.indexer.cluster.vectors import VectorEngine
from threadmatch.indexer.errors import GalleryError
from threadmatch.indexer.reading.gallery import Item, StoredPhoto
from threadmatch.indexer.stamps import check_model
from threadmatch.indexer.store.manifest import ColumnKind, Manifest
from threadmatch.model.features import FeatureSpec
from threadmatch.model.images import Box


class Cluster:
    """Both engines, and what one gallery's things are called there. Thread-safe.

    Args:
        address: of the gallery.

    Raises:
        StoreUnavailableError: one does not answer.
        GalleryError: a secret that cannot be read, or a package that is not installed.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self.names = Names(address.settings.prefix, address.name)
        self.store = RecordStore(address.settings.store)
        try:
            self.engine = VectorEngine(address.settings.milvus)
        except BaseException:
            self.store.close()
            raise

    def close(self) -> None:
        """Close the connections."""
        self.engine.close()
        self.store.close()

    def in_service(self) -> str | None:
        """Name of the generation that the alias stands for; None where there is none yet."""
        collection = self.engine.in_service(self.names.alias)
        if collection is None:
            return None
        generation = self.names.generation_of(collection)
        if generation is None:
            raise GalleryError(
                f"alias {self.names.alias} stands for {collection}, which is no generation of {self.address}"
            )
        return generation

    def current(self) -> str:
        """`in_service`, GalleryError where there is none yet."""
        generation = self.in_service()
        if generation is None:
            raise GalleryError(
                f"{self.address} has no finished generation yet: fill it by `threadmatch gallery copy FOLDER "
                f"{self.address}` or `threadmatch ingest`"
            )
        return generation

    def manifest(self, generation: str) -> Manifest:
        """Of a generation; GalleryError where there is none."""
        return read_manifest(self.store, self.names, generation)

    def open(self, generation: str) -> ClusterGeneration:
        """A generation for reading; GalleryError where there is none."""
        return ClusterGeneration(self.manifest(generation), self.engine, Items(self.store, self.names, generation))


class ClusterGallery:
    """A cluster's gallery, open for reading. Thread-safe.

    Args:
        cluster: where it is; closed with it.
        features_fingerprint: of the model that will search it, None to take any.
        model_name: that model's name, for messages.
    """

    def __init__(
        self, cluster: Cluster, *, features_fingerprint: str | None = None, model_name: str | None = None
    ) -> None:
        self.cluster = cluster
        self._fingerprint, self._model_name = features_fingerprint, model_name
        self._lock = threading.Lock()
        self._of = self._take(cluster.current())
        self._current: ClusterSnapshot | None = None
        self._now()

    @classmethod
    def open(
        cls, place: str | os.PathLike[str], *, features_fingerprint: str | None = None, model_name: str | None = None
    ) -> ClusterGallery:
        """Open the generation in service.

        Raises:
            GalleryError: no such address, none finished, or an engine refuses.
            StoreUnavailableError: an engine does not answer.
            GalleryModelMismatchError: made by another model than the fingerprint says.
        """
        cluster = Cluster(read_address(place))
        try:
            return cls(cluster, features_fingerprint=features_fingerprint, model_name=model_name)
        except BaseException:
            cluster.close()
            raise

    def close(self) -> None:
        """Close the connections."""
        self.cluster.close()

    @property
    def folder(self) -> Path:
        """Its address, as paths have it."""
        return Path(str(self.cluster.address))

    @property
    def opened(self) -> ClusterGeneration:
        """The generation in service here."""
        return self._of

    @property
    def current(self) -> ClusterSnapshot:
        """The generation of the last refresh with all edits made until now, by any process.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        return self._now()

    @contextmanager
    def snapshot(self) -> Iterator[ClusterSnapshot]:
        """What is in the gallery now, for all steps of one search."""
        yield self.current

    def refresh(self) -> bool:
        """Take the generation that the alias stands for. True when it is another one than before.

        Raises:
            GalleryError, GalleryModelMismatchError: the new one cannot be used; the old one stays in service.
        """
        generation = self.cluster.current()
        if generation == self._of.manifest.generation:
            return False
        taken = self._take(generation)
        with self._lock:
            self._of = taken
        self._now()
        return True

    def _take(self, generation: str) -> ClusterGeneration:
        of = self.cluster.open(generation)
        if self._fingerprint is not None:
            stamp = of.manifest.model
            check_model(stamp.name, stamp.features_fingerprint, self._model_name or "the one given", self._fingerprint)
        return of

    def _now(self) -> ClusterSnapshot:
        of = self._of
        moment = read_moment(self.cluster.store, self.cluster.names, of.manifest.generation)
        with self._lock:
            seen = self._current
            if seen is not None and seen.moment == moment and seen.generation == of.manifest.generation:
                return seen
            self._current = ClusterSnapshot(of, moment)
            return self._current

    def _seen(self) -> ClusterSnapshot:
        return self._current or self._now()

    @property
    def generation(self) -> str:
        """Name of the generation in service."""
        return self._of.manifest.generation

    @property
    def item_count(self) -> int:
        """Items in it, as of the last look."""
        return self._seen().item_count

    @property
    def manifest(self) -> Manifest:
        """What it says about itself."""
        return self._of.manifest

    @property
    def features(self) -> tuple[FeatureSpec, ...]:
        """What is kept of each photo."""
        return self.manifest.features

    def columns(self) -> dict[str, ColumnKind]:
        """The metadata columns and their kinds, as of the last look."""
        return self._seen().columns()

    def item(self, item_id: str) -> Item:
        """One item by its id; ItemNotFoundError when there is none."""
        return self.current.item(item_id)

    def photo(self, item_id: str) -> bytes:
        """An item's display photo, JPEG; ItemNotFoundError, DamagedItemError."""
        return self.current.photo(item_id)

    def find_photo(self, sha256: str, asked_box: str) -> StoredPhoto | None:
        """What the photo of these bytes, with this box, became; None where it has to be encoded."""
        number = content_number(sha256, asked_box)
        if self._of.contents.lacking([number], self.features):
            return None
        about = self._of.contents.about(number)
        return None if about is None else StoredPhoto(number, *about.size, Box(*about.box))

    def describe(self) -> dict[str, Any]:
        """The manifest as JSON data."""
        return self.manifest.model_dump(mode="json")

    def describe_changes(self) -> dict[str, Any]:
        """Nothing lies on top of a generation: edits are in its collection at once."""
        return {"pending": 0, "put": 0, "deleted": 0, "oldest": None}
