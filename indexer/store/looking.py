"""Finds what near-duplicates are told by (`store.looks`): for new photos only, by their neighbours in the index.

A photo is compared with at most COMPARED of its NEIGHBOURS, and a generation's photos with PAIRS_A_PHOTO others on
average: what is left out is compared when a search meets it. So a gallery in which everything looks alike costs no
more than another.

Letters  n photos, E embedding size, K neighbours
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from cachetools import LRUCache

from threadmatch.indexer.index import Ids, Vectors
from threadmatch.indexer.store import looks, records
from threadmatch.indexer.store.looks import Look, look_of
from threadmatch.indexer.store.versions import Store
from threadmatch.model.features import FeatureSpec
from threadmatch.model.progress import Progress, unheard
from threadmatch.model.same_photo import MAX_ROUGH, Lab, cells_of, is_same_photo, lab_square, roughness

logger = logging.getLogger(__name__)

# docs/results.md, "Near-duplicates": photos saved again at half the size and cropped have 0.77 at least.
MIN_COSINE: Final = 0.75
ROUGH_BOUND: Final = MAX_ROUGH + 0.1
"""For cells that were rounded to float16: at 100 its steps are 0.06. What is within is compared itself."""
NEIGHBOURS: Final = 16
COMPARED: Final = 8
PAIRS_A_PHOTO: Final = 1.0
BLOCK_PHOTOS: Final = 128
_KEPT_PICTURES: Final = 256


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """The part of a display photo that was encoded, (S, S, 3) in Lab, and the photo's bytes."""

    square: Lab
    photo: bytes


def picture(photo: bytes, size: tuple[int, int], box: Sequence[float]) -> Picture | None:
    """Unpack a display photo; None where it is no picture.

    Args:
        photo: JPEG.
        size: width and height of the upright original, pixels.
        box: x0, y0, x1, y1 of the part to take, pixels of the original.
    """
    (width, height), (x0, y0, x1, y1) = size, box
    try:
        return Picture(lab_square(photo, (x0 / width, y0 / height, x1 / width, y1 / height)), photo)
    except OSError:
        return None


def same(one: Picture, other: Picture) -> bool:
    """Whether two pictures are one photo."""
    if one.photo == other.photo and np.array_equal(one.square, other.square):
        return True
    return is_same_photo(one.square, other.square)


def read_pictures(connection: sqlite3.Connection, contents: Iterable[int], pool: Executor) -> dict[int, Picture | None]:
    """Pictures by content; None where the photo is missing, damaged or no picture."""
    wanted = sorted(set(contents))
    marks = ", ".join("?" * len(wanted))
    query = f"SELECT content, width, height, x0, y0, x1, y1 FROM contents WHERE content IN ({marks})"  # noqa: S608
    places = {row[0]: row[1:] for row in connection.execute(query, wanted)}
    photos = records.read_photos(connection, places)
    made = pool.map(lambda number: picture(photos[number], places[number][:2], places[number][2:]), photos)
    return dict.fromkeys(wanted) | dict(zip(photos, made, strict=True))


class Neighbours(Protocol):
    """Nearest items of a generation, for many vectors at a time."""

    def nearest(self, vectors: Vectors, k: int) -> tuple[Ids, Vectors]:
        """The rows most like each vector.

        Args:
            vectors: (n, E) unit length.
            k: how many of each.

        Returns:
            (n, K) row numbers, -1 where there are fewer, and (n, K) cosines, highest first.
        """
        ...


def look_at_new(
    store: Store, spec: FeatureSpec, contents: Sequence[int], neighbours: Neighbours, tell: Progress = unheard
) -> None:
    """Find and store the looks of contents that have none. A kill loses one block at most.

    Args:
        store: of the gallery, whose lock the caller holds.
        spec: the indexed feature.
        contents: ascending.
        neighbours: over rows of `items`.
        tell: hears how far it is.
    """
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        looking = _Looking(store.connection, spec, neighbours, pool)
        for start in range(0, len(contents), BLOCK_PHOTOS):
            tell("comparing photos", start, len(contents))
            looking.budget += PAIRS_A_PHOTO * BLOCK_PHOTOS
            found = looking.block(contents[start : start + BLOCK_PHOTOS])
            store.begin()
            looks.write(store.connection, found)
            store.commit()


