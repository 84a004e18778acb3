"""Parquet and Arrow files, read in small batches; columns of kinds that no row can carry are left out by name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from threadmatch.model.data.tables.naming import Naming, clean_name, refuse_twice
from threadmatch.model.data.tables.notes import Notes
from threadmatch.model.errors import DataError

BATCH_ROWS: Final = 1024
IMAGE_BATCH_ROWS: Final = 32  # where rows hold photos
_HIVE_NULL: Final = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True, slots=True)
class EmbeddedImage:
    """A photo that stands in the table itself.

    Fields:
        data: the file's bytes.
        path: what it was called, "" where nobody says.
    """

    data: bytes
    path: str


class ColumnarRows:
    """Rows of a Parquet or Arrow file.

    Args:
        path: of the file.
        naming: which columns are looked for.
        fixed: values of further columns, the same in every row: those that a partitioned folder has in its names.

    Raises:
        DataError: unreadable, or with a name over two columns.
    """

    typed = True
    place = "row"

    def __init__(self, path: Path, naming: Naming, fixed: dict[str, str | int | None] | None = None) -> None:
        self.path = path
        self.notes = Notes()
        with _reading(path), _opened(path) as file:
            self._schema = file.schema
        names = [clean_name(name) for name in self._schema.names]
        refuse_twice(names, path)
        targets = naming.targets([*names, *(fixed or {})], self.notes)
        self._fixed = {targets[name]: value for name, value in (fixed or {}).items()}
        self._named: dict[str, str] = {}
        self._photos = ""  # the file's name of the column whose cells are photos
        for field in self._schema:
            name = targets[clean_name(field.name)]
            if name == "image" and _holds_photos(field.type):
                self._photos = field.name
            elif not _fits(field.type):
                self.notes.add(f"column {name!r} is left out: no row can carry its kind, {field.type}")
                continue
            self._named[field.name] = name
        self.columns = (*self._named.values(), *self._fixed)

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any] | str]]:
        return self._rows(list(self._named))

    def scan(self) -> Iterator[tuple[int, dict[str, Any] | str]]:
        """The rows, to look at their columns: without their photos, which are most of the file."""
        return self._rows([name for name in self._named if name != self._photos])

    def _rows(self, columns: list[str]) -> Iterator[tuple[int, dict[str, Any] | str]]:
        size = IMAGE_BATCH_ROWS if self._photos in columns else BATCH_ROWS
        number = 0
        with _reading(self.path), _opened(self.path) as file:
            for batch in file.batches(columns, size):
                cells = {self._named[name]: self._values(batch, name) for name in columns}
                for at in range(batch.num_rows):
                    number += 1
                    yield number, {**{name: values[at] for name, values in cells.items()}, **self._fixed}

    def _values(self, batch: Any, name: str) -> list[Any]:
        column = batch.column(batch.schema.get_field_index(name))
        if name == self._photos:
            return [_photo(value) for value in column.to_pylist()]
        values, lost = plain_values(column)
        if lost:
            self.notes.add(f"values of column {self._named[name]!r} are left out: {lost}")
        return values


class _Parquet:
    def __init__(self, path: Path) -> None:
        import pyarrow.parquet

        self.file = pyarrow.parquet.ParquetFile(path)
        self.schema = self.file.schema_arrow

    def batches(self, columns: list[str], size: int) -> Iterator[Any]:
        """Record batches of these columns. A dot in a name would be read as a path, so such a file is read whole."""
        plain = None if any("." in name for name in self.schema.names) else columns
        yield from self.file.iter_batches(batch_size=size, columns=plain)


class _Arrow:
    """An Arrow file, or a stream, which is what data sets saved to disk consist of."""

    def __init__(self, path: Path) -> None:
        import pyarrow

        self.source = pyarrow.memory_map(str(path))
        try:
            file = pyarrow.ipc.open_file(self.source)
            self.found: Any = (file.get_batch(number) for number in range(file.num_record_batches))
            self.schema = file.schema
        except pyarrow.ArrowInvalid:
            self.source.seek(0)
            self.found = pyarrow.ipc.open_stream(self.source)
            self.schema = self.found.schema

    def batches(self, columns: list[str], size: int) -> Iterator[Any]:
        """Record batches, cut to a size; columns are not chosen, since nothing is read before it is looked at."""
        del columns
        for batch in self.found:
            for start in range(0, batch.num_rows, size):
                yield batch.slice(start, size)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if path.suffix.lower() in (".arrow", ".feather"):
        arrow = _Arrow(path)
        with arrow.source:
            yield arrow
    else:
        parquet = _Parquet(path)
        with parquet.file:
            yield parquet


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        kind = "Arrow" if path.suffix.lower() == ".arrow" else "Parquet"
        raise DataError(f"{path} is not a readable {kind} file: {error}") from error


def _fits(kind: Any) -> bool:
    """Whether values of a kind can be carried as JSON."""
    from pyarrow import BaseExtensionType, types

    if isinstance(kind, BaseExtensionType):
        return _fits(kind.storage_type)
    if types.is_dictionary(kind):
        return _fits(kind.value_type)
    if types.is_struct(kind):
        fields = [kind.field(at) for at in range(kind.num_fields)]
        return len({field.name for field in fields}) == len(fields) and all(_fits(field.type) for field in fields)
    if types.is_map(kind):
        return _fits(kind.key_type) and _fits(kind.item_type)
    if any(check(kind) for check in (types.is_list, types.is_large_list, types.is_fixed_size_list)):
        return _fits(kind.value_type)
    plain = (
        types.is_null, types.is_boolean, types.is_integer, types.is_floating, types.is_decimal, types.is_date,
        types.is_time, types.is_timestamp, types.is_string, types.is_large_string, types.is_string_view,
    )  # fmt: skip
    return any(check(kind) for check in plain)


def _holds_photos(kind: Any) -> bool:
    """Bytes, or what data sets of Hugging Face keep: a struct of bytes and path."""
    from pyarrow import BaseExtensionType, types

    if isinstance(kind, BaseExtensionType):
        return _holds_photos(kind.storage_type)
    if types.is_struct(kind):
        at = kind.get_field_index("bytes")
        return at >= 0 and _holds_photos(kind.field(at).type)
    checks = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)
    return any(check(kind) for check in checks)


def _photo(value: Any) -> EmbeddedImage | str | None:
    if isinstance(value, dict):
        path = str(value.get("path") or "")
        return EmbeddedImage(value["bytes"], path) if value.get("bytes") else path or None
    return EmbeddedImage(value, "") if value else None


def plain_values(column: Any) -> tuple[list[Any], str]:
    """An Arrow column as plain values, and what was lost: times outside the calendar, and the like."""
    import pyarrow

    kind = column.type
    if isinstance(kind, pyarrow.BaseExtensionType):
        column = column.storage
    try:
        if pyarrow.types.is_timestamp(kind) and kind.unit == "ns":
            column = column.cast(pyarrow.timestamp("us", kind.tz), safe=False)
        elif pyarrow.types.is_time64(kind):
            column = column.cast(pyarrow.time64("us"), safe=False)
        elif pyarrow.types.is_float16(kind):
            column = column.cast(pyarrow.float32())
        return column.to_pylist(), ""
    except (ValueError, OverflowError, LookupError, pyarrow.ArrowException) as error:
        try:
            return column.cast(pyarrow.string()).to_pylist(), ""
        except (ValueError, pyarrow.ArrowException):
            return [None] * len(column), str(error)[:120]


def partition_values(part: Path, folder: Path) -> dict[str, str | int | None]:
    """The columns that a partitioned folder keeps in the names of its folders: color=red/part-0.parquet."""
    found: dict[str, str | int | None] = {}
    for piece in part.relative_to(folder).parts[:-1]:
        name, sign, text = piece.partition("=")
        if sign:
            value = unquote(text)
            number = re.fullmatch(r"0|-?[1-9]\d{0,17}", value)
            found[clean_name(unquote(name))] = None if value == _HIVE_NULL else int(value) if number else value
    return found
