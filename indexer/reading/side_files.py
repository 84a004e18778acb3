"""A generation's side files, open: cards, features and columns of rows, and what they lack.

Letters  n rows asked for
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from threadmatch.indexer.index import Ids
from threadmatch.indexer.store import cards, column_chunks
from threadmatch.indexer.store.cards import Card
from threadmatch.indexer.store.manifest import Manifest
from threadmatch.indexer.store.record_file import RecordFile
from threadmatch.indexer.store.side_files import CARDS, COLUMNS, feature_file, open_files, read_alive

logger = logging.getLogger(__name__)


class SideFiles:
    """The side files of one generation. Thread-safe; opens nothing but their tables.

    Args:
        folder: of the generation.
        manifest: of it.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.seq = manifest.seq
        self.alive = read_alive(folder, manifest.seq)  # (seq + 1,) or None
        self._cards = _Rows(open_files(folder, CARDS, cards.FORM))
        self._columns = open_files(folder, COLUMNS, column_chunks.FORM)
        self._features = {
            spec.name: _Rows(open_files(folder, feature_file(spec.name), spec.to_dict()))
            for spec in manifest.features
            if not spec.indexed
        }
        self._chunks: dict[tuple[int, int], pa.RecordBatch | None] = {}
        self._lock = threading.Lock()

    def cards(self, rows: Sequence[int] | Ids) -> dict[int, Card]:
        """Cards by row number, as many as the files have whole."""
        return {row: cards.unpack(data) for row, data in self._cards.read(rows).items()}

    def gather(self, name: str, rows: Ids, size_bytes: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Records of a feature, all of one size.

        Args:
            name: of the feature.
            rows: (n,) numbers; one may come twice.
            size_bytes: of a record.

        Returns:
            (n, size_bytes) records, and (n,) whether the files have each whole.
        """
        files = self._features.get(name)
        if files is None:
            return np.empty((len(rows), size_bytes), np.uint8), np.zeros(len(rows), bool)
        return files.gather(rows, size_bytes)

    def chunks(self) -> Iterator[tuple[int, int, pa.RecordBatch | None]]:
        """Every span of rows, in order, with its columns; None where only the database has them.

        Gives:
            The first and the last row of the span, and its chunk.
        """
        at = 1
        for number, file in enumerate(self._columns):
            if file.about.first > at:
                yield at, file.about.first - 1, None
            starts = [*file.rows[1:].tolist(), file.about.last + 1]
            at = file.about.first
            for place, following in enumerate(starts if len(file) else []):
                yield at, following - 1, self._chunk(number, place)
                at = following
            at = file.about.last + 1
        if at <= self.seq:
            yield at, self.seq, None

    def _chunk(self, number: int, place: int) -> pa.RecordBatch | None:
        with self._lock:
            if (number, place) not in self._chunks:
                file = self._columns[number]
                data = file.read_mapped(place)
                if data is None:
                    logger.error("damaged columns are read from the database", extra={"file": str(file.path)})
                self._chunks[number, place] = None if data is None else column_chunks.read_chunk(data)
            return self._chunks[number, place]


class _Rows:
    """Files of one name, as one."""

    def __init__(self, files: Sequence[RecordFile]) -> None:
        self._files = files
        self._lasts = np.array([file.about.last for file in files], np.int64)
        self._named: set[Path] = set()

    def read(self, rows: Iterable[int] | Ids) -> dict[int, bytes]:
        numbers = np.unique(np.asarray(rows, np.int64))
        found: dict[int, bytes] = {}
        of = np.searchsorted(self._lasts, numbers)
        for number, file in enumerate(self._files):
            mine: NDArray[np.int64] = numbers[of == number]
            places = file.places(mine)
            held = places >= 0
            read = file.read_many(places[held].tolist())
            for row, data in zip(mine[held].tolist(), read, strict=True):
                if data is not None:
                    found[row] = data
                else:
                    self._name(file)
        return found

    def gather(self, rows: Ids, size_bytes: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        out, whole = np.empty((len(rows), size_bytes), np.uint8), np.zeros(len(rows), bool)
        of = np.searchsorted(self._lasts, rows)
        for number, file in enumerate(self._files):
            asked = np.flatnonzero((of == number) & (rows > 0))
            places = file.places(rows[asked])
            there, places = asked[places >= 0], places[places >= 0]
            if len(there) == len(out):
                whole = file.gather(places, size_bytes, out)
            else:
                read = np.empty((len(there), size_bytes), np.uint8)
                whole[there] = file.gather(places, size_bytes, read)
                out[there] = read
            if not whole[there].all():
                self._name(file)
        return out, whole

    def _name(self, file: RecordFile) -> None:
        """Say once of a file that something in it is damaged."""
        if file.path not in self._named:
            self._named.add(file.path)
            logger.error("a damaged record is read from the database", extra={"file": str(file.path)})
