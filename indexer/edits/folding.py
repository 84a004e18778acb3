"""Changes that publish a generation at once: deleting items by hand, folding edits into the index.

Edits made through the service (`indexer.edits.live_writes`) publish nothing: they are searched beside the index until
a fold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from threadmatch.indexer.errors import GalleryError, ItemNotFoundError
from threadmatch.indexer.reading.overlay import describe_changes
from threadmatch.indexer.store import generations
from threadmatch.indexer.store.manifest import Kind, Manifest
from threadmatch.indexer.store.publish import Occasion, publish, recover
from threadmatch.indexer.store.versions import Run, Store


def delete_items(folder: Path, item_ids: Sequence[str]) -> Manifest:
    """Publish a generation without these items.

    Raises:
        ItemNotFoundError: one of them is not in the gallery; nothing is deleted.
        GalleryBusyError, GalleryError: the gallery cannot be changed now.
    """
    with editing(folder) as (store, run):
        for item_id in item_ids:
            if store.live_version(item_id) is None:
                raise ItemNotFoundError(item_id)
        store.delete(run, item_ids)
        return publish(folder, store, run, Occasion(kind="edit"))


@dataclass(frozen=True, slots=True)
class Folded:
    """What a fold did: how many edits the generation in service took up, and how many still wait."""

    generation: str
    folded: int
    pending: int
    unfinished: bool  # an ingestion was broken off: it has to be ended, or dropped, before edits are folded


def fold(folder: Path, *, new_index: bool = False, waits: bool = False) -> Folded:
    """Publish a generation that holds the edits made so far. Searches and edits go on meanwhile.

    Where few rows changed beside a large index, the index stays and they are searched beside it as before, but read
    from the generation; else it is built anew.

    Args:
        folder: of the gallery.
        new_index: build it in any case.
        waits: where another fold is at it, for its end.

    Raises:
        GalleryBusyError: an ingestion, or another fold, is at it.
        GalleryError: the gallery cannot be changed.
    """
    name = _current(folder)
    with generations.lock(folder, folding=not waits):
        store = Store(folder)
        try:
            unfinished = recover(folder, store)
            name = _current(folder)
            base = generations.read_manifest(folder, name)
            pending = int(describe_changes(store.connection, base)["pending"])
            if unfinished is not None and unfinished.kind == "ingest":
                return Folded(name, 0, pending, unfinished=True)
            if unfinished is not None:  # a fold that was killed
                store.drop_run(unfinished)
            if not pending and not new_index:
                return Folded(name, 0, 0, unfinished=False)
            run = store.start_run(kind="fold", plan="fold", base=base)
            occasion = Occasion(kind="fold", new_index=new_index, rejected=base.rejected, catalogue=base.catalogue)
            manifest = publish(folder, store, run, occasion)
            left = int(describe_changes(store.connection, manifest)["pending"])
            return Folded(manifest.generation, pending, left, unfinished=False)
        finally:
            store.close()  # rolls back what was not committed


@contextmanager
def editing(folder: Path, *, kind: Kind = "edit") -> Iterator[tuple[Store, Run]]:
    """Hold the gallery and begin a run on top of what is in service; an error leaves the gallery as it was.

    What an unfinished ingestion has encoded is kept: when it is run again, its photos are read but not encoded anew.
    """
    _current(folder)
    with generations.lock(folder):
        store = Store(folder)
        try:
            unfinished = recover(folder, store)
            if unfinished is not None:
                store.drop_run(unfinished)
            base = generations.read_manifest(folder, _current(folder))
            yield store, store.start_run(kind=kind, plan=kind, base=base)
        finally:
            store.close()  # rolls back what was not committed


def _current(folder: Path) -> str:
    name = generations.current_name(folder)
    if name is None:
        raise GalleryError(f"{folder} has no finished generation to change; run `threadmatch ingest` first")
    return name
