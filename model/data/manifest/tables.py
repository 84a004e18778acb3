"""The two kinds of file a manifest comes in, CSV and Parquet, read and written a row at a time."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, Protocol

from threadmatch.model.errors import DataError

Cells = dict[str, str]
"""A row: column name to text, both without spaces around; an empty cell is ""."""

SUFFIXES: Final = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".pq": "parquet"}
DELIMITERS: Final = ",;\t|"
MAX_CELL_CHARACTERS: Final = 1_000_000
BATCH_ROWS: Final = 4096


class Table(Protocol):
    """Rows that can be read again and again: (number, cells), or (number, what is wrong with that row)."""

    place: str
    columns: tuple[str, ...]

    def __iter__(self) -> Iterator[tuple[int, Cells | str]]: ...


def table_kind(path: Path) -> str:
    """csv or parquet, by the ending of the name.

    Raises:
        DataError: another ending.
    """
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise DataError(f"{path} ends in {path.suffix!r}, expected one of {', '.join(SUFFIXES)}")
    return kind


def open_table(path: Path) -> Table:
    """Open a table and read its header.

    Raises:
        DataError: missing, unreadable, empty, of an unknown kind, or with a column named twice.
    """
    table: Table = CsvTable(path) if table_kind(path) == "csv" else ParquetTable(path)
    named = [name for name in table.columns if name]
    if twice := sorted({name for name in named if named.count(name) > 1}):
        raise DataError(f"{path} has more than one column {', '.join(map(repr, twice))}; keep one of each")
    if not named:
        raise DataError(f"{path} is empty; its first line names the columns")
    return table


class CsvTable:
    """A CSV file, UTF-8; the delimiter is the one of comma, semicolon, tab and bar that splits the header best.

    Rows are numbered by the line they end on, the header being line 1, as an editor counts.
    """

    place = "line"

    def __init__(self, path: Path) -> None:
        self.path = path
        csv.field_size_limit(MAX_CELL_CHARACTERS)
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                header = file.readline()
        except (OSError, UnicodeDecodeError) as error:
            raise self._unreadable(error) from error
        self.delimiter = max(DELIMITERS, key=lambda mark: len(_split(header, mark)))
        self.columns = tuple(_split(header, self.delimiter))

    def __iter__(self) -> Iterator[tuple[int, Cells | str]]:
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.reader(file, delimiter=self.delimiter, skipinitialspace=True)
                next(reader, None)
                while True:
                    try:
                        cells = next(reader)
                    except StopIteration:
                        return
                    except csv.Error as error:
                        yield reader.line_num, f"cannot be read: {error}"
                        continue
                    if cells:  # else a blank line
                        yield reader.line_num, self._named(cells)
        except (OSError, UnicodeDecodeError) as error:
            raise self._unreadable(error) from error

    def _named(self, cells: list[str]) -> Cells | str:
        if len(cells) > len(self.columns) and any(cells[len(self.columns) :]):
            quote = f"quote cells that hold {self.delimiter!r}, such as a box"
            return f"{len(cells)} cells, the header has {len(self.columns)}; {quote}"
        return {name: cells[at].strip() if at < len(cells) else "" for at, name in enumerate(self.columns) if name}

    def _unreadable(self, error: Exception) -> DataError:
        if isinstance(error, UnicodeDecodeError):
            return DataError(f"{self.path} is not UTF-8 text ({error.reason}); save it as UTF-8")
        return DataError(f"{self.path} cannot be read: {error}")


def _split(header: str, mark: str) -> list[str]:
    try:
        return [name.strip() for name in next(csv.reader([header], delimiter=mark, skipinitialspace=True), [])]
    except csv.Error:
        return []


class ParquetTable:
    """A Parquet file; numbers and lists become text. Rows are numbered from 1."""

    place = "row"

    def __init__(self, path: Path) -> None:
        import pyarrow
        import pyarrow.parquet

        self.path = path
        try:
            with pyarrow.parquet.ParquetFile(path) as file:
                self.columns = tuple(file.schema_arrow.names)
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{path} is not a readable Parquet file: {error}") from error

    def __iter__(self) -> Iterator[tuple[int, Cells | str]]:
        import pyarrow
        import pyarrow.parquet

        number = 0
        try:
            with pyarrow.parquet.ParquetFile(self.path) as file:
                for batch in file.iter_batches(batch_size=BATCH_ROWS):
                    for row in batch.to_pylist():
                        number += 1
                        yield number, {name: _text(value) for name, value in row.items()}
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{self.path} cannot be read behind row {number}: {error}") from error


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return ",".join(_text(part) for part in value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> int:
    """Write a table aside, then rename it: a file that exists is whole.

    Args:
        path: its ending says the kind.
        columns: in this order; a row's other names are left out, those it lacks are empty.
        rows: taken one at a time.

    Returns:
        Rows written.

    Raises:
        DataError: unknown ending. OSError: no room, no right to write.
    """
    kind = table_kind(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.partial")
    try:
        count = (_write_csv if kind == "csv" else _write_parquet)(staging, columns, rows)
        staging.replace(path)
    finally:
        staging.unlink(missing_ok=True)
    return count


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> int:
    count = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        delimiter = "\t" if path.name.endswith(".tsv.partial") else ","
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore", delimiter=delimiter)
        writer.writeheader()
        for row in rows:
            writer.writerow(row)
            count += 1
        file.flush()
        os.fsync(file.fileno())
    return count


def _write_parquet(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> int:
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema([(name, pyarrow.string()) for name in columns])
    count = 0
    remaining = iter(rows)
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        while batch := list(islice(remaining, BATCH_ROWS)):
            values = {name: [row.get(name, "") for row in batch] for name in columns}
            writer.write_table(pyarrow.table(values, schema=schema))
            count += len(batch)
    return count
