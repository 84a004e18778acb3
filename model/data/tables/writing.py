"""Writing a table, CSV or Parquet, a row at a time."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from threadmatch.model.errors import DataError

WRITTEN: Final = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".pq": "parquet"}
BATCH_ROWS: Final = 4096


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
    kind = WRITTEN.get(path.suffix.lower())
    if kind is None:
        raise DataError(f"{path} ends in {path.suffix!r}, expected one of {', '.join(WRITTEN)}")
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
