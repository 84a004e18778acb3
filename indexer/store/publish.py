"""From row versions to a generation in service: index, manifest, check, then CURRENT moves.

A kill before CURRENT moves leaves the gallery as it was; one after it leaves the new generation, complete.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from threadmatch.indexer.errors import GalleryError, GalleryModelMismatchError
from threadmatch.indexer.index import VectorIndex
from threadmatch.indexer.index_building import FLAT_MAX_ITEMS
from threadmatch.indexer.stamps import CatalogueStamp, IndexStamp, ModelStamp, check_model
from threadmatch.indexer.store import generations, projected_file, side_files
from threadmatch.indexer.store.database import ALIVE
from threadmatch.indexer.store.generation_index import (
    Rows,
    built_index,
    check_rows,
    grown_index,
    linked_index,
    look_at_missing,
)
from threadmatch.indexer.store.manifest import JSON_KINDS, ColumnKind, Kind, Manifest, merge_kinds
from threadmatch.indexer.store.upgrades import FEATURES_KEY
from threadmatch.indexer.store.versions import Run, Store, now
from threadmatch.model.features import Encoder, FeatureSpec, indexed_feature
from threadmatch.model.progress import Progress, unheard

logger = logging.getLogger(__name__)

BOX_KEY = "box"  # in `meta`: what the last ingestion encoded of photos whose row has no box
RETAINED_GENERATIONS = 10  # older ones are taken away when a new one is published; rollback reaches this far


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """Why a generation is made, as its manifest records it."""

    kind: Kind
    rejected: int = 0
    catalogue: CatalogueStamp | None = None
    flat_max: int = FLAT_MAX_ITEMS
    projected_min: int = projected_file.PROJECTED_MIN_ITEMS
    new_index: bool = False


class Maker(Protocol):
    """Of an `Encoder`, what a gallery is tied to."""

    @property
    def name(self) -> str:
        """Of the model."""
        ...

    @property
    def fingerprint(self) -> str:
        """Of the whole model."""
        ...

    @property
    def features_fingerprint(self) -> str:
        """Of all that decides the features."""
        ...

    @property
    def features(self) -> tuple[FeatureSpec, ...]:
        """What is kept of each photo."""
        ...


def tie(store: Store, model: Maker) -> None:
    """Tie a new gallery to a model, or check that it is this one's.

    What parts of the model make may differ from what the gallery kept so far: from now on it keeps what this one makes.

    Raises:
        GalleryModelMismatchError: the gallery was made by another model, or keeps other features.
        GalleryError: the indexed feature is no (E,) float32 vector.
    """
    indexed = indexed_feature(model.features)
    if indexed.dtype != "float32" or len(indexed.shape) != 1:
        raise GalleryError(
            f"feature {indexed.name!r} of model {model.name!r} cannot be indexed: {indexed.dtype} "
            f"{indexed.shape}, expected one float32 vector a photo"
        )
    meta = store.meta()
    listed = json.dumps([spec.to_dict() for spec in model.features])
    mine = {"model_name": model.name, "model_fingerprint": model.fingerprint, FEATURES_KEY: listed}
    if not meta:
        store.set_meta(mine | {"features_fingerprint": model.features_fingerprint})
        return
    check_model(meta["model_name"], meta["features_fingerprint"], model.name, model.features_fingerprint)
    if _of_the_core(store.features) != _of_the_core(model.features):
        raise GalleryModelMismatchError(
            f"the gallery keeps {_named(store.features)}; model {model.name!r} makes {_named(model.features)}: ingest "
            "the catalogue into another folder with this one"
        )
    store.set_meta(mine)


def _of_the_core(specs: Iterable[FeatureSpec]) -> list[FeatureSpec]:
    return [spec for spec in specs if not spec.made_by]


def kept_of_all(store: Store, seq: int) -> tuple[FeatureSpec, ...]:
    """What each item at a row number has: a part's features may be of some only, until all are ingested again."""
    lacking = (
        f"SELECT 1 FROM items i WHERE {ALIVE} AND NOT EXISTS"  # noqa: S608
        " (SELECT 1 FROM features f WHERE f.content = i.content AND f.name = :key) LIMIT 1"
    )
    rows = {spec.key: {"seq": seq, "key": spec.key} for spec in store.features if spec.made_by}
    gone = {key for key, values in rows.items() if store.connection.execute(lacking, values).fetchone()}
    return tuple(spec for spec in store.features if spec.key not in gone)


def lost_features(before: Manifest | None, after: Manifest, model: Encoder) -> list[str]:
    """Notes on features of parts that the new generation does not keep, though this model or the one before does."""
    kept = {spec.key for spec in after.features}
    notes = [
        f"{spec.name} is kept of some items only, so no search of this generation uses it: ingest all items with "
        f"model {model.name!r}, and it is added to those that lack it"
        for spec in model.features
        if spec.key not in kept
    ]
    made = {spec.name for spec in model.features}
    return notes + [
        f"{spec.name} is not kept any more: model {model.name!r} has no part that makes it"
        for spec in (before.features if before else ())
        if spec.name not in made
    ]


