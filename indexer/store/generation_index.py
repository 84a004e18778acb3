"""The index of a new generation: that of the one before, the same grown, or one built anew; and who is near whom by it.

few rows changed (DELTA_SHARE)     the file is linked, the new rows are searched beside it
more, and it is a graph            a copy of the graph with the new rows in it
else                               built anew
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from threadmatch.indexer.errors import GalleryError
from threadmatch.indexer.index import Ids, VectorIndex, Vectors
from threadmatch.indexer.index_building import MEASURED_ITEMS, build, grow, verify_by_search
from threadmatch.indexer.stamps import IndexStamp
from threadmatch.indexer.store import generations, looks
from threadmatch.indexer.store.database import ALIVE
from threadmatch.indexer.store.looking import look_at_new
from threadmatch.indexer.store.vectors import item_vectors
from threadmatch.indexer.store.versions import Store
from threadmatch.model.features import FeatureSpec
from threadmatch.model.progress import Progress, unheard

logger = logging.getLogger(__name__)

VERIFIED_ITEMS = 64
BLOCK_ROWS = 4096
# A few changes beside a large index are searched on their own, so that one new item does not cost a new index.
DELTA_MIN_ITEMS = 5_000
DELTA_SHARE = 0.02


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

    def blocks(self, after: int = 0) -> Iterator[tuple[Ids, Vectors]]:
        """(n,) row numbers above `after`, ascending, and (n, E) vectors; one block in memory."""
        cursor = self.connection.execute(
            f"SELECT i.seq, i.id, i.content FROM items i WHERE i.seq > :after AND {ALIVE} ORDER BY i.seq",  # noqa: S608
            {"seq": self.seq, "after": after},
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


def built_index(staging: Path, rows: Rows, flat_max: int, tell: Progress) -> IndexStamp:
    """A new index over the live rows, that finds them.

    Args:
        staging: folder for its file.
        rows: of the generation.
        flat_max: up to how many the search stays exact.
        tell: hears how far it is.

    Raises:
        GalleryError: it does not find its own rows. DamagedItemError: a vector is damaged.
    """
    path = staging / generations.INDEX_FILE
    options: dict[str, Any] = {"count": rows.count, "dim": rows.spec.shape[0], "seq": rows.seq}
    stamp = build(rows.blocks, path, flat_max=flat_max, tell=tell, **options)
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


def linked_index(folder: Path, staging: Path, store: Store, base: str) -> IndexStamp | None:
    """The index of the generation this one builds on, where few rows changed since; None where a new one is due."""
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


def grown_index(folder: Path, staging: Path, rows: Rows, base: str) -> IndexStamp | None:
    """The graph of the generation this one builds on with the rows that came since; None where a new one is due."""
    try:
        stamp = generations.read_manifest(folder, base).index
        source = generations.generation_folder(folder, base) / generations.INDEX_FILE
        new = rows.blocks(after=stamp.seq)
        target = staging / generations.INDEX_FILE
        grown = grow(source, stamp, target, blocks=new, seq=rows.seq, alive=rows.count)
        if grown is not None:
            verify_by_search(VectorIndex.read(target, grown), rows.sample(VERIFIED_ITEMS))
    except GalleryError as error:
        logger.warning("the graph is built anew", extra={"reason": str(error)})
        return None
    return grown


def check_rows(index: VectorIndex, stamp: IndexStamp, numbers: Ids) -> None:
    """GalleryError unless an index holds exactly the rows it stands for; a graph that has grown may hold dead ones too.

    Args:
        index, stamp: the index, and what its manifest says of it.
        numbers: (N,) live rows at `stamp.seq`, ascending.
    """
    held = (
        index.ids[np.isin(index.ids, numbers, assume_unique=True)] if MEASURED_ITEMS in stamp.parameters else index.ids
    )
    if not np.array_equal(held, numbers):
        raise GalleryError("the index does not hold exactly the live rows it stands for")


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
