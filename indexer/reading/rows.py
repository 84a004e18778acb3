"""Rows of a snapshot by number: positive for versions of a generation, negative for edits on top of it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from threadmatch.indexer.index import Ids


def by_row(
    connection: sqlite3.Connection, fields: str, rows: Sequence[int] | Ids, join: str = ""
) -> dict[int, tuple[Any, ...]]:
    """Look rows up.

    Args:
        connection: to the gallery's database.
        fields: SQL, of the row `i` and what is joined to it.
        rows: numbers.
        join: SQL.

    Returns:
        The fields by number; rows that are gone are left out.
    """
    numbers = [int(row) for row in rows]
    found: dict[int, tuple[Any, ...]] = {}
    for table, number, sign in (("items", "seq", 1), ("edits", "edit", -1)):
        listed = [sign * row for row in numbers if sign * row > 0]
        if listed:
            query = (
                f"SELECT i.{number}, {fields} FROM {table} i {join}"  # noqa: S608
                f" WHERE i.{number} IN (SELECT value FROM json_each(:rows))"
            )
            for row in connection.execute(query, {"rows": json.dumps(listed)}):
                found[sign * row[0]] = row[1:]
    return found
