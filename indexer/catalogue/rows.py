"""Reads a catalogue: CSV, JSON Lines or Parquet, twice, one row in memory at a time.

The first pass finds the columns, their kinds, the number of rows and the file's digest; the second gives the rows. In a
CSV file every cell is text: a column becomes numbers, or true and false, only where each of its cells reads as such and
would print back the same, so that a column with an 007 or a 12E5 in it stays text.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from threadmatch.indexer.catalogue.feeds import open_feed
from threadmatch.indexer.catalogue.values import (
    RowError,
    check_columns,
    check_id,
    is_readable,
    json_value,
    metadata_json,
    text_id,
)
from threadmatch.indexer.errors import CatalogueError
from threadmatch.model.data.tables.cells import FOR_NOTHING, CsvKinds, LabelColumns
from threadmatch.model.data.tables.columnar import EmbeddedImage
from threadmatch.model.data.tables.naming import Naming
from threadmatch.model.data.tables.opening import Source, open_source, part_files
from threadmatch.model.errors import DataError

RESERVED = ("id", "image", "product_id", "box")
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
    photo: bytes | None = field(default=None, repr=False)  # where the file holds the photo itself


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that could not be used: why, as a short stable code and in words."""

    row: int
    id: str | None
    image: str | None
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Catalogue:
    """A catalogue that was read through once.

    Fields:
        path: of the file, or the folder of parts.
        rows: how many, those that cannot be used among them.
        sha256: of the file.
        columns: their names.
        warnings: what was odd and taken all the same, in words.
    """

    path: Path
    rows: int
    sha256: str
    columns: tuple[str, ...]
    warnings: tuple[str, ...]
    _source: Source = field(repr=False)
    _kinds: CsvKinds = field(repr=False)
    _labels: LabelColumns = field(repr=False)

    @classmethod
    def open(cls, path: Path, mapped: dict[str, str] | None = None, preset: str = "") -> Catalogue:
        """Read a catalogue through once.

        Args:
            path: a file, or a folder of Parquet parts.
            mapped: for names of RESERVED the file's own names.
            preset: a shop system whose feed it is, of `feeds.PRESETS`.

        Raises:
            CatalogueError: missing, unreadable, empty, of an unknown kind, or without a column `image`.
        """
        if not path.exists():
            raise CatalogueError(f"no catalogue at {path}; give a .csv, .jsonl or .parquet file")
        try:
            source: Source = (
                open_source(path, Naming(RESERVED, mapped or {}))
                if not preset
                else open_feed(path, preset, RESERVED, mapped or {})
            )
            kinds, labels = CsvKinds(), LabelColumns(("id", "product_id"))
            columns: dict[str, None] = dict.fromkeys(source.columns)
            rows = 0
            for _, values in source.scan():
                rows += 1
                if isinstance(values, str):
                    continue
                if source.typed:
                    labels.add({name: values.get(name) for name in labels.names if isinstance(values.get(name), str)})
                else:
                    labels.add(values)
                    kinds.add({name: cell for name, cell in values.items() if name not in RESERVED})
            if not rows:
                raise CatalogueError(f"catalogue {path} holds no rows")
            check_columns(path, list(columns))
            warnings = (*source.notes, *labels.notes(), *kinds.notes())
            return cls(path, rows, _sha256(path), tuple(columns), warnings, source, kinds, labels)
        except (DataError, OSError) as error:
            raise CatalogueError(f"catalogue {error}" if str(path) in str(error) else f"{path}: {error}") from error

    def __iter__(self) -> Iterator[CatalogueRow | Reject]:
        rows = iter(self._source)
        number = 0
        while True:
            try:
                place, values = next(rows)
            except StopIteration:
                return
            except (DataError, OSError) as error:
                raise CatalogueError(f"catalogue {error}") from error
            number += 1
            if isinstance(values, str):
                yield Reject(number, None, None, "bad_row", f"{self._source.place} {place}: {values}")
            else:
                yield self._row(number, values)

    def _row(self, number: int, values: dict[str, Any]) -> CatalogueRow | Reject:
        given = values.get("image")
        photo = given.data if isinstance(given, EmbeddedImage) else None
        image = (given.path or f"{self.path.name}#{number}") if isinstance(given, EmbeddedImage) else _text(given)
        item_id = None
        try:
            item_id = self._id(values, "id")
            if not image or (photo is None and image in FOR_NOTHING):
                raise RowError("no_image", f"the image cell is {image!r}; give a path or an address")
            if photo is None and not isinstance(given, str):
                raise RowError("bad_row", f"image is {type(given).__name__}, expected a path or an address")
            row = CatalogueRow(
                number,
                item_id or id_from_image(image),
                image,
                self._id(values, "product_id"),
                _box_text(values.get("box")),
                self._metadata(values),
                photo,
            )
            _check_row(row)
        except RowError as error:
            known = item_id or (id_from_image(image) if image and error.reason != "bad_id" else None)
            return Reject(number, known, image or None, error.reason, str(error))
        return row

    def _id(self, values: dict[str, Any], name: str) -> str | None:
        value = values.get(name)
        return text_id(self._labels.clean(name, value.strip()) if isinstance(value, str) else value, name)

    def _metadata(self, values: dict[str, Any]) -> str:
        others = {key: value for key, value in values.items() if key not in RESERVED}
        if self._source.typed:
            return metadata_json({key: json_value(value, key) for key, value in others.items()})
        return metadata_json({key: self._kinds.convert(key, value) for key, value in others.items()})


def _check_row(row: CatalogueRow) -> None:
    check_id(row.id)
    if row.product_id and not is_readable(row.product_id):
        raise RowError("bad_row", f"product_id {row.product_id[:80]!r} holds characters that cannot be printed")
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
    text = _text(value)
    return "" if text in FOR_NOTHING else text


def _sha256(path: Path) -> str:
    """Of a file; of a folder of parts, of their names and digests."""
    if path.is_dir():
        parts = [f"{part.relative_to(path).as_posix()} {_sha256(part)}\n" for part in part_files(path)]
        return hashlib.sha256("".join(parts).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
