"""The reading side of a gallery, as the service and the command line use it.

A Snapshot is one generation with the edits of one moment: it never changes, and all its answers agree with each other.
A Gallery gives the snapshot of now. It takes the next generation when CURRENT has moved and it is told to look; edits,
whatever process made them, it takes up each time it is asked. Searches under way finish on theirs.

Letters  E embedding size, N candidates
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from threadmatch.indexer.errors import GalleryError
from threadmatch.indexer.index import VectorIndex
from threadmatch.indexer.reading import warming
from threadmatch.indexer.reading.connections import Readers, identity
from threadmatch.indexer.reading.generation import LoadedGeneration
from threadmatch.indexer.reading.items import Item
from threadmatch.indexer.reading.overlay import ChangeLog, ChangesGoneError, describe_changes, latest_edit
from threadmatch.indexer.reading.shortlist import Candidate
from threadmatch.indexer.reading.side_files import SideFiles
from threadmatch.indexer.reading.snapshot import Snapshot
from threadmatch.indexer.stamps import check_model
from threadmatch.indexer.store import generations, projected_file
from threadmatch.indexer.store.contents import find_content
from threadmatch.indexer.store.manifest import ColumnKind, Manifest
from threadmatch.model.features import FeatureSpec
from threadmatch.model.images import Box

__all__ = ["Candidate", "Gallery", "Item", "Snapshot", "StoredPhoto", "current_manifest"]


@dataclass(frozen=True, slots=True)
class StoredPhoto:
    """A photo whose features are in the gallery: their number, its upright size, the box that was encoded."""

    content: int
    width: int
    height: int
    box: Box


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
        self._reading = threading.Lock()  # of edits; guards the log and the snapshot
        self._take(Readers(folder))

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
        self._loaded.readers.close()

    @property
    def current(self) -> Snapshot:
        """The generation of the last refresh with all edits made until now, by any process.

        Raises:
            GalleryError: the database cannot be read.
        """
        try:
            return self._with_edits()
        except ChangesGoneError:  # folded and removed before they were read here: the newer generation holds them
            self._refresh(wait=True)
        try:
            return self._with_edits()
        except ChangesGoneError as error:
            raise GalleryError(f"{self.folder} lacks edits that no generation holds; restore a copy") from error

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """What is in the gallery now, for all steps of one search."""
        yield self.current

    def refresh(self) -> bool:
        """Take the generation that CURRENT names. True when it is another one than before. Cheap when it is not.

        Raises:
            GalleryError, GalleryModelMismatchError: the new one cannot be used; the old one stays in service.
        """
        return self._refresh(wait=False)

    def _refresh(self, *, wait: bool) -> bool:
        if not self._refreshing.acquire(blocking=wait):
            return False  # another thread is at it
        try:
            readers = self._loaded.readers
            readers.thaw()
            if identity(self.folder) != readers.identity:  # another gallery was put in this one's place
                readers = Readers(self.folder)
            elif _current_name(readers) == self.generation:
                return False
            self._take(readers)
            return True
        finally:
            self._refreshing.release()

    def _take(self, readers: Readers) -> None:
        """Put the generation that CURRENT names in service, its edits read before anyone sees it."""
        while True:
            name = _current_name(readers)
            try:
                loaded = self._load(name, readers)
                log = ChangeLog(loaded.manifest)
                with readers.connection() as connection:
                    snapshot = Snapshot(loaded, log.read(connection))
                break
            except (GalleryError, ChangesGoneError) as error:
                if _current_name(readers) != name:
                    continue  # it was taken away while it was read: there is a newer one
                if isinstance(error, ChangesGoneError):
                    raise GalleryError(f"generation {name} of {self.folder} lacks edits; restore a copy") from error
                raise
        with self._reading:
            self._loaded, self._log, self._current = loaded, log, snapshot

    def _with_edits(self) -> Snapshot:
        seen = self._current
        with seen.readers.connection() as connection:
            if latest_edit(connection) == seen.changes.upto:
                return seen
        with self._reading, self._loaded.readers.connection() as connection:
            changes = self._log.read(connection)
            if changes is not self._current.changes:
                self._current = Snapshot(self._loaded, changes)
            return self._current

    # The answers of now. For several that must agree, take a snapshot.

    @property
    def generation(self) -> str:
        """Name of the generation in service."""
        return self._current.generation

    @property
    def item_count(self) -> int:
        """Items in it, as of the last look."""
        return self._current.item_count

    @property
    def manifest(self) -> Manifest:
        """What it says about itself."""
        return self._current.manifest

    @property
    def features(self) -> tuple[FeatureSpec, ...]:
        """What is kept of each photo."""
        return self.manifest.features

    def shortlist(self, embedding: NDArray[np.float32], k: int, *, filter: str | None = None) -> list[Candidate]:
        """See Snapshot.shortlist."""
        return self.current.shortlist(embedding, k, filter=filter)

    def items(self, candidates: Sequence[Candidate]) -> list[Item]:
        """See Snapshot.items."""
        return self.current.items(candidates)

    def item(self, item_id: str) -> Item:
        """See Snapshot.item."""
        return self.current.item(item_id)

    def photo(self, item_id: str) -> bytes:
        """See Snapshot.photo."""
        return self.current.photo(item_id)

    def columns(self) -> dict[str, ColumnKind]:
        """See Snapshot.columns."""
        return self._current.columns()

    def warm(self, room_bytes: int, stopped: Callable[[], bool]) -> tuple[int, int]:
        """Bring what searches of the generation in service read into memory; see `indexer.reading.warming.warm`.

        Args:
            room_bytes, stopped: as there.

        Returns:
            Bytes that are in memory now, and bytes of all files together.

        Raises:
            OSError: a file cannot be read.
        """
        loaded = self._loaded
        folder = generations.generation_folder(self.folder, loaded.manifest.generation)
        whole = warming.files_bytes(folder, loaded.index)
        return warming.warm(folder, loaded.index, room_bytes, stopped), whole

    def _load(self, name: str, readers: Readers) -> LoadedGeneration:
        manifest = _manifest(self.folder, name)
        if self._fingerprint is not None:
            check_model(
                manifest.model.name,
                manifest.model.features_fingerprint,
                self._model_name or "the one given",
                self._fingerprint,
            )
        folder = generations.generation_folder(self.folder, name)
        projection = projected_file.read(folder, manifest.index)
        index = VectorIndex.read(folder / generations.INDEX_FILE, manifest.index, projection=projection)
        return LoadedGeneration(manifest, index, readers, SideFiles(folder, manifest))

    def find_photo(self, sha256: str, asked_box: str) -> StoredPhoto | None:
        """What the photo of these bytes, with this box, became; None where it has to be encoded."""
        with self._loaded.readers.connection() as connection:
            number = find_content(connection, sha256, asked_box, specs=self.features)
            if number is None:
                return None
            query = "SELECT content, width, height, x0, y0, x1, y1 FROM contents WHERE content = ?"
            row = connection.execute(query, (number,)).fetchone()
        return StoredPhoto(row[0], row[1], row[2], Box(*row[3:])) if row else None

    def ingesting(self) -> bool:
        """Whether an ingestion is under way, or was broken off: edits are not folded until it is published."""
        with self._loaded.readers.connection() as connection:
            query = "SELECT 1 FROM runs WHERE state = 'open' AND kind = 'ingest'"
            return connection.execute(query).fetchone() is not None

    def describe_changes(self) -> dict[str, Any]:
        """The edits on top of the generation; see `indexer.reading.overlay.describe_changes`."""
        with self._loaded.readers.connection() as connection:
            return describe_changes(connection, self.manifest)

    def describe(self) -> dict[str, Any]:
        """The manifest as JSON data, for `threadmatch gallery info`."""
        return self.manifest.model_dump(mode="json")


def current_manifest(folder: Path) -> Manifest:
    """What the generation in service says about itself, such as its model's name. Reads no index.

    Raises:
        GalleryError: no gallery, none finished, damaged, or of an unknown format.
    """
    readers = Readers(folder)
    try:
        return _manifest(folder, _current_name(readers))
    finally:
        readers.close()


def _current_name(readers: Readers) -> str:
    name = generations.current_name(readers.folder)
    if name is not None:
        return name
    with readers.connection():  # says that there is no gallery at all, where that is so
        pass
    raise GalleryError(
        f"gallery {readers.folder} has no finished generation yet: run `threadmatch ingest` until it ends"
    )


def _manifest(folder: Path, name: str) -> Manifest:
    if not generations.generation_folder(folder, name).is_dir():
        raise GalleryError(f"CURRENT of {folder} names generation {name}, which is not there; roll back to one that is")
    return generations.read_manifest(folder, name)
