"""Column names as people write them: `ID`, `Product Id`, decomposed accents; and names that were mapped by hand."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from threadmatch.model.data.tables.notes import Notes
from threadmatch.model.errors import DataError


@dataclass(frozen=True, slots=True)
class Naming:
    """Which columns a reader looks for, and what a file calls them.

    Fields:
        known: names with a meaning. A column that differs from one in case, spaces or underscores is taken for it.
        mapped: for a name with a meaning the file's own name for it; the column is then read under the former.
    """

    known: tuple[str, ...] = ()
    mapped: Mapping[str, str] = field(default_factory=dict)

    def targets(self, columns: Sequence[str], notes: Notes) -> dict[str, str]:
        """What each column of a file is called from here on.

        Args:
            columns: as the file has them, cleaned by `clean_name`, each once.
            notes: told of every column that was taken for another name.

        Raises:
            DataError: a mapped column is not there, or two columns would have one name.
        """
        by_plain = {_plain(column): column for column in columns}
        named = {
            name: source if source in columns else by_plain.get(_plain(source), "")
            for name, source in self.mapped.items()
        }
        if missing := [self.mapped[name] for name, source in named.items() if not source]:
            near = difflib.get_close_matches(missing[0], columns, n=3)
            hint = f"did you mean {', '.join(near)}?" if near else f"the columns are {', '.join(columns[:30])}"
            raise DataError(f"no column {missing[0]!r} to map; {hint}")
        return self._targets(columns, named, notes)

    def _targets(self, columns: Sequence[str], mapped: Mapping[str, str], notes: Notes) -> dict[str, str]:
        by_source = {source: name for name, source in mapped.items()}
        targets = {column: by_source.get(column, column) for column in columns}
        taken = {name for name in targets.values() if name in self.known}
        plain = {_plain(name): name for name in self.known}
        for column in columns:
            meant = plain.get(_plain(column), "")
            if column in by_source or targets[column] in self.known or not meant:
                continue
            if meant in taken:
                notes.add(f"column {column!r} is kept as it is; {meant!r} is another column")
                continue
            notes.add(f"column {column!r} is read as {meant!r}")
            targets[column] = meant
            taken.add(meant)
        for name, source in mapped.items():
            if (
                source in columns and name in columns and source != name
            ):  # the file's own column of that name steps aside
                targets[name] = f"{name} (unmapped)"
                notes.add(f"column {name!r} is kept as {targets[name]!r}: {source!r} was mapped in its place")
        return targets

    def of_row(self, names: tuple[str, ...], notes: Notes) -> dict[str, str]:
        """What the names of one row are called, for files that name them in every row; a mapped one may be missing."""
        cleaned = [clean_name(name) for name in names]
        targets = self._targets(cleaned, self.mapped, notes)
        return {name: targets[plain] for name, plain in zip(names, cleaned, strict=True)}


def clean_name(name: str) -> str:
    """A column's name without spaces around, its accents composed (NFC), so that what is typed finds it."""
    return unicodedata.normalize("NFC", name.replace("\ufeff", "")).strip()


def refuse_twice(columns: Sequence[str], path: object) -> None:
    """Refuse a file in which one name stands over two columns: one of them would be lost.

    Raises:
        DataError: names them.
    """
    named = [name for name in columns if name]
    if twice := sorted({name for name in named if named.count(name) > 1}):
        raise DataError(f"{path} has more than one column {', '.join(map(repr, twice))}; keep one of each")


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-]+", "", clean_name(name).casefold())
