"""The reading side of a gallery, as the service and the command line use it.

A Snapshot is one generation: it never changes, and all its answers agree with each other. A Gallery holds the snapshot
of the generation in service and takes the next one when CURRENT has moved; searches under way finish on theirs.

Letters  E embedding size, N candidates, R regions, C channels
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer import generations
from indexer.errors import GalleryError
from indexer.index import VectorIndex
from indexer.manifest import ColumnKind, Manifest
from indexer.publish import check_model
from indexer.reading import Readers
from indexer.snapshot import Candidate, Item, Snapshot

__all__ = ["Candidate", "Gallery", "Item", "Snapshot"]


class Gallery:
    """A gallery, open for reading. Thread-safe.

    Args:
        folder: of the gallery.
        features_fingerprint: of the model that will search it, None to take any.
        model_name: that model's name, for messages.
    """

    def __init__(self, folder: Path, *, features_fingerprint: str | None = None, model_name: str | None = None) -> None:
        self.folder = folder
        self._fingerprint, self._model_name = features_fingerprint, model_name
        self._refreshing = threading.Lock()
        self._readers = Readers(folder)
        self._current = self._load(self._current_name())

    @classmethod
    def open(
        cls, folder: Path | str, *, features_fingerprint: str | None = None, model_name: str | None = None
    ) -> Gallery:
        """Open the generation in service.

        Raises:
            GalleryError: no gallery, none finished, damaged, or of an unknown format.
            GalleryModelMismatchError: made by another model than the fingerprint says.
        """
        return cls(Path(folder), features_fingerprint=features_fingerprint, model_name=model_name)

    def close(self) -> None:
        """Close the connections that no search is using."""
        self._readers.close()

    @property
    def current(self) -> Snapshot:
        """The generation in service, as of the last refresh."""
        return self._current

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """The generation in service, for all steps of one search."""
        yield self._current

    def refresh(self) -> bool:
        """Take the generation that CURRENT names. True when it is another one than before. Cheap when it is not.

        Raises:
            GalleryError, GalleryModelMismatchError: the new one cannot be used; the old one stays in service.
        """
        if not self._refreshing.acquire(blocking=False):
            return False  # another thread is at it
        try:
            name = self._current_name()
            if name == self._current.generation:
                return False
            self._current = self._load(name)
            return True
        finally:
            self._refreshing.release()

    # The answers of the current generation. For several that must agree, take a snapshot.

    @property
    def generation(self) -> str:
        """Name of the generation in service."""
        return self._current.generation

    @property
    def item_count(self) -> int:
        """Items in it."""
        return self._current.item_count

    @property
    def manifest(self) -> Manifest:
        """What it says about itself."""
        return self._current.manifest

    def shortlist(self, embedding: NDArray[np.float32], k: int, *, filter: str | None = None) -> list[Candidate]:
        """See Snapshot.shortlist."""
        return self._current.shortlist(embedding, k, filter=filter)

    def regions(self, candidates: Sequence[Candidate]) -> NDArray[np.float16]:
        """See Snapshot.regions."""
        return self._current.regions(candidates)

    def items(self, candidates: Sequence[Candidate]) -> list[Item]:
        """See Snapshot.items."""
        return self._current.items(candidates)

    def item(self, item_id: str) -> Item:
        """See Snapshot.item."""
        return self._current.item(item_id)

    def photo(self, item_id: str) -> bytes:
        """See Snapshot.photo."""
        return self._current.photo(item_id)

    def columns(self) -> dict[str, ColumnKind]:
        """See Snapshot.columns."""
        return self._current.columns()

    def _current_name(self) -> str:
        name = generations.current_name(self.folder)
        if name is not None:
            return name
        with self._readers.connection():  # says that there is no gallery at all, where that is so
            pass
        raise GalleryError(
            f"gallery {self.folder} has no finished generation yet: run `threadmatch ingest` until it ends"
        )

    def _load(self, name: str) -> Snapshot:
        folder = generations.generation_folder(self.folder, name)
        if not folder.is_dir():
            raise GalleryError(
                f"CURRENT of {self.folder} names generation {name}, which is not there; roll back to one that is"
            )
        manifest = generations.read_manifest(self.folder, name)
        if self._fingerprint is not None:
            check_model(
                manifest.model.name,
                manifest.model.features_fingerprint,
                self._model_name or "the one given",
                self._fingerprint,
            )
        index = VectorIndex.read(folder / generations.INDEX_FILE, manifest.index)
        return Snapshot(manifest, index, self._readers)

    def describe(self) -> dict[str, Any]:
        """The manifest as JSON data, for `threadmatch gallery info`."""
        return self.manifest.model_dump(mode="json")
