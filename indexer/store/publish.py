"""From row versions to a generation in service: index, manifest, check, then CURRENT moves.

A kill before CURRENT moves leaves the gallery as it was; one after it leaves the new generation, complete.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from threadmatch.indexer.errors import GalleryError, GalleryModelMismatchError
from threadmatch.indexer.index import FLAT_MAX_ITEMS, Ids, VectorIndex, Vectors, build, verify_by_search
from threadmatch.indexer.stamps import CatalogueStamp, IndexStamp, ModelStamp, check_model
from threadmatch.indexer.store import generations, looks, side_files
from threadmatch.indexer.store.database import ALIVE
from threadmatch.indexer.store.looking import look_at_new
from threadmatch.indexer.store.manifest import JSON_KINDS, ColumnKind, Kind, Manifest, merge_kinds
from threadmatch.indexer.store.upgrades import FEATURES_KEY
from threadmatch.indexer.store.vectors import item_vectors
from threadmatch.indexer.store.versions import Run, Store, now
from threadmatch.model.features import Encoder, FeatureSpec, indexed_feature
from threadmatch.model.progress import Progress, unheard

logger = logging.getLogger(__name__)

BLOCK_ROWS = 4096
VERIFIED_ITEMS = 64
RETAINED_GENERATIONS = 10  # older ones are taken away when a new one is published; rollback reaches this far
# A few changes beside a large index are searched on their own, so that one new item does not cost a new index.
DELTA_MIN_ITEMS = 5_000
DELTA_SHARE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """Why a generation is made, as its manifest records it."""

    kind: Kind
    rejected: int = 0
    catalogue: CatalogueStamp | None = None
    flat_max: int = FLAT_MAX_ITEMS
    new_index: bool = False


def tie(store: Store, model: Encoder) -> None:
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
        index = None if occasion.new_index else _linked_index(folder, staging, store, run.base)
        index = index or _built_index(staging, reader, occasion.flat_max)
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
        )
        generations.write_manifest(staging, manifest)
        base = generations.generation_folder(folder, run.base) if run.base else None
        side_files.write(staging, side_files.State(store.connection, seq, store.features), base, tell=tell)
        look_at_missing(store, reader, staging, index, tell=tell)
        tell("verifying", reader.count, reader.count)
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


class Rows:
    """The live rows of the database at one row number, with their vectors.

    Args:
        connection: to the gallery's database.
        seq: the row number.
        spec: the indexed feature, (E,).
    """

    def __init__(self, connection: sqlite3.Connection, *, seq: int, spec: FeatureSpec) -> None:
        self.connection, self.seq, self.spec = connection, seq, spec
        query = f"SELECT count(*) FROM items i WHERE {ALIVE}"  # noqa: S608
        self.count = int(connection.execute(query, {"seq": seq}).fetchone()[0])

    def numbers(self) -> Ids:
        """(N,) ascending."""
        query = f"SELECT i.seq FROM items i WHERE {ALIVE} ORDER BY i.seq"  # noqa: S608
        return np.fromiter((seq for (seq,) in self.connection.execute(query, {"seq": self.seq})), np.int64)

    def blocks(self) -> Iterator[tuple[Ids, Vectors]]:
        """(n,) row numbers, ascending, and (n, E) vectors; one block in memory."""
        cursor = self.connection.execute(
            f"SELECT i.seq, i.id, i.content FROM items i WHERE {ALIVE} ORDER BY i.seq",  # noqa: S608
            {"seq": self.seq},
        )
        while rows := cursor.fetchmany(BLOCK_ROWS):
            yield np.array([row[0] for row in rows], np.int64), item_vectors(self.connection, self.spec, rows)

    def sample(self, count: int) -> Iterator[tuple[int, Vectors]]:
        """Some rows, spread evenly."""
        numbers = self.numbers()
        for number in numbers[np.unique(np.linspace(0, len(numbers) - 1, min(count, len(numbers)), dtype=int))]:
            query = "SELECT seq, id, content FROM items WHERE seq = ?"
            row = self.connection.execute(query, (int(number),)).fetchall()
            yield int(number), item_vectors(self.connection, self.spec, row)[0]


def _built_index(staging: Path, rows: Rows, flat_max: int) -> IndexStamp:
    path = staging / generations.INDEX_FILE
    options: dict[str, Any] = {"count": rows.count, "dim": rows.spec.shape[0], "seq": rows.seq}
    stamp = build(rows.blocks, path, flat_max=flat_max, **options)
    index = VectorIndex.read(path, stamp)
    try:
        verify_by_search(index, rows.sample(VERIFIED_ITEMS))
    except GalleryError:
        if index.exact:
            raise
        logger.warning("the graph does not find its own items, an exact index takes its place")
        stamp = build(rows.blocks, path, flat_max=rows.count, **options)
        verify_by_search(VectorIndex.read(path, stamp), rows.sample(VERIFIED_ITEMS))
    return stamp


def _linked_index(folder: Path, staging: Path, store: Store, base: str) -> IndexStamp | None:
    """The index of the generation this one builds on, where few rows changed since; None where a new one is due."""
    if not base:
        return None
    try:
        stamp = generations.read_manifest(folder, base).index
    except GalleryError:
        return None
    row = store.connection.execute("SELECT count(*) FROM items WHERE seq > ?", (stamp.seq,)).fetchone()
    if stamp.items < DELTA_MIN_ITEMS or row[0] > DELTA_SHARE * stamp.items:
        return None
    source = generations.generation_folder(folder, base) / generations.INDEX_FILE
    target = staging / generations.INDEX_FILE
    try:
        VectorIndex.read(source, stamp)
        os.link(source, target)
    except GalleryError:
        return None  # damaged: build it anew
    except OSError:
        shutil.copyfile(source, target)  # a file system without hard links
    return stamp


class _Nearest:
    """The index of a generation, and the rows that came after it."""

    def __init__(self, index: VectorIndex, late: Ids, late_vectors: Vectors) -> None:
        self._index, self._late, self._late_vectors = index, late, late_vectors

    def nearest(self, vectors: Vectors, k: int) -> tuple[Ids, Vectors]:
        """See `store.looking.Neighbours`."""
        rows, cosines = self._index.nearest(vectors, k)
        if not len(self._late):
            return rows, cosines
        rows = np.concatenate([rows, np.broadcast_to(self._late, (len(vectors), len(self._late)))], axis=1)
        cosines = np.concatenate([cosines, vectors @ self._late_vectors.T], axis=1)
        best = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(rows, best, 1), np.take_along_axis(cosines, best, 1)


def look_at_missing(store: Store, rows: Rows, folder: Path, stamp: IndexStamp, *, tell: Progress = unheard) -> None:
    """Find what near-duplicates are told by, for contents of live items that have it not yet.

    Args:
        store: of the gallery, whose lock the caller holds.
        rows: of the generation.
        folder: that holds its index.
        stamp: of the index.
        tell: hears how far it is.

    Raises:
        GalleryError: the index is damaged. DamagedItemError: the vector of a row beside it.
    """
    contents = looks.missing(store.connection, ALIVE, {"seq": rows.seq})
    if not contents:
        return
    index = VectorIndex.read(folder / generations.INDEX_FILE, stamp)
    query = f"SELECT i.seq, i.id, i.content FROM items i WHERE i.seq > :index AND {ALIVE} ORDER BY i.seq"  # noqa: S608
    late = store.connection.execute(query, {"seq": rows.seq, "index": stamp.seq}).fetchall()
    numbers, vectors = np.array([row[0] for row in late], np.int64), item_vectors(store.connection, rows.spec, late)
    look_at_new(store, rows.spec, contents, _Nearest(index, numbers, vectors), tell)


def _verify(staging: Path, rows: Rows) -> None:
    """Open the generation as a reader would and compare it with the truth."""
    manifest = Manifest.read(staging / generations.MANIFEST_FILE)
    index = VectorIndex.read(staging / generations.INDEX_FILE, manifest.index)
    if manifest.index.seq == rows.seq and not np.array_equal(index.ids, rows.numbers()):
        raise GalleryError("the new index does not hold exactly the live rows; it is not published")
