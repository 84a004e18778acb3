"""Looking after a cluster's gallery: list its generations, roll back, verify, clear away, delete items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from threadmatch.indexer.cluster.clearing import clear_contents
from threadmatch.indexer.cluster.editing import ClusterEditor
from threadmatch.indexer.cluster.filling import close, reopen, writing
from threadmatch.indexer.cluster.gallery import Cluster, ClusterGallery
from threadmatch.indexer.edits.live_writes import Delete
from threadmatch.indexer.errors import DamagedItemError, EditError, GalleryError
from threadmatch.indexer.store.manifest import Manifest

KEPT_GENERATIONS: Final = 2
_MAX_PROBLEMS: Final = 100


@dataclass(slots=True)
class ClusterReport:
    """What verifying found."""

    generation: str
    items: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def changes(self) -> int:
        """None: edits are in the generation itself."""
        return 0

    def as_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"generation": self.generation, "items": self.items, "changes": 0, "problems": self.problems}


def list_generations(cluster: Cluster) -> list[dict[str, Any]]:
    """All generations, oldest first, as `indexer.upkeep.list_generations` gives them."""
    current, found = cluster.in_service(), []
    for generation in _generations(cluster):
        entry: dict[str, Any] = {"generation": generation, "current": generation == current}
        try:
            manifest = cluster.manifest(generation)
            entry |= {"created": manifest.created, "kind": manifest.kind, "items": manifest.items, "index": "milvus"}
        except GalleryError as error:
            entry["error"] = str(error)
        found.append(entry)
    return found


def rollback(cluster: Cluster, to: str | None = None) -> Manifest:
    """Put an earlier generation in service, with the edits that were made on top of it, and without later ones.

    Args:
        cluster: of the gallery.
        to: which; None for the one before.

    Raises:
        GalleryError: there is no such generation.
    """
    with writing(cluster):
        current = cluster.current()
        whole = [entry["generation"] for entry in list_generations(cluster) if "error" not in entry]
        earlier = [generation for generation in whole if generation < current]
        target = to or (earlier[-1] if earlier else None)
        if target is None or target not in whole:
            raise GalleryError(
                f"{cluster.address} has no generation {to or 'before ' + current}; it has {', '.join(whole)}"
            )
        if target != current:
            reopen(cluster, target)
            close(cluster, current, replace=True)
            cluster.engine.put_in_service(cluster.names.alias, cluster.names.collection(target))
        return cluster.manifest(target)


def verify(cluster: Cluster, *, tell: Callable[[int], None] = lambda _: None) -> ClusterReport:
    """Read every item of the generation in service, and search it for some of them."""
    gallery = ClusterGallery(cluster)
    snapshot = gallery.current
    report = ClusterReport(snapshot.generation)
    read = snapshot.read_back()
    vector_of = snapshot.manifest.indexed
    while len(report.problems) < _MAX_PROBLEMS:
        try:
            item, features, _ = next(read)
        except StopIteration:
            break
        except DamagedItemError as error:
            report.problems.append(f"{error}; nothing after it was checked")
            break
        report.items += 1
        if report.items % 1000 == 0:
            tell(report.items)
        if report.items % max(1, snapshot.item_count // 100) == 0:
            first = snapshot.shortlist(vector_of.unpack([features[vector_of.key]])[0], 10)
            if item.id not in {found.id for found in first} and first[-1].distance > 1e-3:
                report.problems.append(f"a search with the vector of item {item.id!r} does not find it")
    if not report.problems and report.items != snapshot.item_count:
        report.problems.append(f"{report.items} items are there and {snapshot.item_count} are counted")
    return report


def compact(cluster: Cluster, *, keep: int = KEPT_GENERATIONS) -> dict[str, Any]:
    """Take away generations: those that were never finished, and all but the last `keep` and the one in service.

    Then photos and features go that no generation of any gallery names any more, those of replaced and deleted items
    with the generation that they were in. Safe beside copies and edits, of other galleries too (`clearing`).
    """
    with writing(cluster) as renew:
        current = cluster.current()
        listed = list_generations(cluster)
        whole = [entry["generation"] for entry in listed if "error" not in entry]
        kept = {current, *whole[-keep:]}
        gone = [entry["generation"] for entry in listed if entry["generation"] not in kept]
        rows = 0
        for generation in gone:
            cluster.engine.drop(cluster.names.collection(generation))
            keys = cluster.store.keys(cluster.names.everything_of(generation))
            while block := list(islice(keys, 1000)):
                renew()
                cluster.store.ask([("DEL", key) for key in block])
                rows += len(block)
        contents, size = clear_contents(cluster.store, cluster.names.prefix, tell=renew)
    return {
        "generation": current,
        "folded": 0,
        "pending": 0,
        "generations": len(gone),
        "rows": rows,
        "contents": contents,
        "bytes": size,
    }


def delete_items(cluster: Cluster, item_ids: Sequence[str]) -> Manifest:
    """Delete items, as edits of the generation in service.

    Raises:
        ItemNotFoundError: one of them is not in the gallery; nothing is deleted.
        EditError: an engine does not answer; those before it are deleted.
    """
    gallery = ClusterGallery(cluster)
    snapshot, editor = gallery.current, ClusterEditor(gallery)
    for item_id in item_ids:
        snapshot.item(item_id)
    for outcome in editor.apply([Delete(item_id) for item_id in item_ids]):
        if isinstance(outcome, EditError):
            raise outcome
    return gallery.manifest.model_copy(update={"items": gallery.current.item_count})


def _generations(cluster: Cluster) -> list[str]:
    named = (cluster.names.generation_of(name) for name in cluster.engine.collections())
    return sorted(generation for generation in named if generation is not None)
