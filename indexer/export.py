"""Writes a gallery out as a catalogue again, with its display photos if asked."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from PIL import Image

from threadmatch.indexer.catalogue.garments import as_cell, given_box
from threadmatch.indexer.errors import CatalogueError, DamagedItemError
from threadmatch.indexer.opening import open_gallery
from threadmatch.indexer.reading.opened import OpenSnapshot
from threadmatch.indexer.store import generations
from threadmatch.indexer.store.manifest import ColumnKind
from threadmatch.indexer.store.versions import IN_TABLE

BATCH_ROWS = 500
EXAMPLES = 5
FIELDS = ("id", "image", "product_id", "box")
SUFFIXES = (".csv", ".jsonl", ".parquet")


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote.

    Fields:
        items: rows.
        without_photo: of these, how many name no photo that an ingestion could read: they were put over HTTP, or stood
            in a table with their photo.
        examples: ids of some of them.
    """

    items: int
    without_photo: int
    examples: tuple[str, ...]

    def warning(self) -> str:
        """What the export lacks, in words; "" where it lacks nothing."""
        if not self.without_photo:
            return ""
        some = ", ".join(self.examples)
        return (
            f"{self.without_photo} of {self.items} items have no photo in this catalogue ({some}): none came from "
            "a file or an address, and ingestion would reject them. --with-photos writes the photos the gallery keeps"
        )


def export(gallery: Path, out: Path, *, photos: Path | None = None) -> Exported:
    """Write the generation in service as a catalogue that `threadmatch ingest` reads.

    Args:
        gallery: its folder.
        out: .csv, .jsonl or .parquet file; replaced only when the new one is whole.
        photos: folder for the display photos; the catalogue's image column then names them, and boxes are in their
            pixels. Without it the column holds what the gallery's own catalogue had.

    Returns:
        What was written, and what it lacks.

    Raises:
        CatalogueError: the file's ending is none of the three.
        GalleryError, DamagedItemError: the gallery cannot be read.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise CatalogueError(f"{out} ends in {out.suffix!r}, expected one of {', '.join(SUFFIXES)}")
    opened = open_gallery(gallery)
    out.parent.mkdir(parents=True, exist_ok=True)
    if photos is not None:
        photos.mkdir(parents=True, exist_ok=True)
    staging = out.with_name(f".{out.name}.partial")
    try:
        with opened.snapshot() as snapshot:
            columns = {name: kind for name, kind in snapshot.columns().items() if name not in FIELDS}
            rows = _Rows(snapshot, photos, out.parent)
            count = _WRITERS[out.suffix.lower()](staging, iter(rows), columns)
        generations.sync(staging)
        staging.replace(out)
    finally:
        staging.unlink(missing_ok=True)
        opened.close()
    return Exported(count, rows.without_photo, tuple(rows.examples))


class _Rows:
    def __init__(self, snapshot: OpenSnapshot, photos: Path | None, base: Path) -> None:
        self.snapshot, self.photos, self.base = snapshot, photos, base
        self.without_photo = 0
        self.examples: list[str] = []

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for number, item in enumerate(self.snapshot.stored_items(), start=1):
            row: dict[str, Any] = {
                "id": item.id,
                "image": item.source,
                "product_id": item.product_id,
                "box": as_cell(item.asked_box) or None,
            }
            if self.photos is not None:
                photo = self.snapshot.photo(item.id)
                path = self.photos / f"{number:07d}.jpg"
                path.write_bytes(photo)
                below = path.is_relative_to(self.base)
                row["image"] = path.relative_to(self.base).as_posix() if below else str(path.resolve())
                row["box"] = _scaled(item.asked_box, photo, item.size, item.id)
            elif not item.source or item.source.startswith(IN_TABLE):
                row["image"] = ""
                self.without_photo += 1
                if len(self.examples) < EXAMPLES:
                    self.examples.append(item.id)
            yield {**row, **{key: value for key, value in json.loads(item.metadata).items() if key not in FIELDS}}


def _scaled(box: str, photo: bytes, size: tuple[int, int], item_id: str) -> str | None:
    if not given_box(box):
        return as_cell(box) or None
    try:
        with Image.open(io.BytesIO(photo)) as image:
            width, height = image.size
    except OSError as error:
        raise DamagedItemError(item_id, "photo") from error
    scales = (width / size[0], height / size[1]) * 2
    return ",".join(f"{float(edge) * scale:.2f}" for edge, scale in zip(box.split(","), scales, strict=True))


def _write_csv(path: Path, rows: Iterator[dict[str, Any]], columns: dict[str, ColumnKind]) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*FIELDS, *columns])
        writer.writeheader()
        for count, row in enumerate(rows, start=1):  # noqa: B007
            writer.writerow({key: _cell(value) for key, value in row.items()})
    return count


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _write_jsonl(path: Path, rows: Iterator[dict[str, Any]], columns: dict[str, ColumnKind]) -> int:
    del columns  # every line names its own
    count = 0
    file: TextIO
    with path.open("w", encoding="utf-8") as file:
        for count, row in enumerate(rows, start=1):  # noqa: B007
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return count


def _write_parquet(path: Path, rows: Iterator[dict[str, Any]], columns: dict[str, ColumnKind]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_()}
    fields = [(name, pa.string()) for name in FIELDS]
    fields += [(name, types.get(kind, pa.string())) for name, kind in columns.items()]
    schema = pa.schema(fields)
    count = 0
    with pq.ParquetWriter(path, schema) as writer:
        batch: list[dict[str, Any]] = []
        for row in rows:
            batch.append({name: _parquet_value(row.get(name), columns.get(name)) for name in schema.names})
            count += 1
            if len(batch) == BATCH_ROWS:
                writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=schema))
                batch = []
        if batch:
            writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=schema))
    return count


def _parquet_value(value: Any, kind: ColumnKind | None) -> Any:
    if value is None or kind in (None, "string", "integer", "boolean"):
        return value
    if kind == "number":
        return float(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


_WRITERS = {".csv": _write_csv, ".jsonl": _write_jsonl, ".parquet": _write_parquet}
