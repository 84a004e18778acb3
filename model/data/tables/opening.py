"""Any table that people bring, told by its name: one file, packed or not, or a folder of Parquet parts."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Final, Protocol

from threadmatch.model.data.tables.columnar import ColumnarRows, partition_values
from threadmatch.model.data.tables.delimited import CsvRows
from threadmatch.model.data.tables.json_lines import JsonRows
from threadmatch.model.data.tables.naming import Naming
from threadmatch.model.data.tables.notes import Notes
from threadmatch.model.data.tables.xml_items import XmlRows
from threadmatch.model.errors import DataError

SUFFIXES: Final = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "columnar",
    ".pq": "columnar",
    ".arrow": "columnar",
    ".xml": "xml",
}
PACKED: Final = ("csv", "jsonl", "xml")  # kinds that may be packed with gzip
_INSTEAD: Final = {
    ".xlsx": "save the sheet as CSV",
    ".xls": "save the sheet as CSV",
    ".ods": "save the sheet as CSV",
    ".json": "write JSON Lines, one object a line, as .jsonl",
    ".zip": "unpack it",
}


class Source(Protocol):
    """Rows that can be read again and again: (number, values), or (number, what is wrong with that row).

    Fields:
        path: of the file, or the folder of parts.
        typed: False where every value is text, as in CSV.
        place: "line" (of a text file; a header counts) or "row": what numbers count, from 1.
        columns: their names.
        notes: what was odd and taken all the same, as of the last pass.
    """

    @property
    def path(self) -> Path: ...
    @property
    def typed(self) -> bool: ...
    @property
    def place(self) -> str: ...
    @property
    def columns(self) -> tuple[str, ...]: ...
    @property
    def notes(self) -> Notes: ...
    def __iter__(self) -> Iterator[tuple[int, dict[str, Any] | str]]: ...
    def scan(self) -> Iterator[tuple[int, dict[str, Any] | str]]:
        """The rows without their photos, where the table holds them."""
        ...


def table_kind(path: Path) -> str:
    """csv, jsonl, xml or columnar, by the ending of the name, a `.gz` behind it left out.

    Raises:
        DataError: another ending.
    """
    packed = path.suffix.lower() == ".gz"
    suffix = Path(path.stem).suffix if packed else path.suffix
    kind = SUFFIXES.get(suffix.lower())
    if kind is None or (packed and kind not in PACKED):
        instead = f"; {_INSTEAD[suffix.lower()]}" if suffix.lower() in _INSTEAD else ""
        endings = f"{', '.join(SUFFIXES)}, the text ones also with .gz"
        raise DataError(f"{path} ends in {path.suffix!r}, expected one of {endings}{instead}")
    return kind


def open_source(path: Path, naming: Naming) -> Source:
    """Open a table.

    Args:
        path: a file, or a folder of Parquet or Arrow parts.
        naming: which columns are looked for.

    Raises:
        DataError: missing, unreadable, empty, of an unknown kind, or with a name over two columns.
    """
    if path.is_dir():
        return PartRows(path, naming)
    if not path.is_file():
        raise DataError(f"{path} cannot be read: there is no such file")
    match table_kind(path):
        case "csv":
            return CsvRows(path, naming)
        case "jsonl":
            return JsonRows(path, naming)
        case "xml":
            return XmlRows(path, naming)
    return ColumnarRows(path, naming)


class PartRows:
    """A folder of Parquet or Arrow parts, at any depth, read in the order of their names; rows are numbered on.

    Raises:
        DataError: no parts, parts of two kinds, or one that is unreadable.
    """

    typed = True
    place = "row"

    def __init__(self, path: Path, naming: Naming) -> None:
        self.path = path
        self.files = part_files(path)
        self._parts = [ColumnarRows(file, naming, partition_values(file, path)) for file in self.files]
        self.columns = tuple(dict.fromkeys(chain.from_iterable(part.columns for part in self._parts)))

    @property
    def notes(self) -> Notes:
        """Of all parts."""
        found = Notes()
        for part in self._parts:
            for note in part.notes:
                found.add(note, part.path.name)
        return found

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any] | str]]:
        rows = chain.from_iterable(self._parts)
        return ((number, values) for number, (_, values) in enumerate(rows, start=1))

    def scan(self) -> Iterator[tuple[int, dict[str, Any] | str]]:
        """The rows without their photos."""
        rows = chain.from_iterable(part.scan() for part in self._parts)
        return ((number, values) for number, (_, values) in enumerate(rows, start=1))


def part_files(folder: Path) -> list[Path]:
    """The parts below a folder; what begins with a dot or an underscore is no part.

    Raises:
        DataError: there are none, or they are of two kinds.
    """
    endings = [ending for ending, kind in SUFFIXES.items() if kind == "columnar"]
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in endings and path.is_file() and not _hidden(path.relative_to(folder))
    ]
    kinds = sorted({path.suffix.lower() for path in found})
    if not found:
        raise DataError(f"{folder} is a folder without parts; expected files that end in {', '.join(endings)} in it")
    if len(kinds) > 1:
        raise DataError(f"{folder} holds parts of two kinds, {' and '.join(kinds)}; keep one of them")
    return found


def _hidden(path: Path) -> bool:
    return any(piece.startswith((".", "_")) for piece in path.parts)