def _named(specs: Iterable[FeatureSpec]) -> str:
    return ", ".join(f"{spec.name} {spec.dtype}{list(spec.shape)}" for spec in specs)


def recover(folder: Path, store: Store) -> Run | None:
    """Clear away what a dead process left; the caller holds the lock.

    Returns:
        The unfinished run whose rows can be continued, None when there is none.
    """
    generations.clear_partial(folder)
    run = store.open_run()
    if run is None:
        return None
    current = generations.current_name(folder)
    for name in generations.generation_names(folder)[-2:]:
        try:
            made_by = generations.read_manifest(folder, name).run
        except GalleryError:
            continue  # an older, damaged one: not this run's
        if made_by == run.run and name == current:
            store.finish_run(run, name)  # killed in its very last step
            return None
        if made_by == run.run:
            generations.remove_generation(folder, name)
    return run


def publish(folder: Path, store: Store, run: Run, occasion: Occasion, *, tell: Progress = unheard) -> Manifest:
    """Make a generation of all rows written so far and put it in service.

    Args:
        folder: of the gallery, whose lock the caller holds.
        store: with every row committed.
        run: that this finishes.
        occasion: for the manifest.
        tell: hears how far it is: "indexing", "writing side files", "comparing photos", "verifying".

    Raises:
        DamagedItemError: a vector to index fails its checksum.
        GalleryError: the new generation fails its own check; the old one stays in service.
    """
    store.commit()
    meta = store.meta()
    seq = store.last_seq()
    name = generations.next_name(folder)
    reader = Rows(store.connection, seq=seq, spec=indexed_feature(store.features))
    tell("indexing", 0, reader.count)
    with generations.staged(folder, name) as staging:
        index: IndexStamp | None = None
        if not occasion.new_index and run.base:
            index = linked_index(folder, staging, store, run.base)
            index = index or grown_index(folder, staging, reader, run.base)
        index = index or built_index(staging, reader, occasion.flat_max, tell)
        base = generations.generation_folder(folder, run.base) if run.base else None
        index = projected_file.ensured(staging, index, base, least=occasion.projected_min, tell=tell)
        manifest = Manifest(
            generation=name,
            created=now(),
            kind=occasion.kind,
            run=run.run,
            seq=seq,
            edits=run.edits,
            items=reader.count,
            rejected=occasion.rejected,
            model=ModelStamp(
                name=meta["model_name"],
                fingerprint=meta["model_fingerprint"],
                features_fingerprint=meta["features_fingerprint"],
            ),
            features=kept_of_all(store, seq),
            index=index,
            catalogue=occasion.catalogue,
            columns=columns(store, seq),
            box="auto" if meta.get(BOX_KEY) == "auto" else "none",
        )
        generations.write_manifest(staging, manifest)
        side_files.write(staging, side_files.State(store.connection, seq, store.features), base, tell=tell)
        look_at_missing(store, reader, staging, index, tell=tell)
        tell("verifying", 0, 0)
        _verify(staging, reader)
        store.checkpoint()
    generations.set_current(folder, name)
    store.finish_run(run, name)
    logger.info("generation in service", extra={"generation": name, "items": manifest.items})
    _retire(folder, manifest, run.base)
    return manifest


def _retire(folder: Path, newest: Manifest, base: str) -> None:
    """Take away generations that are too old, and folds that a later fold holds.

    Folds happen by themselves and often: they must not push the ingestions out of a rollback's reach. Nothing is lost
    with one, since the generation below it shows the same with its edits on top.
    """
    names = generations.generation_names(folder)
    gone = set(names[:-RETAINED_GENERATIONS])
    if newest.kind == "fold":
        gone |= {name for name in names if is_fold(folder, name)} - {base}
    for old in sorted(gone - {newest.generation}):
        generations.remove_generation(folder, old)


def is_fold(folder: Path, name: str) -> bool:
    """Whether a generation only takes up edits: the one it was made of shows the same."""
    try:
        return generations.read_manifest(folder, name).kind == "fold"
    except GalleryError:
        return False


def columns(store: Store, seq: int) -> dict[str, ColumnKind]:
    """Names and kinds of the metadata columns of the items at a row number, in order of first appearance."""
    found: dict[str, ColumnKind] = {}
    rows = store.connection.execute(
        "SELECT j.key, j.type, min(i.seq) AS first FROM items i, json_each(i.metadata) j"  # noqa: S608
        f" WHERE {ALIVE} GROUP BY j.key, j.type ORDER BY first, min(j.id)",
        {"seq": seq},
    )
    for key, kind, _ in rows.fetchall():
        found[key] = merge_kinds(found.get(key), JSON_KINDS[kind])
    return found


def _verify(staging: Path, rows: Rows) -> None:
    """Open the generation as a reader would and compare it with the truth."""
    manifest = Manifest.read(staging / generations.MANIFEST_FILE)
    index = VectorIndex.read(staging / generations.INDEX_FILE, manifest.index)
    if manifest.index.seq == rows.seq:
        check_rows(index, manifest.index, rows.numbers())
