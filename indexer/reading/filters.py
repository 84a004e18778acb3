"""Filter expressions: a small part of Python's grammar, parsed to a condition. Nothing is ever evaluated.

    category == "Tops" and price < 50 and color in ["red", "blue"] and not (brand == "Acme")
    10 <= price < 20
    color ~= "Red"          the same text, whatever its case
    season != "winter"      true for items without a season; `season == None` finds them
    "cotton" in materials   an element of a list column, or a part of a text column
    predicted.neckline == "v"   a column with a dot in its name, as those that a model reads off photos have
    item["sleeve length"]   a column whose name is not a plain word, or a word of Python such as `class`

A constant of another kind than the column's values, as in `price < 30` where price is a text, is refused: it would
match nothing, in silence. What a condition means says `indexer.reading.conditions`.
"""

from __future__ import annotations

import ast
import difflib
import keyword
import re
import unicodedata
from collections.abc import Mapping
from typing import Final

from threadmatch.indexer.catalogue.values import is_readable
from threadmatch.indexer.errors import FilterError
from threadmatch.indexer.reading.conditions import (
    FIELDS,
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
    Order,
    Ordered,
    OrderedColumns,
    SameText,
    Scalar,
)
from threadmatch.indexer.reading.filter_kinds import NUMBERS, check_constant, check_two_columns
from threadmatch.indexer.store.manifest import ColumnKind
from threadmatch.model.attributes.values import PREDICTED

MAX_CHARACTERS: Final = 2000
MAX_DEPTH: Final = 20  # SQLite's own parser gives up at about twice that
CONSTANT_NAMES: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None}
ALLOWED: Final = (
    "allowed are columns, numbers, texts, lists of them, ==, !=, ~=, <, <=, >, >=, in, not in, and, or, not"
)

_HABITS: Final = (
    (r"&&|\|\|", "write `and` and `or`"),
    (r"\b(AND|OR|NOT|IN)\b", "write `and`, `or`, `not` and `in` in small letters"),
    (r"(?i)\bilike\b", 'a text is found whatever its case by `column ~= "red"`'),
    (r"(?i)\blike\b", 'a part of a text is found by `"part" in column`'),
    (r"(?i)\bbetween\b", "a range is written `10 <= column < 20`"),
    (r"(?<![=!<>])=(?!=)", "write `==` to compare"),
)
_TILDE: Final = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|~=|>>")
"""A text in quotes, which stays as it is, or a sign."""
_ORDER: Final[dict[type[ast.cmpop], Order]] = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
_MIRROR: Final[dict[Order, Order]] = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


def parse_filter(expression: str, columns: Mapping[str, ColumnKind]) -> Condition:
    """Turn a filter expression into a condition.

    Args:
        expression: see above.
        columns: the gallery's metadata columns and their kinds; `id` and `product_id` come with every gallery.

    Raises:
        FilterError: the expression cannot be understood, or compares a column with what it does not hold; says where
            and what is allowed.
    """
    if len(expression) > MAX_CHARACTERS:
        raise FilterError(
            f"the filter has {len(expression)} characters, at most {MAX_CHARACTERS} are taken",
            expression=expression[:80] + "...",
        )
    text = expression.replace("\n", " ").replace("\r", " ").strip()
    try:
        tree = ast.parse(_as_python(text), mode="eval")
        return _Parser(expression=text, columns=columns).condition(tree.body)
    except SyntaxError as error:
        position = error.offset - 1 if error.offset else len(text)  # without a place it is the end that is missing
        hint = odd_name_hint(text, columns) or _hint(text) or ALLOWED
        raise FilterError(f"not a filter: {error.msg}; {hint}", expression=text, position=position) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise FilterError(f"not a filter: {error or 'nested too deeply'}", expression=text) from error


def _as_python(text: str) -> str:
    """The text with `~=`, which Python has not, as `>>`, which filters have not: as long, and tighter than `not`.

    Raises:
        ValueError: there is a `>>`.
    """

    def replaced(found: re.Match[str]) -> str:
        if found[0] == ">>":
            raise ValueError(f"`>>` is not known here; {ALLOWED}")
        return ">>" if found[0] == "~=" else found[0]

    return _TILDE.sub(replaced, text)


class _Constant:
    __slots__ = ("node", "value")

    def __init__(self, value: Scalar | None, node: ast.expr) -> None:
        self.value, self.node = value, node


class _Column:
    __slots__ = ("named", "node")

    def __init__(self, named: Named, node: ast.expr) -> None:
        self.named, self.node = named, node


