"""What the metadata columns hold, for people who choose by them: a few texts to pick from, numbers from and to.

Looked up in a sample of bounded size, spread evenly over the gallery, so that the cost does not grow with it.
"""

from __future__ import annotations

import itertools
import json
import math
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from threadmatch.indexer.store.database import ALIVE
from threadmatch.indexer.store.manifest import ColumnKind

SAMPLED_ROWS = 20_000
MAX_COLUMNS = 60  # described with values; further ones are named only
MAX_VALUES = 30  # a column with more is no choice but a name, a number or a text
MAX_VALUE_CHARS = 80


@dataclass(frozen=True, slots=True)
class Column:
    """One metadata column.

    Args:
        name, kind: as the manifest has them.
        values: of a text column (or a list of texts) with few of them: all that were seen, the most frequent first.
        counts: of items with each of `values`, in the rows that were looked at.
        low, high: of a number column: the least and the greatest that were seen.
    """

    name: str
    kind: ColumnKind
    values: tuple[str, ...] | None = None
    counts: tuple[int, ...] | None = None
    low: float | None = None
    high: float | None = None


def describe_columns(
    connection: sqlite3.Connection, *, kinds: Mapping[str, ColumnKind], seq: int, sampled_rows: int = SAMPLED_ROWS
) -> list[Column]:
    """Every column with what it holds.

    Args:
        connection: to the gallery's database.
        kinds: the columns, in order.
        seq: the row number that the generation stands for.
        sampled_rows: how many to look at; of a larger gallery a rare value may be missing.
    """
    texts: dict[str, Counter[str]] = {}
    spans: dict[str, tuple[float, float]] = {}
    for name, kind in itertools.islice(kinds.items(), MAX_COLUMNS):
        if kind in ("string", "list"):
            texts[name] = Counter()
        elif kind in ("integer", "number"):
            spans[name] = (math.inf, -math.inf)
    for metadata in _sample(connection, seq, sampled_rows):
        for name in list(texts):
            if not _count(texts[name], metadata.get(name)):
                del texts[name]
        for name, (low, high) in spans.items():
            value = metadata.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**63:
                spans[name] = (min(low, value), max(high, value))
    described = []
    for name, kind in kinds.items():
        seen = sorted(texts.get(name, Counter()).items(), key=lambda pair: (-pair[1], pair[0]))
        values, counts = tuple(value for value, _ in seen), tuple(count for _, count in seen)
        low, high = spans.get(name, (math.inf, -math.inf))
        known = (low, high) if low <= high else (None, None)
        described.append(Column(name, kind, values or None, counts or None, *known))
    return described


def _sample(connection: sqlite3.Connection, seq: int, count: int) -> Iterator[dict[str, Any]]:
    """Metadata of live rows; the sampled row numbers lie evenly between the first and the last."""
    numbers = np.unique(np.linspace(1, seq, min(seq, count), dtype=np.int64)).tolist() if seq else []
    rows = connection.execute(
        f"SELECT i.metadata FROM items i WHERE i.seq IN (SELECT value FROM json_each(:rows)) AND {ALIVE}",  # noqa: S608
        {"rows": json.dumps(numbers), "seq": seq},
    )
    for (metadata,) in rows:
        yield json.loads(metadata)


def _count(seen: Counter[str], value: object) -> bool:
    """Count a row's text, or its list of texts; False once the column is no choice any more."""
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str) and text:
            if len(text) > MAX_VALUE_CHARS:
                return False
            seen[text] += 1
    return len(seen) <= MAX_VALUES
