"""A condition as SQLite's WHERE clause, over items whose metadata is JSON text. Every clause is 0 or 1, never NULL."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Final, assert_never

from threadmatch.indexer.reading.conditions import (
    All,
    Always,
    AnyOf,
    Condition,
    Contains,
    Equal,
    EqualColumns,
    Missing,
    Named,
    Not,
    OneOf,
    Ordered,
    OrderedColumns,
    SameText,
    Scalar,
    folded,
)

FOLDED: Final = "threadmatch_folded"


def add_functions(connection: sqlite3.Connection) -> None:
    """Teach a connection what clauses call beside SQLite's own functions."""

    def fold(value: object) -> str | None:
        return folded(value) if isinstance(value, str) else None

    connection.create_function(FOLDED, 1, fold, deterministic=True)


@dataclass(frozen=True, slots=True)
class Clause:
    """SQL over `items i`, with its named values."""

    sql: str
    values: dict[str, Scalar | None]


def to_sql(condition: Condition) -> Clause:
    """Compile a condition for SQLite."""
    writer = _Writer()
    return Clause(writer.condition(condition), writer.values)


@dataclass(frozen=True, slots=True)
class _Column:
    sql: str  # its value; NULL where missing, a list or an object
    type_sql: str  # its JSON type; NULL or 'null' where missing
    path: str  # the parameter that holds its JSON path; "" for a field


class _Writer:
    def __init__(self) -> None:
        self.values: dict[str, Scalar | None] = {}

    def condition(self, condition: Condition) -> str:
        match condition:
            case Always(value):
                return "1" if value else "0"
            case All(parts):
                return "(" + " AND ".join(map(self.condition, parts)) + ")"
            case AnyOf(parts):
                return "(" + " OR ".join(map(self.condition, parts)) + ")"
            case Not(inner):
                return f"(NOT {self.condition(inner)})"
            case Missing(column):
                return f"(coalesce({self.column(column).type_sql}, 'null') = 'null')"
            case Equal(column, value):
                return f"({self.column(column).sql} IS {self.bind(value)})"
            case OneOf(column, values):
                return f"coalesce({self.column(column).sql} IN ({', '.join(map(self.bind, values))}), 0)"
            case Ordered(column, order, value):
                sql = self.column(column).sql
                kinds = "'text'" if isinstance(value, str) else "'integer', 'real'"
                return f"(typeof({sql}) IN ({kinds}) AND {sql} {order} {self.bind(value)})"
            case EqualColumns(first, second):
                one, other = self.column(first), self.column(second)
                return f"({_plain(one)} AND {_plain(other)} AND {one.sql} IS {other.sql})"
            case OrderedColumns(first, order, second):
                one, other = self.column(first), self.column(second)
                kinds = f"{_type_class(one.sql)} = {_type_class(other.sql)}"
                return f"coalesce({kinds} AND {one.sql} {order} {other.sql}, 0)"
            case SameText(column, text):
                return f"coalesce({FOLDED}({self.column(column).sql}) = {self.bind(folded(text))}, 0)"
            case Contains(column, value):
                return self.contains(self.column(column), value)
        assert_never(condition)

    def contains(self, column: _Column, value: Scalar | None) -> str:
        name = self.bind(value)
        part = f"instr({column.sql}, {name}) > 0" if isinstance(value, str) else "0"
        if not column.path:
            return f"coalesce({part}, 0)"
        element = (
            f"EXISTS (SELECT 1 FROM json_each(i.metadata, {column.path}) AS e"  # noqa: S608
            f" WHERE e.type NOT IN ('array', 'object') AND e.value IS {name})"
        )
        return f"(CASE {column.type_sql} WHEN 'array' THEN {element} WHEN 'text' THEN {part} ELSE 0 END)"

    def column(self, column: Named) -> _Column:
        if column.is_field:
            sql = f"i.{column.name}"
            return _Column(sql, f"CASE WHEN {sql} IS NULL THEN 'null' ELSE 'text' END", "")
        path = self.bind(f'$."{column.name}"')
        type_sql = f"json_type(i.metadata, {path})"
        sql = f"json_extract(i.metadata, {path})"
        if column.kind == "mixed":
            sql = f"(CASE WHEN {type_sql} IN ('array', 'object') THEN NULL ELSE {sql} END)"
        return _Column(sql, type_sql, path)

    def bind(self, value: Scalar | None) -> str:
        for name, known in self.values.items():
            if type(known) is type(value) and known == value:
                return f":{name}"
        name = f"v{len(self.values)}"
        self.values[name] = value
        return f":{name}"


def _plain(column: _Column) -> str:
    return f"coalesce({column.type_sql}, 'null') NOT IN ('array', 'object')"


def _type_class(sql: str) -> str:
    return f"(CASE typeof({sql}) WHEN 'integer' THEN 'n' WHEN 'real' THEN 'n' WHEN 'text' THEN 't' END)"
