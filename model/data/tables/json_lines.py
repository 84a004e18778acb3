"""JSON Lines: one object a line, blank lines passed over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from threadmatch.model.data.tables.naming import Naming
from threadmatch.model.data.tables.notes import Notes
from threadmatch.model.data.tables.text import TextFile
from threadmatch.model.errors import DataError

MAX_NESTING: Final = 64
FORMS_REMEMBERED: Final = 1000


class JsonRows:
    """Rows of a JSON Lines file; NaN and the infinities, which JSON does not have, are read as null.

    Args:
        path: of the file.
        naming: which columns are looked for.

    Raises:
        DataError: unreadable, empty, or one JSON array.
    """

    typed = True
    place = "line"

    def __init__(self, path: Path, naming: Naming) -> None:
        self.path, self._naming = path, naming
        self.notes = Notes()
        self._text = TextFile(path)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Every name that a row has; the file is read through for it."""
        names: dict[str, None] = {}
        for _, values in self:
            if not isinstance(values, str):
                names.update(dict.fromkeys(values))
        return tuple(names)

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any] | str]]:
        self.notes = Notes()
        forms: dict[tuple[str, ...], dict[str, str]] = {}
        first = True
        for number, line in self._text.lines(self.notes):
            if not line.strip():
                continue
            row = _parsed(line)
            if first and (isinstance(row, list) or (isinstance(row, str) and line.strip().startswith("["))):
                raise DataError(f"{self.path} is one JSON array, expected JSON Lines: one object a line")
            first = False
            if isinstance(row, str):
                yield number, row
            elif not isinstance(row, dict):
                yield number, f"holds {type(row).__name__}, expected an object"
            else:
                names = tuple(row)
                if names not in forms:
                    if len(forms) == FORMS_REMEMBERED:
                        forms.clear()
                    forms[names] = self._naming.of_row(names, self.notes)
                targets = forms[names]
                if len(set(targets.values())) < len(names):
                    yield number, f"names {_twice(list(targets.values()))!r} twice; keep one of the two"
                else:
                    yield number, {targets[name]: value for name, value in row.items()}

    def scan(self) -> Iterator[tuple[int, dict[str, Any] | str]]:
        """The rows, to look at their columns; here the same as iterating."""
        return iter(self)


def _parsed(line: str) -> Any:
    """What a line holds; a text says why it cannot be used."""
    if line.count("[") + line.count("{") > MAX_NESTING and _depth(line) > MAX_NESTING:
        return f"is nested more than {MAX_NESTING} deep, which no answer can carry; flatten it"
    try:
        row = json.loads(line, parse_constant=lambda _: None, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        return f"is not JSON: {error}"
    return f"holds {type(row).__name__}, expected an object" if isinstance(row, str) else row


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"it names {_twice([name for name, _ in pairs])!r} twice; keep one of the two")
    return found


def _twice(names: list[str]) -> str:
    return next(name for name in names if names.count(name) > 1)


def _depth(line: str) -> int:
    """How deep brackets lie in one another, texts left out."""
    deepest = depth = 0
    inside = escaped = False
    for letter in line:
        if inside:
            inside = escaped or letter != '"'
            escaped = letter == "\\" and not escaped
        elif letter == '"':
            inside = True
        elif letter in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif letter in "]}":
            depth -= 1
    return deepest
