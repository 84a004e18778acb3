"""The three kinds of catalogue file, each as rows that can be read again and again."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from threadmatch.indexer.errors import CatalogueError

logger = logging.getLogger(__name__)

SUFFIXES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
DELIMITERS = ",;\t|"
MAX_CELL_CHARACTERS = 1_000_000
PARQUET_ROWS = 1024


def open_source(path: Path) -> CsvRows | JsonRows | ParquetRows:
    """Open a catalogue by the ending of its name.

    Raises:
        CatalogueError: unknown ending, unreadable, empty.
    """
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise CatalogueError(f"catalogue {path} ends in {path.suffix!r}, expected one of {', '.join(SUFFIXES)}")
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise CatalogueError(f"cannot read catalogue {path}: {error}") from error
    if not start.strip():
        raise CatalogueError(f"catalogue {path} is empty")
    if kind == "parquet":
        return ParquetRows(path)
    if start.startswith(b"PAR1") or (b"\x00" in start and not start.startswith((b"\xff\xfe", b"\xfe\xff"))):
        raise CatalogueError(
            f"catalogue {path} holds binary data, expected text; a Parquet file's name ends in .parquet"
        )
    return CsvRows(path) if kind == "csv" else JsonRows(path)


def text_encoding(path: Path) -> str:
    """The encoding of a text file: by its byte order mark, else UTF-8 where all of it is, else Windows-1252."""
    with path.open("rb") as file:
        start = file.read(3)
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    try:
        with path.open(encoding="utf-8-sig", newline="") as text:
            while text.read(1 << 20):
                pass
    except UnicodeDecodeError as error:
        logger.warning(
            "catalogue is not UTF-8 and is read as Windows-1252", extra={"path": str(path), "at": error.start}
        )
        return "cp1252"
    return "utf-8-sig"


class CsvRows:
    """Rows of a CSV file; the delimiter is the one of `,;|` and tab that splits the header best."""

    typed = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.encoding = text_encoding(path)
        with self._open() as file:
            header = file.readline()
        self.delimiter = max(DELIMITERS, key=lambda mark: _split_score(header, mark))

    def __iter__(self) -> Iterator[dict[str, Any] | str]:
        csv.field_size_limit(MAX_CELL_CHARACTERS)
        with self._open() as file:
            reader = csv.reader(file, delimiter=self.delimiter, skipinitialspace=True)
            header = [name.strip() for name in next(reader, [])]
            self._check(header)
            while True:
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    yield f"line {reader.line_num} cannot be read: {error}"
                    continue
                if not cells:
                    continue  # a blank line
                if len(cells) > len(header) and any(cells[len(header) :]):
                    more = f"{len(cells)} cells, the header has {len(header)}"
                    yield f"line {reader.line_num} has {more}; quote cells that hold {self.delimiter!r}"
                    continue
                cells += [""] * (len(header) - len(cells))
                yield {name: cell.strip() for name, cell in zip(header, cells, strict=False) if name}

    def _check(self, header: list[str]) -> None:
        named = [name for name in header if name]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise CatalogueError(f"catalogue {self.path} has more than one column {', '.join(map(repr, twice))}")

    def _open(self) -> io.TextIOWrapper:
        # Windows-1252 leaves five bytes without a meaning; they become question marks rather than stop the job.
        return self.path.open(encoding=self.encoding, errors="replace", newline="")


def _split_score(header: str, mark: str) -> tuple[bool, int]:
    names = [name.strip().lower() for name in next(csv.reader([header], delimiter=mark, skipinitialspace=True), [])]
    return "image" in names, len(names)


class JsonRows:
    """Rows of a JSON Lines file: one object a line, blank lines passed over."""

    typed = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.encoding = text_encoding(path)

    def __iter__(self) -> Iterator[dict[str, Any] | str]:
        with self.path.open(encoding=self.encoding, errors="replace") as file:
            for line_number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line, parse_constant=lambda _: None)
                except (ValueError, RecursionError) as error:
                    if line_number == 1 and line.strip().startswith("["):
                        raise CatalogueError(
                            f"catalogue {self.path} is one JSON array, expected JSON Lines: one object a line"
                        ) from error
                    yield f"line {line_number} is not JSON: {error}"
                    continue
                if isinstance(row, list) and line_number == 1:
                    raise CatalogueError(
                        f"catalogue {self.path} is one JSON array, expected JSON Lines: one object a line"
                    )
                if not isinstance(row, dict):
                    yield f"line {line_number} holds {type(row).__name__}, expected an object"
                    continue
                yield row


class ParquetRows:
    """Rows of a Parquet file, read in small batches."""

    typed = True

    def __init__(self, path: Path) -> None:
        import pyarrow
        import pyarrow.parquet

        self.path = path
        try:
            with pyarrow.parquet.ParquetFile(path) as file:
                schema = file.schema_arrow
                binary = [field.name for field in schema if pyarrow.types.is_binary(field.type)]
        except (pyarrow.ArrowException, OSError) as error:
            raise CatalogueError(f"catalogue {path} is not a readable Parquet file: {error}") from error
        if binary:
            logger.warning("columns of bytes are left out", extra={"columns": binary})
        self.columns = [field.name for field in schema if field.name not in binary]

    def __iter__(self) -> Iterator[dict[str, Any] | str]:
        import pyarrow
        import pyarrow.parquet

        try:
            with pyarrow.parquet.ParquetFile(self.path) as file:
                for batch in file.iter_batches(batch_size=PARQUET_ROWS, columns=self.columns):
                    yield from batch.to_pylist()
        except (pyarrow.ArrowException, OSError) as error:
            raise CatalogueError(f"catalogue {self.path} cannot be read to its end: {error}") from error