class _Parser:
    def __init__(self, *, expression: str, columns: Mapping[str, ColumnKind]) -> None:
        self.expression, self.columns = expression, columns
        self._by_form = {unicodedata.normalize("NFKC", name): name for name in columns}

    def condition(self, node: ast.expr, depth: int = 0) -> Condition:
        """The condition of a node that is true or false."""
        if depth > MAX_DEPTH:
            raise self._error(f"the filter is nested more than {MAX_DEPTH} deep", node)
        match node:
            case ast.BoolOp(op=op, values=parts):
                found = tuple(self.condition(part, depth + 1) for part in parts)
                return All(found) if isinstance(op, ast.And) else AnyOf(found)
            case ast.UnaryOp(op=ast.Not(), operand=inner):
                return Not(self.condition(inner, depth + 1))
            case ast.Compare(left=left, ops=ops, comparators=rest):
                operands = [left, *rest]
                steps = tuple(self._compare(operands[n], op, operands[n + 1], node) for n, op in enumerate(ops))
                return steps[0] if len(steps) == 1 else All(steps)
            case ast.BinOp(left=left, op=ast.RShift(), right=right):  # `~=`
                return self._same_text(left, right, node)
            case ast.Name() | ast.Subscript() | ast.Attribute():
                return self._bare(node)
        raise self._not_allowed(f"{_describe(node)} is no condition", node)

    def _bare(self, node: ast.expr) -> Condition:
        operand = self._operand(node)
        if isinstance(operand, _Constant):
            if isinstance(operand.value, bool):
                return Always(operand.value)
        elif operand.named.kind in ("boolean", "empty"):
            return Equal(operand.named, True)
        raise self._error("only a column of true and false can stand alone; compare it with something", node)

    def _compare(self, left: ast.expr, op: ast.cmpop, right: ast.expr, whole: ast.expr) -> Condition:
        if isinstance(op, ast.In | ast.NotIn):
            found = self._membership(left, right)
            return Not(found) if isinstance(op, ast.NotIn) else found
        first, second = self._operand(left), self._operand(right)
        if isinstance(first, _Constant) and isinstance(second, _Constant):
            raise self._error("compares two constants; one side must be a column", whole)
        if isinstance(op, ast.Eq | ast.NotEq):
            found = self._equal(first, second)
            return Not(found) if isinstance(op, ast.NotEq) else found
        order = _ORDER.get(type(op))
        if order is None:
            raise self._error("`is` is not known here; use == or !=", whole)
        return self._ordered(first, order, second)

    def _equal(self, first: _Column | _Constant, second: _Column | _Constant) -> Condition:
        if isinstance(first, _Constant):
            first, second = second, first
        assert isinstance(first, _Column)
        if isinstance(second, _Constant) and second.value is None:
            return Missing(first.named)
        column = self._scalar(first)
        if isinstance(second, _Constant):
            return Equal(column, self._value(column, second, "=="))
        return EqualColumns(column, self._second(column, second))

    def _same_text(self, left: ast.expr, right: ast.expr, whole: ast.expr) -> Condition:
        first, second = self._operand(left), self._operand(right)
        column, constant = (second, first) if isinstance(first, _Constant) else (first, second)
        if not (isinstance(column, _Column) and isinstance(constant, _Constant) and isinstance(constant.value, str)):
            raise self._error('`~=` compares a column with a text, such as color ~= "red"', whole)
        named = self._scalar(column)
        self._value(named, constant, "==")
        return SameText(named, constant.value)

    def _ordered(self, first: _Column | _Constant, order: Order, second: _Column | _Constant) -> Condition:
        if isinstance(first, _Constant):
            first, second, order = second, first, _MIRROR[order]
        assert isinstance(first, _Column)
        column = self._scalar(first)
        if isinstance(second, _Column):
            return OrderedColumns(column, order, self._second(column, second))
        if second.value is None:
            raise self._error("nothing is less or more than None; use == or !=", second.node)
        return Ordered(column, order, self._value(column, second, order))

    def _membership(self, left: ast.expr, right: ast.expr) -> Condition:
        if isinstance(right, ast.List | ast.Tuple | ast.Set):
            column = self._operand(left)
            if isinstance(column, _Constant):
                raise self._error("the left side of `in [...]` must be a column", left)
            named = self._scalar(column)
            constants = [self._constant(element) for element in right.elts]
            values = tuple(self._value(named, constant, "in") for constant in constants if constant.value is not None)
            found = OneOf(named, values)
            return found if len(values) == len(constants) else AnyOf((found, Missing(named)))
        column, constant = self._operand(right), self._operand(left)
        if isinstance(column, _Constant) or isinstance(constant, _Column):
            raise self._error(
                "`in` needs a list in brackets, or a constant on its left and a column on its right", right
            )
        named = column.named
        if named.kind in NUMBERS:
            raise self._error("`in` looks into texts and lists, and this column holds neither", column.node)
        if named.kind == "string" and constant.value is not None:
            return Contains(named, self._value(named, constant, "contains"))
        return Contains(named, constant.value)

    def _value(self, column: Named, constant: _Constant, sign: str) -> Scalar:
        assert constant.value is not None, "the caller has taken None apart"
        if fault := check_constant(column, constant.value, sign):
            raise self._error(fault, constant.node)
        return constant.value

    def _second(self, first: Named, second: _Column) -> Named:
        column = self._scalar(second)
        if fault := check_two_columns(first, column):
            raise self._error(fault, second.node)
        return column

    def _scalar(self, column: _Column) -> Named:
        if column.named.kind in ("list", "object"):
            raise self._error(
                f"a column of kind {column.named.kind} cannot be compared; use VALUE in COLUMN", column.node
            )
        return column.named

    def _operand(self, node: ast.expr) -> _Column | _Constant:
        match node:
            case ast.Name(id=name):
                if self._known(name) or name not in CONSTANT_NAMES:
                    return _Column(self._column(name, node), node)
            case ast.Subscript(value=ast.Name(id="item"), slice=ast.Constant(value=str() as name)):
                return _Column(self._column(name, node), node)
            case ast.Attribute(value=ast.Name(id=first), attr=second):
                if first == PREDICTED.rstrip(".") or self._known(f"{first}.{second}"):
                    return _Column(self._column(f"{first}.{second}", node), node)
        return self._constant(node)

    def _constant(self, node: ast.expr) -> _Constant:
        value: Scalar | None
        match node:
            case ast.Constant(value=bool() | str() | int() | float() | None as value):
                pass
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                value = -number
            case ast.Name(id=name) if name in CONSTANT_NAMES:
                value = CONSTANT_NAMES[name]
            case _:
                raise self._not_allowed(f"{_describe(node)} is not allowed here", node)
        if isinstance(value, int) and abs(value) >= 2**63:
            raise self._error("the number is too large", node)
        if isinstance(value, str) and not _encodes(value):
            raise self._error("the text is not valid Unicode", node)
        return _Constant(value, node)

    def _known(self, name: str) -> str:
        """The column of that name, in whatever form its accents are; "" where there is none."""
        if name in FIELDS or name in self.columns:
            return name
        return self._by_form.get(unicodedata.normalize("NFKC", name), "")

    def _column(self, name: str, node: ast.expr) -> Named:
        found = self._known(name)
        if found in FIELDS:
            return Named(found, "string")
        if not found:
            known = [*FIELDS, *self.columns]
            near = [other for other in known if other.casefold() == name.casefold()]
            near = near or difflib.get_close_matches(name, known, n=3)
            if near:
                raise self._error(f"no column {name!r}; did you mean {', '.join(near)}?", node)
            raise self._error(
                f'no column {name!r}; there is: {", ".join(known[:20])}. If it is a text, put it in quotes: "{name}"',
                node,
            )
        if '"' in found or "\\" in found or not is_readable(found):
            raise self._error(f"column {found!r} cannot be filtered because of its name; rename it", node)
        return Named(found, self.columns[found])

    def _not_allowed(self, what: str, node: ast.expr) -> FilterError:
        return self._error(f"{what}; {odd_name_hint(self.expression, self.columns) or ALLOWED}", node)

    def _error(self, message: str, node: ast.expr) -> FilterError:
        before = self.expression.encode("utf-8", "replace")[: node.col_offset]
        return FilterError(message, expression=self.expression, position=len(before.decode("utf-8", "ignore")))


def odd_name_hint(text: str, columns: Mapping[str, ColumnKind]) -> str:
    """How to write a column that stands in a text and whose name is no plain word; "" where none does."""
    bare = re.sub(r"\"[^\"]*\"|'[^']*'", '""', unicodedata.normalize("NFC", text))
    odd = [name for name in columns if not name.isidentifier() or keyword.iskeyword(name)]
    for name in sorted(odd, key=len, reverse=True):
        if name and re.search(rf"(?<!\w){re.escape(unicodedata.normalize('NFC', name))}(?!\w)", bare):
            return f'the column {name!r} is written item["{name}"]'
    return ""


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
