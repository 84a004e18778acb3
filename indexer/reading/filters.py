"""Filter expressions: a small part of Python's grammar, turned into a WHERE clause. Nothing is ever evaluated.

    category == "Tops" and price < 50 and color in ["red", "blue"] and not (brand == "Acme")
    10 <= price < 20
    season != "winter"      true for items without a season; `season == None` finds them
    "cotton" in materials   an element of a list column, or a part of a text column
    item["sleeve length"]   a column whose name is not a plain word

Values compare as in Python, with one difference: `<` and its kin are false, not an error, where the kinds differ or a
value is missing. Every clause is 0 or 1, never NULL, so that `not` means what it says.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from threadmatch.indexer.errors import FilterError
from threadmatch.indexer.store.manifest import ColumnKind

MAX_CHARACTERS = 2000
MAX_DEPTH = 20  # SQLite's own parser gives up at about twice that
FIELDS = ("id", "product_id")  # columns every gallery has
CONSTANT_NAMES: dict[str, bool | None] = {"true": True, "false": False, "null": None}
NUMBERS: tuple[ColumnKind, ...] = ("integer", "number", "boolean")
ALLOWED = "allowed are columns, numbers, texts, lists of them, ==, !=, <, <=, >, >=, in, not in, and, or, not"

Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Clause:
    """SQL over `items i`, with its named values."""

    sql: str
    values: dict[str, Value]


@dataclass(frozen=True, slots=True)
class _Column:
    sql: str  # its value; NULL where missing, a list or an object
    type_sql: str  # its JSON type; NULL or 'null' where missing
    path: str  # name of the parameter that holds its JSON path; "" for a field
    kind: ColumnKind
    node: ast.expr


@dataclass(frozen=True, slots=True)
class _Constant:
    value: Value
    node: ast.expr


_HABITS = (
    (r"&&|\|\|", "write `and` and `or`"),
    (r"\b(AND|OR|NOT|IN)\b", "write `and`, `or`, `not` and `in` in small letters"),
    (r"(?i)\blike\b", 'a part of a text is found by `"part" in column`'),
    (r"(?i)\bbetween\b", "a range is written `10 <= column < 20`"),
    (r"(?<![=!<>])=(?!=)", "write `==` to compare"),
)

_ORDER = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
_MIRROR = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


def compile_filter(expression: str, columns: Mapping[str, ColumnKind]) -> Clause:
    """Turn a filter expression into SQL.

    Args:
        expression: see above.
        columns: the gallery's metadata columns and their kinds; `id` and `product_id` come with every gallery.

    Raises:
        FilterError: the expression cannot be understood; says where and what is allowed.
    """
    if len(expression) > MAX_CHARACTERS:
        raise FilterError(
            f"the filter has {len(expression)} characters, at most {MAX_CHARACTERS} are taken",
            expression=expression[:80] + "...",
        )
    text = expression.replace("\n", " ").replace("\r", " ").strip()
    try:
        tree = ast.parse(text, mode="eval")
        compiler = _Compiler(expression=text, columns=columns)
        return Clause(compiler.condition(tree.body), compiler.values)
    except SyntaxError as error:
        position = error.offset - 1 if error.offset else len(text)  # without a place it is the end that is missing
        raise FilterError(
            f"not a filter: {error.msg}; {_hint(text) or ALLOWED}", expression=text, position=position
        ) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise FilterError(f"not a filter: {error or 'nested too deeply'}", expression=text) from error


class _Compiler:
    def __init__(self, *, expression: str, columns: Mapping[str, ColumnKind]) -> None:
        self.expression, self.columns = expression, columns
        self.values: dict[str, Value] = {}

    def condition(self, node: ast.expr, depth: int = 0) -> str:
        """SQL of a node that is true or false."""
        if depth > MAX_DEPTH:
            raise self._error(f"the filter is nested more than {MAX_DEPTH} deep", node)
        match node:
            case ast.BoolOp(op=op, values=parts):
                word = " AND " if isinstance(op, ast.And) else " OR "
                return "(" + word.join(self.condition(part, depth + 1) for part in parts) + ")"
            case ast.UnaryOp(op=ast.Not(), operand=inner):
                return f"(NOT {self.condition(inner, depth + 1)})"
            case ast.Compare(left=left, ops=ops, comparators=rest):
                operands = [left, *rest]
                steps = [self._compare(operands[n], op, operands[n + 1], node) for n, op in enumerate(ops)]
                return "(" + " AND ".join(steps) + ")"
            case ast.Name() | ast.Subscript():
                return self._bare(node)
        raise self._error(f"{_describe(node)} is no condition; {ALLOWED}", node)

    def _bare(self, node: ast.expr) -> str:
        operand = self._operand(node)
        if isinstance(operand, _Constant):
            if isinstance(operand.value, bool):
                return "1" if operand.value else "0"
        elif operand.kind in ("boolean", "empty"):
            return f"coalesce({operand.sql} = 1, 0)"
        raise self._error("only a column of true and false can stand alone; compare it with something", node)

    def _compare(self, left: ast.expr, op: ast.cmpop, right: ast.expr, whole: ast.expr) -> str:
        if isinstance(op, ast.In | ast.NotIn):
            sql = self._membership(left, right)
            return f"(NOT {sql})" if isinstance(op, ast.NotIn) else sql
        first, second = self._operand(left), self._operand(right)
        if isinstance(first, _Constant) and isinstance(second, _Constant):
            raise self._error("compares two constants; one side must be a column", whole)
        if isinstance(op, ast.Eq | ast.NotEq):
            sql = self._equal(first, second)
            return f"(NOT {sql})" if isinstance(op, ast.NotEq) else sql
        sign = _ORDER.get(type(op))
        if sign is None:
            raise self._error("`is` is not known here; use == or !=", whole)
        return self._ordered(first, sign, second)

    def _equal(self, first: _Column | _Constant, second: _Column | _Constant) -> str:
        if isinstance(first, _Constant):
            first, second = second, first
        assert isinstance(first, _Column)
        if isinstance(second, _Constant) and second.value is None:
            return f"(coalesce({first.type_sql}, 'null') = 'null')"
        self._scalar(first)
        if isinstance(second, _Constant):
            return f"({first.sql} IS {self._bind(second.value, second.node)})"
        self._scalar(second)
        both_plain = f"{_plain(first)} AND {_plain(second)}"
        return f"({both_plain} AND {first.sql} IS {second.sql})"

    def _ordered(self, first: _Column | _Constant, sign: str, second: _Column | _Constant) -> str:
        if isinstance(first, _Constant):
            first, second, sign = second, first, _MIRROR[sign]
        assert isinstance(first, _Column)
        self._scalar(first)
        if isinstance(second, _Column):
            self._scalar(second)
            kinds = f"{_type_class(first.sql)} = {_type_class(second.sql)}"
            return f"coalesce({kinds} AND {first.sql} {sign} {second.sql}, 0)"
        if second.value is None:
            raise self._error("nothing is less or more than None; use == or !=", second.node)
        if isinstance(second.value, str):
            guard = f"typeof({first.sql}) = 'text'"
        else:
            guard = f"typeof({first.sql}) IN ('integer', 'real')"
        return f"({guard} AND {first.sql} {sign} {self._bind(second.value, second.node)})"

    def _membership(self, left: ast.expr, right: ast.expr) -> str:
        if isinstance(right, ast.List | ast.Tuple | ast.Set):
            column = self._operand(left)
            if isinstance(column, _Constant):
                raise self._error("the left side of `in [...]` must be a column", left)
            self._scalar(column)
            constants = [self._constant(element) for element in right.elts]
            names = ", ".join(self._bind(c.value, c.node) for c in constants if c.value is not None)
            sql = f"coalesce({column.sql} IN ({names}), 0)"
            if any(constant.value is None for constant in constants):
                sql = f"({sql} OR coalesce({column.type_sql}, 'null') = 'null')"
            return sql
        column, constant = self._operand(right), self._operand(left)
        if isinstance(column, _Constant) or isinstance(constant, _Column):
            raise self._error(
                "`in` needs a list in brackets, or a constant on its left and a column on its right", right
            )
        return self._contains(column, constant)

    def _contains(self, column: _Column, constant: _Constant) -> str:
        if column.kind in NUMBERS:
            raise self._error("`in` looks into texts and lists, and this column holds neither", column.node)
        name = self._bind(constant.value, constant.node)
        part = f"instr({column.sql}, {name}) > 0" if isinstance(constant.value, str) else "0"
        if not column.path:
            return f"coalesce({part}, 0)"
        element = (
            f"EXISTS (SELECT 1 FROM json_each(i.metadata, {column.path}) AS e"  # noqa: S608
            f" WHERE e.type NOT IN ('array', 'object') AND e.value IS {name})"
        )
        return f"(CASE {column.type_sql} WHEN 'array' THEN {element} WHEN 'text' THEN {part} ELSE 0 END)"

    def _operand(self, node: ast.expr) -> _Column | _Constant:
        match node:
            case ast.Name(id=name):
                if name in self.columns or name in FIELDS or name not in CONSTANT_NAMES:
                    return self._column(name, node)
                return _Constant(CONSTANT_NAMES[name], node)
            case ast.Subscript(value=ast.Name(id="item"), slice=ast.Constant(value=str() as name)):
                return self._column(name, node)
        return self._constant(node)

    def _constant(self, node: ast.expr) -> _Constant:
        match node:
            case ast.Constant(value=bool() | str() | int() | float() | None as value):
                return _Constant(value, node)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return _Constant(-number, node)
            case ast.Name(id=name) if name in CONSTANT_NAMES:
                return _Constant(CONSTANT_NAMES[name], node)
        raise self._error(f"{_describe(node)} is not allowed here; {ALLOWED}", node)

    def _column(self, name: str, node: ast.expr) -> _Column:
        if name in FIELDS:
            sql = f"i.{name}"
            return _Column(sql, f"CASE WHEN {sql} IS NULL THEN 'null' ELSE 'text' END", "", "string", node)
        if name not in self.columns:
            known = [*FIELDS, *self.columns]
            near = difflib.get_close_matches(name, known, n=3)
            if near:
                raise self._error(f"no column {name!r}; did you mean {', '.join(near)}?", node)
            raise self._error(
                f'no column {name!r}; there is: {", ".join(known[:20])}. If it is a text, put it in quotes: "{name}"',
                node,
            )
        if '"' in name or "\\" in name or not name.isprintable():
            raise self._error(f"column {name!r} cannot be filtered because of its name; rename it", node)
        kind = self.columns[name]
        path = self._bind(f'$."{name}"', node)
        type_sql = f"json_type(i.metadata, {path})"
        sql = f"json_extract(i.metadata, {path})"
        if kind == "mixed":
            sql = f"(CASE WHEN {type_sql} IN ('array', 'object') THEN NULL ELSE {sql} END)"
        return _Column(sql, type_sql, path, kind, node)

    def _scalar(self, column: _Column) -> None:
        if column.kind in ("list", "object"):
            raise self._error(f"a column of kind {column.kind} cannot be compared; use VALUE in COLUMN", column.node)

    def _bind(self, value: Value, node: ast.expr) -> str:
        if isinstance(value, int) and abs(value) >= 2**63:
            raise self._error("the number is too large", node)
        if isinstance(value, str) and not _encodes(value):
            raise self._error("the text is not valid Unicode", node)
        for name, known in self.values.items():
            if type(known) is type(value) and known == value:
                return f":{name}"
        name = f"v{len(self.values)}"
        self.values[name] = value
        return f":{name}"

    def _error(self, message: str, node: ast.expr) -> FilterError:
        before = self.expression.encode("utf-8", "replace")[: node.col_offset]
        return FilterError(message, expression=self.expression, position=len(before.decode("utf-8", "ignore")))


def _plain(column: _Column) -> str:
    return f"coalesce({column.type_sql}, 'null') NOT IN ('array', 'object')"


def _type_class(sql: str) -> str:
    return f"(CASE typeof({sql}) WHEN 'integer' THEN 'n' WHEN 'real' THEN 'n' WHEN 'text' THEN 't' END)"


def _encodes(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _hint(text: str) -> str:
    """How to write what was probably meant, where people write SQL or C."""
    for pattern, advice in _HABITS:
        if re.search(pattern, text):
            return advice
    return ""


def _describe(node: ast.expr) -> str:
    names = {
        ast.Call: "a call",
        ast.BinOp: "arithmetic",
        ast.Constant: "a constant",
        ast.Attribute: "a dot",
        ast.Lambda: "a function",
        ast.IfExp: "if ... else",
    }
    return names.get(type(node), type(node).__name__.lower())