class _Looking:
    """Looks at one block of photos after another.

    Attributes:
        budget: comparisons that may still be made.
    """

    def __init__(
        self, connection: sqlite3.Connection, spec: FeatureSpec, neighbours: Neighbours, pool: Executor
    ) -> None:
        self.budget = 0.0
        self._connection, self._spec, self._neighbours, self._pool = connection, spec, neighbours, pool
        self._pictures: LRUCache[int, Picture | None] = LRUCache(_KEPT_PICTURES)

    def block(self, contents: Sequence[int]) -> list[Look]:
        """The looks of some contents; a pair of which both are among them is compared once."""
        self._pictures.update(read_pictures(self._connection, contents, self._pool))
        cells = {number: _cells(self._pictures[number]) for number in contents}
        near = self._near(contents)
        known = looks.read(self._connection, {other for others in near.values() for other in others} - cells.keys())
        seen = cells | {number: look.cells for number, look in known.items()}
        asked: dict[int, list[int]] = {}
        for number in contents:
            others = [other for other in near[number] if number not in asked.get(other, ())]
            asked[number] = self._alike(seen[number], [(other, seen.get(other)) for other in others])
        wanted = {*contents, *(other for others in asked.values() for other in others)}
        pictures = {number: self._pictures[number] for number in wanted if number in self._pictures}
        fresh = read_pictures(self._connection, wanted - pictures.keys(), self._pool)
        self._pictures.update(fresh)
        pictures |= fresh
        return list(self._pool.map(lambda number: _look(number, cells[number], asked[number], pictures), contents))

    def _near(self, contents: Sequence[int]) -> dict[int, list[int]]:
        """Of each content those of its nearest items, likeliest first; none where its vector is damaged."""
        vectors = records.read(self._connection, self._spec, contents)
        order = [number for number in contents if number in vectors]
        near: dict[int, list[int]] = {number: [] for number in contents}
        if not order:
            return near
        unpacked = np.asarray(self._spec.unpack([vectors[number] for number in order]), np.float32)
        rows, cosines = self._neighbours.nearest(unpacked, NEIGHBOURS)
        by_row = self._contents_of({int(row) for row in rows[cosines >= MIN_COSINE]})
        for number, found, alike in zip(order, rows.tolist(), cosines.tolist(), strict=True):
            others = [by_row.get(row, number) for row, cosine in zip(found, alike, strict=True) if cosine >= MIN_COSINE]
            near[number] = [other for other in dict.fromkeys(others) if other != number]
        return near

    def _contents_of(self, rows: set[int]) -> dict[int, int]:
        marks = ", ".join("?" * len(rows))
        query = f"SELECT seq, content FROM items WHERE seq IN ({marks})"  # noqa: S608
        return dict(self._connection.execute(query, list(rows)).fetchall())

    def _alike(self, mine: Lab | None, others: Sequence[tuple[int, Lab | None]]) -> list[int]:
        """Which of the neighbours could be the same photo by their cells, as far as the budget goes."""
        found: list[int] = []
        for number, theirs in others:
            if mine is None or theirs is None or roughness(mine, theirs[None])[0] > ROUGH_BOUND:
                continue
            if len(found) < COMPARED and self.budget >= 1:
                self.budget -= 1
                found.append(number)
        return found


def _cells(shown: Picture | None) -> Lab | None:
    return None if shown is None else cells_of(shown.square)


def _look(number: int, cells: Lab | None, asked: Sequence[int], pictures: Mapping[int, Picture | None]) -> Look:
    mine = pictures[number]
    verdicts: dict[int, bool] = {}
    for other in asked:
        theirs = pictures[other]
        if mine is not None and theirs is not None:
            verdicts[other] = same(mine, theirs)
    return look_of(cells, verdicts, content=number)
