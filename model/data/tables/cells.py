"""Single cells: what stands for "nothing", and which text is a number that would print back the same.

12E5, 007, 12345678901234567890    text: as numbers they would come back as something else
10, 19.90, -3, 0.5, 1e-05          numbers; zeros at the end of a price are no loss
1.1 beside 1.10 in one column      text: two codes, one number
"""

from __future__ import annotations

import decimal
import math
import re
from typing import Any, Final, Literal

CsvKind = Literal["boolean", "integer", "number", "string", "empty"]
Value = str | int | float | bool | None

FROM_DATA_FRAMES: Final = frozenset({"nan", "NaN", "-nan", "<NA>", "NaT"})
"""What data frames write for a missing value where they were not asked for an empty cell."""
FOR_NOTHING: Final = FROM_DATA_FRAMES | {"NAN", "None", "none", "null", "NULL", "Null", "N/A", "n/a", "NA", "#N/A"}
"""What stands for nothing in a column of ids or of numbers; in a column of texts it may be a word."""
MAX_SAFE_INTEGER: Final = 2**63 - 1
_INTEGER: Final = re.compile(r"0|-?[1-9]\d{0,17}")
_FIXED: Final = re.compile(r"-?(0|[1-9]\d*)\.(\d+)")
_SCIENTIFIC: Final = re.compile(r"-?\d(\.\d+)?[eE][+-]?\d{1,3}")
_WHOLE_FLOAT: Final = re.compile(r"(-?(?:0|[1-9]\d*))\.0")
_BOOLEAN: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_PADDED_REMEMBERED: Final = 10_000


class CsvKinds:
    """What each column of a text-only file is, found by looking at every cell."""

    def __init__(self) -> None:
        self._columns: dict[str, _ColumnKinds] = {}

    def add(self, values: dict[str, Any]) -> None:
        """Look at one row."""
        for key, cell in values.items():
            self._columns.setdefault(key, _ColumnKinds()).add(cell)

    def kind(self, column: str) -> CsvKind:
        """The narrowest kind that every cell of the column has."""
        return self._columns[column].kind if column in self._columns else "empty"

    def convert(self, column: str, cell: str | None) -> Value:
        """A cell as a value of the column's kind; an empty one is None."""
        kind = self.kind(column)
        if not cell or cell in (FROM_DATA_FRAMES if kind == "string" else FOR_NOTHING):
            return None
        match kind:
            case "integer":
                return int(cell)
            case "number":
                return int(cell) if _INTEGER.fullmatch(cell) else float(cell)
            case "boolean":
                return _BOOLEAN[cell]
        return cell

    def notes(self) -> list[str]:
        """What a reader of the file should know: cells taken for nothing, and numbers kept as text."""
        return [note for name, column in self._columns.items() for note in column.notes(name)]


class _ColumnKinds:
    def __init__(self) -> None:
        self._possible: set[CsvKind] = {"integer", "number", "boolean"}
        self._filled = False
        self._nothing: dict[str, int] = {}
        self._padded: dict[str, str] = {}  # numbers with zeros at their end, by what is left without them

    def add(self, cell: str | None) -> None:
        if not cell:
            return
        if cell in FOR_NOTHING:
            self._nothing[cell] = self._nothing.get(cell, 0) + 1
            return
        self._filled = True
        if not self._possible:
            return
        self._possible &= possible_kinds(cell)
        if "number" in self._possible and "integer" not in self._possible and not self._tells_apart(cell):
            self._possible -= {"number"}

    @property
    def kind(self) -> CsvKind:
        words = any(cell not in FROM_DATA_FRAMES for cell in self._nothing)
        if not self._filled:
            return "string" if words else "empty"
        kinds: tuple[CsvKind, ...] = ("boolean", "integer", "number")
        return next((kind for kind in kinds if kind in self._possible), "string")

    def notes(self, name: str) -> list[str]:
        kind = self.kind
        nothing = {cell: n for cell, n in self._nothing.items() if kind != "string" or cell in FROM_DATA_FRAMES}
        if not nothing:
            return []
        return [f"column {name!r}: {sum(nothing.values()):,} cells with {', '.join(sorted(nothing))} are read as empty"]

    def _tells_apart(self, cell: str) -> bool:
        """Whether a number is written like each earlier one of the same value."""
        if not _FIXED.fullmatch(cell):
            return True
        plain = cell.rstrip("0").rstrip(".")
        if plain not in self._padded and len(self._padded) >= _PADDED_REMEMBERED:
            return True
        return self._padded.setdefault(plain, cell) == cell


def possible_kinds(cell: str) -> set[CsvKind]:
    """The kinds a filled cell can be read as, text aside."""
    if cell in _BOOLEAN:
        return {"boolean"}
    if _INTEGER.fullmatch(cell):
        return {"integer", "number"}
    return {"number"} if _prints_back(cell) else set()


def _prints_back(cell: str) -> bool:
    fixed = _FIXED.fullmatch(cell)
    if not fixed and not _SCIENTIFIC.fullmatch(cell):
        return False
    value = float(cell)
    if not math.isfinite(value) or decimal.Decimal(repr(value)) != decimal.Decimal(cell):
        return False
    return bool(fixed) or repr(value) == cell or "." in cell  # 1.0E-5 is how Java prints; 12E5 is a code


def whole_floats(cell: str) -> bool:
    """Whether a cell is a whole number with `.0` behind it, as a data frame writes ids beside a missing one."""
    return bool(_WHOLE_FLOAT.fullmatch(cell))


class LabelColumns:
    """Columns of ids in a text-only file: where each cell ends in `.0`, a data frame made floats of whole numbers.

    Args:
        names: of the columns.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self._filled: set[str] = set()
        self._floats = set(names)
        self._nothing: dict[str, int] = {}
        self.names = names

    def add(self, values: dict[str, Any]) -> None:
        """Look at one row."""
        for name in self.names:
            cell = values.get(name)
            if not cell:
                continue
            if cell in FOR_NOTHING:
                self._nothing[name] = self._nothing.get(name, 0) + 1
                continue
            self._filled.add(name)
            if name in self._floats and not whole_floats(str(cell)):
                self._floats.discard(name)

    def clean(self, name: str, cell: str) -> str:
        """A cell of one of the columns: "" where it stands for nothing, without the `.0` where all have it."""
        if cell in FOR_NOTHING:
            return ""
        return cell[:-2] if name in self._floats and whole_floats(cell) else cell

    def notes(self) -> list[str]:
        """What was made of the columns."""
        found = [f"{name} is empty in {n:,} rows that say nan, null or the like" for name, n in self._nothing.items()]
        floats = [name for name in self.names if name in self._floats & self._filled]
        return found + [f"{name} came as 1.0, 2.0, ... and is read as 1, 2, ..." for name in floats]
