"""A condition over a chunk of columns (`store.column_chunks`): true or false of each item, as SQLite's compiler says.

Letters  n items of a chunk
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, Final, TypeAlias, assert_never

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

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
    Order,
    Ordered,
    OrderedColumns,
    SameText,
    Scalar,
    folded,
)

Mask: TypeAlias = NDArray[np.bool_]
_TEXT_ORDER: Final[dict[Order, Callable[[Any, Any], Any]]] = {
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
_ORDER: Final[dict[Order, Callable[[Any, Any], Any]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_EXACT: Final = 2**53
"""Whole numbers up to here are floats without rounding."""


def matches(condition: Condition, chunk: pa.RecordBatch) -> Mask:
    """(n,) which items of a chunk a condition is true of."""
    return _Chunk(chunk).condition(condition)


class _Chunk:
    def __init__(self, batch: pa.RecordBatch) -> None:
        self._batch, self._places = batch, {name: place for place, name in enumerate(batch.schema.names)}
        self.count: int = batch.num_rows

    def condition(self, condition: Condition) -> Mask:
        match condition:
            case Always(value):
                return np.full(self.count, value)
            case All(parts):
                return np.asarray(np.logical_and.reduce([self.none(True), *map(self.condition, parts)]))
            case AnyOf(parts):
                return np.asarray(np.logical_or.reduce([self.none(False), *map(self.condition, parts)]))
            case Not(inner):
                return ~self.condition(inner)
            case Missing(column):
                return self.missing(column)
            case Equal(column, value):
                return self.one_of(column, (value,))
            case OneOf(column, values):
                return self.one_of(column, values)
            case Ordered(column, order, value):
                return self.ordered(column, order, value)
            case EqualColumns(first, second):
                return self.equal_columns(first, second)
            case OrderedColumns(first, order, second):
                return self.ordered_columns(first, order, second)
            case SameText(column, text):
                wanted = folded(text)
                return self.text(column, lambda found: _equal_folded(found, wanted))
            case Contains(column, value):
                return self.contains(column, value)
        assert_never(condition)

    def none(self, value: bool) -> Mask:
        return np.full(self.count, value)

    def part(self, kind: str, column: Named) -> pa.Array | None:
        """The values of one kind; None where no item has any."""
        name = column.name if column.is_field else f"{kind}:{column.name}"
        if column.is_field and kind != "s":
            return None
        place = self._places.get(name)
        return None if place is None else self._batch.column(place)

    def has(self, kind: str, column: Named) -> Mask:
        """Where the value is of a kind."""
        found = self.part(kind, column)
        return self.none(False) if found is None else _mask(found.is_valid())

    def missing(self, column: Named) -> Mask:
        held = [self.has(kind, column) for kind in ("i", "f", "s", "l", "o")]
        return ~np.asarray(np.logical_or.reduce(held))

    def numbers(self, kind: str, column: Named) -> tuple[NDArray[Any], Mask] | None:
        """Values of "i" or "f", anything where there is none, and where there is one."""
        found = self.part(kind, column)
        return None if found is None else _numbers(found)

    def text(self, column: Named, test: Callable[[pa.Array], pa.Array]) -> Mask:
        """Where a text passes a test, which is asked once of each text of a dictionary."""
        found = self.part("s", column)
        if found is None:
            return self.none(False)
        if not isinstance(found, pa.DictionaryArray):
            return _mask(test(found))
        passed = np.append(_mask(test(found.dictionary)), False)  # the last for null
        return np.asarray(passed[found.indices.fill_null(len(found.dictionary)).to_numpy()])

    def one_of(self, column: Named, values: tuple[Scalar, ...]) -> Mask:
        texts = [value for value in values if isinstance(value, str)]
        amounts = [value for value in values if not isinstance(value, str)]
        out = self.none(False)
        if texts:
            listed = pa.array(texts, pa.string())
            out |= self.text(column, lambda found: pc.is_in(found, value_set=listed))
        if amounts:
            for kind, fitting in (("i", _as_integers(amounts)), ("f", _as_floats(amounts))):
                if (found := self.numbers(kind, column)) is not None:
                    out |= np.isin(found[0], fitting) & found[1]
        return out

    def ordered(self, column: Named, order: Order, value: Scalar) -> Mask:
        if isinstance(value, str):
            return self.text(column, lambda found: _TEXT_ORDER[order](found, pa.scalar(value, pa.string())))
        out = self.none(False)
        if (found := self.numbers("i", column)) is not None:
            out |= _compare_integers(found[0], order, value) & found[1]
        if (found := self.numbers("f", column)) is not None:
            out |= _compare_floats(found[0], order, value) & found[1]
        return out

    def contains(self, column: Named, value: Scalar | None) -> Mask:
        out = self.none(False)
        if isinstance(value, str):
            out |= self.text(column, lambda found: pc.match_substring(found, value))
        if column.is_field:
            return out
        if value is None:
            return out | self.has("ln", column)
        for kind in ("ls",) if isinstance(value, str) else ("li", "lf"):
            found = self.part(kind, column)
            if found is None:
                continue
            elements = pc.list_flatten(found)
            if kind == "ls":
                equal = _mask(pc.equal(elements, pa.scalar(value, pa.string())))
            else:
                fitting = _as_integers([value]) if kind == "li" else _as_floats([value])
                equal = np.isin(elements.to_numpy(zero_copy_only=False), fitting)
            owners = pc.list_parent_indices(found).to_numpy(zero_copy_only=False)
            out[owners[equal]] = True
        return out

    def equal_columns(self, first: Named, second: Named) -> Mask:
        out = self.missing(first) & self.missing(second)
        if (texts := self._two_texts(first, second)) is not None:
            out |= _mask(pc.equal(*texts))
        return out | self._two_numbers(first, second, operator.eq)

    def ordered_columns(self, first: Named, order: Order, second: Named) -> Mask:
        out = self._two_numbers(first, second, _ORDER[order])
        if (texts := self._two_texts(first, second)) is not None:
            out |= _mask(_TEXT_ORDER[order](*texts))
        return out

    def _two_texts(self, first: Named, second: Named) -> tuple[pa.Array, pa.Array] | None:
        one, other = self.part("s", first), self.part("s", second)
        return None if one is None or other is None else (_plain(one), _plain(other))

    def _two_numbers(self, first: Named, second: Named, test: Callable[[Any, Any], Any]) -> Mask:
        out = self.none(False)
        for one_kind in ("i", "f"):
            for other_kind in ("i", "f"):
                one, other = self.numbers(one_kind, first), self.numbers(other_kind, second)
                if one is not None and other is not None:
                    both = one[1] & other[1]
                    out[both] = _pairwise(one[0][both], other[0][both], test)
        return out


def _equal_folded(texts: pa.Array, wanted: str) -> pa.Array:
    """Which texts are `wanted` once folded; each text is folded once, however often it is there."""
    distinct = pc.unique(texts)
    same = [text for text in distinct.to_pylist() if text is not None and folded(text) == wanted]
    return pc.is_in(texts, value_set=pa.array(same, pa.string()))


def _mask(values: pa.Array) -> Mask:
    """True where true; false where false or null."""
    return np.asarray(values.fill_null(False).to_numpy(zero_copy_only=False), bool)


def _plain(texts: pa.Array) -> pa.Array:
    return texts.dictionary_decode() if isinstance(texts, pa.DictionaryArray) else texts


def _numbers(found: pa.Array) -> tuple[NDArray[Any], Mask]:
    if found.null_count == 0:
        return found.to_numpy(), np.ones(len(found), bool)
    return found.fill_null(0).to_numpy(), _mask(found.is_valid())


def _as_integers(values: list[Any]) -> NDArray[np.int64]:
    """Those that a whole number of 64 bits can equal."""
    whole = [int(value) for value in values if math.isfinite(value) and int(value) == value]
    return np.array([value for value in whole if -(2**63) <= value < 2**63], np.int64)


def _as_floats(values: list[Any]) -> NDArray[np.float64]:
    """Those that a float can equal."""
    return np.array([float(value) for value in values if float(value) == value], np.float64)


def _compare_integers(found: NDArray[np.int64], order: Order, value: float) -> Mask:
    """Exact, whatever the number: it is rounded to where it parts whole numbers."""
    if not math.isfinite(value):
        return np.full(len(found), bool(_ORDER[order](0, value)))
    bound = math.ceil(value) if order in ("<", ">=") else math.floor(value)
    if not -(2**63) <= bound < 2**63:
        return np.full(len(found), bool(_ORDER[order](0, bound)))
    return np.asarray(_ORDER[order](found, bound))


def _compare_floats(found: NDArray[np.float64], order: Order, value: float) -> Mask:
    """Exact, whatever the number: one that is no float lies between two of them."""
    near = float(value)
    if near != value:
        above = near > value
        order = ("<" if above else "<=") if order in ("<", "<=") else (">=" if above else ">")
    return np.asarray(_ORDER[order](found, near))


def _pairwise(one: NDArray[Any], other: NDArray[Any], test: Callable[[Any, Any], Any]) -> Mask:
    """Two arrays of numbers; floats and large whole numbers meet one by one, since rounding would make them equal."""
    if one.dtype == other.dtype:
        return np.asarray(test(one, other))
    out = np.asarray(test(one.astype(np.float64), other.astype(np.float64)))
    large = np.abs((one if one.dtype == np.int64 else other).astype(np.float64)) > _EXACT
    for place in np.flatnonzero(large):
        out[place] = test(one[place].item(), other[place].item())
    return out
