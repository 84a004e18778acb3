"""A file of records under row numbers, written once, whose pages all processes share.

    records, one after another | row numbers | starts | sizes | checksums | JSON that describes it | end mark

The tables and the description have one checksum, read when the file is opened; each record has its own, checked each
time it is read. So opening costs nothing for the records, and a damaged one is found before it is used.

Tables, small records, and what is used where it lies, are mapped. Records of a page or more that are asked for here and
there are read from the descriptor, announced to the kernel first, so that those on the disk come together, and nothing
around them does; `gather` takes at once what is in memory, and announces the others. (For small ones a call of the
kernel each costs more than the pages around them.)

Letters  N records
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import struct
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from threadmatch.indexer.errors import GalleryError
from threadmatch.indexer.index import Ids
from threadmatch.indexer.row_numbers import places_of
from threadmatch.indexer.store.records import checksum

SUFFIX: Final = ".rows"
_END: Final = struct.Struct("<QQI8s")  # length of the tables, of the JSON, checksum of both, mark
_MARK: Final = b"tm-rows1"
_ANNOUNCED_BYTES: Final = 4096
"""Of a record on average, from which on records are announced and read from the descriptor."""
_CRC: Final = np.dtype("<u4")


class SideFileError(GalleryError):
    """A file that was derived from the database is missing, damaged, or of another kind: it can be made again."""


@dataclass(frozen=True, slots=True)
class Described:
    """What a file says about itself.

    Fields:
        name: of what is in it.
        first, last: it holds the rows of this span that were live when it was written.
        form: how a record is to be read; files of another form are not used.
    """

    name: str
    first: int
    last: int
    form: dict[str, Any]


class RecordWriter:
    """Writes a file; what is left of one that was not finished has no end mark.

    Args:
        path: of the new file.
        about: its description.
        align: bytes that the start of each record is a multiple of.
    """

    def __init__(self, path: Path, about: Described, *, align: int = 1) -> None:
        self._file: BinaryIO = path.open("xb")
        self._about, self._align, self._at = about, align, 0
        self._rows, self._starts, self._sizes = array("q"), array("q"), array("q")  # 28 bytes a record in all
        self._checksums = array("I")

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._file.close()

    def add(self, row: int, data: bytes) -> None:
        """Add a record; rows ascend."""
        padding = -self._at % self._align
        self._file.write(b"\0" * padding + data)
        self._rows.append(row)
        self._starts.append(self._at + padding)
        self._sizes.append(len(data))
        self._checksums.append(checksum(data))
        self._at += padding + len(data)

    def _finish(self) -> None:
        tables = b"\0" * (-self._at % 8)
        shift = len(tables)
        for numbers in (self._rows, self._starts, self._sizes):
            tables += np.asarray(numbers, "<i8").tobytes()
        tables += np.asarray(self._checksums, _CRC).tobytes()
        about = self._about
        described = {"name": about.name, "first": about.first, "last": about.last, "form": about.form}
        text = json.dumps(described | {"records": len(self._rows), "shift": shift}).encode()
        self._file.write(tables + text + _END.pack(len(tables), len(text), checksum(tables + text), _MARK))


class RecordFile:
    """An open file. Thread-safe.

    Args:
        path: of the file.

    Attributes:
        about: its description.
        rows: (N,) ascending row numbers.

    Raises:
        SideFileError: missing, damaged, or of another format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except (OSError, ValueError) as error:  # ValueError: of no bytes
            raise SideFileError(f"{path} cannot be read: {error}") from error
        weakref.finalize(self, os.close, self._file)
        _advise(self._file, 0, 0, "RANDOM")  # of this descriptor; the map reads ahead as before
        self._tells = hasattr(os, "RWF_NOWAIT")  # the kernel what is in memory; the file system may not
        self._view = memoryview(self._map)
        try:
            self.about = self._read_tables()
        except (struct.error, ValueError, KeyError, TypeError) as error:
            raise SideFileError(f"{path} is damaged: {error}") from error

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def size_bytes(self) -> int:
        """Of the whole file."""
        return len(self._view)

    def places(self, rows: Ids) -> Ids:
        """(n,) where the records of rows are, -1 for a row that is not in it."""
        return places_of(self.rows, rows)

    def read(self, place: int) -> bytes | None:
        """A record; None where it fails its checksum."""
        return self._whole(place, self._copied(*self._span(place)))

    def read_many(self, places: Sequence[int]) -> Iterator[bytes | None]:
        """Records, in the order of `places`, which had better ascend; None for each that is lost or damaged."""
        if not self._announced:
            return map(self.read, places)
        self._announce([self._span(place) for place in places])
        return (self._whole(place, self._fetched(*self._span(place))) for place in places)

    def gather(self, places: Ids, size_bytes: int, into: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Read records of one size, each into its row.

        Args:
            places: (n,) of the records.
            size_bytes: of each.
            into: (n, size_bytes), gets them.

        Returns:
            (n,) whether the record is whole; rows of the others hold anything.
        """
        starts, sums = self._starts[places].tolist(), self._checksums[places].tolist()
        whole: NDArray[np.bool_] = self._sizes[places] == size_bytes
        asked, rows = np.flatnonzero(whole).tolist(), list(into)
        if self._announced:
            later = [n for n in asked if not self._at_hand(starts[n], rows[n])]
            self._announce((starts[n], size_bytes) for n in sorted(later, key=starts.__getitem__))
            lost = [n for n in later if not _put(self._fetched(starts[n], size_bytes), rows[n])]
        else:
            lost = [n for n in asked if not _put(self._view[starts[n] : starts[n] + size_bytes], rows[n])]
        whole[lost] = False
        whole[[n for n in asked if checksum(rows[n].tobytes()) != sums[n]]] = False
        return whole

    @property
    def _announced(self) -> bool:
        """Whether records are of a page or more, so that each is asked for by itself."""
        return self.size_bytes >= _ANNOUNCED_BYTES * len(self)

    def _announce(self, spans: Iterable[tuple[int, int]]) -> None:
        """Ask for all of them before the first is waited for: those that are not in memory come at the same time."""
        for start, size in spans:
            _advise(self._file, start, size, "WILLNEED")

    def _at_hand(self, start: int, into: NDArray[np.uint8]) -> bool:
        """Read a record if that needs no wait for the disk; whether it did."""
        if not self._tells:
            return False
        try:
            return os.preadv(self._file, [into.data], start, os.RWF_NOWAIT) == len(into)
        except OSError as error:
            self._tells = error.errno != errno.EOPNOTSUPP
            return False

    def _fetched(self, start: int, size: int) -> bytes:
        try:
            return os.pread(self._file, size, start)
        except OSError:  # a bad block: the record is lost like one that fails its checksum, and is named likewise
            return b""

    def _copied(self, start: int, size: int) -> bytes:
        return bytes(self._view[start : start + size])

    def read_mapped(self, place: int) -> memoryview | None:
        """A record where it lies, whose pages all processes share; None where it fails its checksum."""
        data = self._mapped(place)
        return None if self._whole(place, bytes(data)) is None else data

    def _span(self, place: int) -> tuple[int, int]:
        return int(self._starts[place]), int(self._sizes[place])

    def _mapped(self, place: int) -> memoryview:
        start, size = self._span(place)
        return self._view[start : start + size]

    def _whole(self, place: int, data: bytes) -> bytes | None:
        return data if checksum(data) == self._checksums[place] else None

    def damaged(self) -> Sequence[int]:
        """Rows whose records fail their checksum; reads everything, from the first to the last."""
        return [int(row) for place, row in enumerate(self.rows) if self.read_mapped(place) is None]

    def _read_tables(self) -> Described:
        tables_size, text_size, crc, mark = _END.unpack(self._view[-_END.size :])
        start = len(self._view) - _END.size - text_size - tables_size
        if mark != _MARK or start < 0 or checksum(bytes(self._view[start : -_END.size])) != crc:
            raise ValueError("its tables fail their checksum, or it was not written to its end")
        text = json.loads(bytes(self._view[start + tables_size : -_END.size]))
        count, at = int(text["records"]), start + int(text["shift"])
        tables: list[NDArray[np.int64]] = []
        for _ in range(3):
            tables.append(np.frombuffer(self._view, "<i8", count, at))
            at += 8 * count
        self.rows, self._starts, self._sizes = tables
        self._checksums: NDArray[np.uint32] = np.frombuffer(self._view, _CRC, count, at)
        return Described(str(text["name"]), int(text["first"]), int(text["last"]), dict(text["form"]))


def _put(record: bytes | memoryview, into: NDArray[np.uint8]) -> bool:
    """Copy a record to its row; False where it was cut short."""
    if len(record) != len(into):
        return False
    into[:] = np.frombuffer(record, np.uint8)
    return True


def _advise(descriptor: int, start: int, size: int, advice: str) -> None:
    """Tell the kernel how a file is read, where it takes advice (macOS takes none)."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, start, size, getattr(os, f"POSIX_FADV_{advice}"))
