"""Opens a gallery wherever it is kept: a folder, or `cluster://NAME`. Nothing of a cluster is imported before."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from threadmatch.indexer.cluster.calls import Calls
from threadmatch.indexer.cluster.settings import is_cluster
from threadmatch.indexer.edits.live_writes import Edit, Edited, Editor
from threadmatch.indexer.errors import EditError
from threadmatch.indexer.reading import gallery as folders
from threadmatch.indexer.reading.opened import OpenGallery
from threadmatch.indexer.store.manifest import Manifest


def open_gallery(
    place: str | os.PathLike[str], *, features_fingerprint: str | None = None, model_name: str | None = None
) -> OpenGallery:
    """Open the generation in service; see `reading.gallery.Gallery.open`.

    Args:
        place: a folder, or `cluster://NAME`, also as a path.
        features_fingerprint: of the model that will search it, None to take any.
        model_name: that model's name, for messages.
    """
    if is_cluster(place):
        from threadmatch.indexer.cluster.gallery import ClusterGallery

        return ClusterGallery.open(place, features_fingerprint=features_fingerprint, model_name=model_name)
    return folders.Gallery.open(Path(place), features_fingerprint=features_fingerprint, model_name=model_name)


def watch_calls(gallery: OpenGallery, calls: Calls) -> None:
    """Let somebody hear of the calls that a gallery makes to the engines of a cluster; a folder makes none."""
    if is_cluster(gallery.folder):
        from threadmatch.indexer.cluster.gallery import ClusterGallery

        assert isinstance(gallery, ClusterGallery), "no other has such a place"
        gallery.cluster.store.calls = gallery.cluster.engine.calls = calls


def current_manifest(place: str | os.PathLike[str]) -> Manifest:
    """What the generation in service says about itself; see `reading.gallery.current_manifest`."""
    if not is_cluster(place):
        return folders.current_manifest(Path(place))
    opened = open_gallery(place)
    try:
        return opened.manifest
    finally:
        opened.close()


class ItemEditor(Protocol):
    """Writes edits of one gallery; `edits.live_writes.Editor` describes both calls."""

    def apply(self, edits: Sequence[Edit]) -> list[Edited | EditError]:
        """Make edits durable, in their order; each is done wholly or not at all."""
        ...

    def close(self) -> None:
        """Let go of what is open."""
        ...


def editor_of(gallery: OpenGallery, *, max_pending: int) -> ItemEditor:
    """What writes edits of a gallery that was opened with the model that encodes them.

    Args:
        gallery: open as long as it is edited.
        max_pending: edits that may wait for being folded, where they are.
    """
    if is_cluster(gallery.folder):
        from threadmatch.indexer.cluster.editing import ClusterEditor
        from threadmatch.indexer.cluster.gallery import ClusterGallery

        assert isinstance(gallery, ClusterGallery), "no other has such a place"
        return ClusterEditor(gallery)
    fingerprint = gallery.manifest.model.features_fingerprint
    return Editor(gallery.folder, features_fingerprint=fingerprint, max_pending=max_pending)
