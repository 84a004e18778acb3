"""Metadata by column, as filters are evaluated on it: some ten thousand items an Arrow record batch.

A JSON value has no type of its column, so a column becomes as many Arrow fields as it has kinds of values, each null
where an item's value is of another kind. An item without a value is null in all. The names of fields are `KIND:COLUMN`:

    i  whole numbers and truth values (as 1 and 0)      f  other numbers
    s  texts, as a dictionary where they repeat         l, o  whether it is a list, an object
    ls, li, lf  a list's elements of these kinds        ln  whether a list has null in it

Letters  n items of a chunk
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa

CHUNK_ROWS: Final = 32_768
FORM: Final[dict[str, Any]] = {"format": 1}
_FEW: Final = 4
"""A text column is a dictionary where each text stands this often on average."""
_TYPES: Final[dict[str, pa.DataType]] = {
    "i": pa.int64(),
    "f": pa.float64(),
    "s": pa.string(),
    "l": pa.bool_(),
    "o": pa.bool_(),
    "ls": pa.list_(pa.string()),
    "li": pa.list_(pa.int64()),
    "lf": pa.list_(pa.float64()),
    "ln": pa.bool_(),
}


def chunk(rows: Sequence[tuple[int, str, str | None, str]]) -> bytes:
    """One chunk as Arrow IPC.

    Args:
        rows: number, id, product id and metadata (JSON object) of each item, ascending.
    """
    columns: dict[str, list[Any]] = {}
    for place, (*_, metadata) in enumerate(rows):
        for name, value in json.loads(metadata).items():
            for kind, part in _parts(value):
                key = f"{kind}:{name}"
                if key not in columns:
                    columns[key] = [None] * len(rows)
                columns[key][place] = part
    arrays: dict[str, pa.Array] = {
        "seq": pa.array([row[0] for row in rows], pa.int64()),
        "id": pa.array([row[1] for row in rows], pa.string()),
        "product_id": _texts([row[2] for row in rows]),
    }
    for name, values in columns.items():
        kind = name.partition(":")[0]
        arrays[name] = _texts(values) if kind == "s" else pa.array(values, _TYPES[kind])
    batch = pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def read_chunk(data: memoryview) -> pa.RecordBatch:
    """A chunk without a copy: its arrays lie where the data does."""
    return pa.ipc.open_file(pa.py_buffer(data)).get_batch(0)


def _texts(values: Sequence[str | None]) -> pa.Array:
    plain = pa.array(values, pa.string())
    coded = plain.dictionary_encode()
    return coded if _FEW * len(coded.dictionary) <= len(plain) else plain


def _parts(value: Any) -> list[tuple[str, Any]]:
    """Kinds and values that a JSON value becomes."""
    match value:
        case None:
            return []
        case bool():
            return [("i", int(value))]
        case int() | float():
            return [_number(value)]
        case str():
            return [("s", value)]
        case list():
            return [("l", True), *_elements(value)]
    return [("o", True)]


def _number(value: float) -> tuple[str, float]:
    """What SQLite makes of it too: a whole number of 64 bits, else a float."""
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return "i", value
    try:
        return "f", float(value)
    except OverflowError:
        return "f", float("inf") if value > 0 else float("-inf")


def _elements(values: list[Any]) -> list[tuple[str, Any]]:
    found: dict[str, list[Any]] = {}
    for value in values:
        if value is None:
            found["ln"] = [True]
        elif not isinstance(value, list | dict):
            kind, part = _parts(value)[0]
            found.setdefault(f"l{kind}", []).append(part)
    return [(kind, True if kind == "ln" else parts) for kind, parts in found.items()]
