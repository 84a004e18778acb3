"""What a filter asks of an item, as a tree: made once from a text, then compiled for whoever applies it.

A condition is true or false of every item, never "unknown", so that `Not` means what it says. Values compare as in
Python: 1, 1.0 and True are equal, a text equals texts only. A missing value and None (null) are the same; it equals
nothing, and is less or more than nothing. `<` and its kin are false where kinds differ. Texts are ordered by code
point. `tests/support/filter_contract.py` says it by example, for every compiler.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Literal, TypeAlias

from threadmatch.indexer.store.manifest import ColumnKind

FIELDS = ("id", "product_id")  # columns every gallery has
Scalar: TypeAlias = str | int | float | bool
Order: TypeAlias = Literal["<", "<=", ">", ">="]


@dataclass(frozen=True, slots=True)
class Named:
    """A column of the items.

    Fields:
        name: as the gallery has it.
        kind: what its values are; "string" for the two of FIELDS, which are no metadata.
    """

    name: str
    kind: ColumnKind

    @property
    def is_field(self) -> bool:
        """Whether it is one of FIELDS rather than metadata."""
        return self.name in FIELDS


@dataclass(frozen=True, slots=True)
class Always:
    """The same of every item."""

    value: bool


@dataclass(frozen=True, slots=True)
class Missing:
    """The item has no value in this column."""

    column: Named


@dataclass(frozen=True, slots=True)
class Equal:
    """The column's value equals a constant. A list or object equals none."""

    column: Named
    value: Scalar


@dataclass(frozen=True, slots=True)
class EqualColumns:
    """Two columns have the same value, or both none. Lists and objects equal nothing."""

    first: Named
    second: Named


@dataclass(frozen=True, slots=True)
class Ordered:
    """The column's value stands in this order to a constant, and both are texts or both numbers (or truth values)."""

    column: Named
    order: Order
    value: Scalar


@dataclass(frozen=True, slots=True)
class OrderedColumns:
    """The first column's value stands in this order to the second's, and both are texts or both numbers."""

    first: Named
    order: Order
    second: Named


@dataclass(frozen=True, slots=True)
class OneOf:
    """The column's value equals one of these."""

    column: Named
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class SameText:
    """The column's value is a text that equals this one but for upper and lower case (`folded`)."""

    column: Named
    value: str


@dataclass(frozen=True, slots=True)
class Contains:
    """A text has this text in it, or a list has an element equal to the constant (None: null)."""

    column: Named
    value: Scalar | None


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite."""

    inner: Condition


@dataclass(frozen=True, slots=True)
class All:
    """Every part is true."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one part is true."""

    parts: tuple[Condition, ...]


def folded(text: str) -> str:
    """A text as `SameText` compares it: `ß` as `ss`, accents in one form; case and form set aside."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


Condition: TypeAlias = (
    Always | Missing | Equal | EqualColumns | Ordered | OrderedColumns | OneOf | SameText | Contains | Not | All | AnyOf
)
