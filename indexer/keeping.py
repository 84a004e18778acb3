"""Upkeep of a gallery wherever it is kept: a folder (`indexer.upkeep`), or `cluster://NAME` (`indexer.cluster.upkeep`).

Nothing of a cluster is imported before one is named.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from threadmatch.indexer import upkeep as of_folder
from threadmatch.indexer.cluster.settings import is_cluster, read_address
from threadmatch.indexer.edits import folding
from threadmatch.indexer.errors import GalleryError
from threadmatch.indexer.store.manifest import Manifest
from threadmatch.model.progress import Progress, unheard

if TYPE_CHECKING:
    from threadmatch.indexer.cluster.gallery import Cluster

AnyPlace: TypeAlias = str | os.PathLike[str]


class Report(Protocol):
    """What verifying found; nothing where `problems` is empty."""

    generation: str
    items: int
    problems: list[str]

    @property
    def changes(self) -> int:
        """Edits on top of the generation."""
        ...

    def as_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        ...


def list_generations(place: AnyPlace) -> list[dict[str, Any]]:
    """Each finished generation, oldest first."""
    if not is_cluster(place):
        return of_folder.list_generations(Path(place))
    from threadmatch.indexer.cluster import upkeep as of_cluster

    with _cluster(place) as cluster:
        return of_cluster.list_generations(cluster)


def rollback(place: AnyPlace, to: str | None = None, *, edits: bool = True) -> Manifest:
    """Put an earlier generation in service.

    A folder's edits are on top of whatever generation is in service, a cluster's belong to theirs: so a cluster rolls
    back with those made on top of the earlier one, and `edits` must be True.
    """
    if not is_cluster(place):
        return of_folder.rollback(Path(place), to, edits=edits)
    from threadmatch.indexer.cluster import upkeep as of_cluster

    if not edits:
        raise GalleryError(
            "a cluster's generation keeps the edits that were made on top of it; --no-edits is for folders"
        )
    with _cluster(place) as cluster:
        return of_cluster.rollback(cluster, to)


def verify(place: AnyPlace, *, tell: Callable[[int], None] = lambda _: None) -> Report:
    """Read every item of the generation in service."""
    if not is_cluster(place):
        return of_folder.verify(Path(place), tell=tell)
    from threadmatch.indexer.cluster import upkeep as of_cluster

    with _cluster(place) as cluster:
        return of_cluster.verify(cluster, tell=tell)


def compact(place: AnyPlace, *, keep: int = of_folder.KEPT_GENERATIONS) -> dict[str, Any]:
    """Remove what no kept generation needs."""
    if not is_cluster(place):
        return of_folder.compact(Path(place), keep=keep)
    from threadmatch.indexer.cluster import upkeep as of_cluster

    with _cluster(place) as cluster:
        return of_cluster.compact(cluster, keep=keep)


def fold(place: AnyPlace) -> dict[str, Any]:
    """Fold a folder's edits into its index; GalleryError for a cluster, which has none to fold."""
    if is_cluster(place):
        raise GalleryError(
            "a cluster has nothing to fold: its edits are in the collection as soon as they are answered"
        )
    return asdict(folding.fold(Path(place)))


def delete_items(place: AnyPlace, item_ids: Sequence[str]) -> Manifest:
    """Delete items: a folder's by a new generation, a cluster's by edits of the one in service."""
    if not is_cluster(place):
        return folding.delete_items(Path(place), item_ids)
    from threadmatch.indexer.cluster import upkeep as of_cluster

    with _cluster(place) as cluster:
        return of_cluster.delete_items(cluster, item_ids)


def copy(source: AnyPlace, target: AnyPlace, *, replace: bool = False, tell: Progress = unheard) -> dict[str, Any]:
    """Copy a gallery from a folder to a cluster, or back; what `cluster.comparing.Copied` says, as JSON data.

    Raises:
        GalleryError: both are folders, or both clusters; or as for `copy_to_cluster` and `copy_to_folder`.
    """
    if is_cluster(source) == is_cluster(target):
        kinds = (
            "both are clusters: copy to a folder, then from there" if is_cluster(source) else "both are folders: cp -r"
        )
        raise GalleryError(f"a gallery is copied from a folder to cluster://NAME, or back; {kinds}")
    from threadmatch.indexer.cluster.to_cluster import copy_to_cluster
    from threadmatch.indexer.cluster.to_folder import copy_to_folder

    with _cluster(target if is_cluster(target) else source) as cluster:
        if is_cluster(target):
            return asdict(copy_to_cluster(Path(source), cluster, replace=replace, tell=tell))
        return asdict(copy_to_folder(cluster, Path(target), tell=tell))


@contextmanager
def _cluster(place: AnyPlace) -> Iterator[Cluster]:
    from threadmatch.indexer.cluster.gallery import Cluster

    cluster = Cluster(read_address(place))
    try:
        yield cluster
    finally:
        cluster.close()
