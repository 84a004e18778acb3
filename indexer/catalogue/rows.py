"""Reads a catalogue: CSV, JSON Lines or Parquet, twice, one row in memory at a time.

The first pass finds the columns, their kinds, the number of rows and the file's digest; the second gives the rows. In a
CSV file every cell is text: a column becomes numbers, or true and false, only where each of its cells reads as such, so
that a column with an 007 in it stays text.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from threadmatch.indexer.catalogue.files import open_source
from threadmatch.indexer.catalogue.values import CsvKinds, RowError, check_columns, json_value, metadata_json, text_id
from threadmatch.indexer.errors import CatalogueError

RESERVED = ("id", "image", "product_id", "box")
MAX_ID_CHARACTERS = 512
MAX_METADATA_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class CatalogueRow:
    """A row that can be tried. `number` counts the file's rows from 1, its header left out."""

    number: int
    id: str
    image: str
    product_id: str | None
    box: str  # as written, "" for the whole image
    metadata: str  # JSON object


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that could not be used: why, as a short stable code and in words."""

    row: int
    id: str | None
    image: str | None
    reason: str
    message: str


class Source(Protocol):
    """A file of rows. Each iteration starts anew and gives a dict a row, or a text that says what is wrong with it."""

    typed: bool  # False where every value is text

    def __iter__(self) -> Iterator[dict[str, Any] | str]: ...


@dataclass(frozen=True, slots=True)
class Catalogue:
    """A catalogue that was read through once."""

    path: Path
    rows: int
    sha256: str
    columns: tuple[str, ...]
    _source: Source = field(repr=False)
    _kinds: CsvKinds = field(repr=False)

    @classmethod
    def open(cls, path: Path) -> Catalogue:
        """Read a catalogue through once.

        Raises:
            CatalogueError: missing, unreadable, empty, of an unknown kind, or without a column `image`.
        """
        if not path.is_file():
            raise CatalogueError(f"no catalogue at {path}; give a .csv, .jsonl or .parquet file")
        source = open_source(path)
        kinds = CsvKinds()
        columns: dict[str, None] = {}
        rows = 0
        for values in source:
            rows += 1
            if isinstance(values, str):
                continue
            columns.update(dict.fromkeys(values))
            if not source.typed:
                kinds.add(values)
        if not rows:
            raise CatalogueError(f"catalogue {path} holds no rows")
        check_columns(path, list(columns))
        return cls(path, rows, _sha256(path), tuple(columns), source, kinds)

    def __iter__(self) -> Iterator[CatalogueRow | Reject]:
        for number, values in enumerate(self._source, start=1):
            if isinstance(values, str):
                yield Reject(number, None, None, "bad_row", values)
            else:
                yield self._row(number, values)

    def _row(self, number: int, values: dict[str, Any]) -> CatalogueRow | Reject:
        image = _text(values.get("image"))
        item_id = None
        try:
            item_id = text_id(values.get("id"), "id")
            if not image:
                raise RowError("no_image", "the image cell is empty; give a path or an address")
            if not isinstance(values["image"], str):
                raise RowError("bad_row", f"image is {type(values['image']).__name__}, expected a path or an address")
            product_id = text_id(values.get("product_id"), "product_id")
            row = CatalogueRow(
                number,
                item_id or id_from_image(image),
                image,
                product_id,
                _box_text(values.get("box")),
                self._metadata(values),
            )
            _check_row(row)
        except RowError as error:
            return Reject(number, item_id, image or None, error.reason, str(error))
        return row

    def _metadata(self, values: dict[str, Any]) -> str:
        others = {key: value for key, value in values.items() if key not in RESERVED}
        if self._source.typed:
            return metadata_json({key: json_value(value, key) for key, value in others.items()})
        return metadata_json({key: self._kinds.convert(key, value) for key, value in others.items()})


def _check_row(row: CatalogueRow) -> None:
    if len(row.id) > MAX_ID_CHARACTERS or not row.id.isprintable():
        raise RowError("bad_id", f"an id has at most {MAX_ID_CHARACTERS} printable characters; give the row another id")
    try:
        size = len(row.metadata.encode())
        for text in (row.image, row.product_id or "", row.box):
            text.encode()
    except UnicodeEncodeError as error:
        raise RowError("bad_row", f"the row holds text that is not valid Unicode: {error}") from error
    if size > MAX_METADATA_BYTES:
        raise RowError("bad_row", f"the row has {size} bytes of metadata, at most {MAX_METADATA_BYTES} are taken")


def id_from_image(image: str) -> str:
    """The id of a row that gives none: its image's path, cleaned of "./" and doubled slashes, or its address."""
    if urlsplit(image).scheme in ("http", "https"):
        return image
    return re.sub(r"/+", "/", re.sub(r"(^|/)(\./)+", r"\1", image.replace("\\", "/")))


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _box_text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(str(edge) for edge in value)
    return _text(value)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
