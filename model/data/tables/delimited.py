"""CSV as people send it: any of four delimiters, quotes that never close, blank lines in front, `sep=;`."""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from threadmatch.model.data.tables.naming import Naming, clean_name, refuse_twice
from threadmatch.model.data.tables.notes import Notes
from threadmatch.model.data.tables.text import TextFile
from threadmatch.model.errors import DataError

DELIMITERS: Final = ",;\t|"
MAX_CELL_CHARACTERS: Final = 1_000_000
_SEPARATOR_LINE: Final = re.compile(r"sep=(.)\s*", re.IGNORECASE)
_PICTURE: Final = re.compile(r"(?i)^\s*\"?[^\s\"]*(://|^//|\.(jpe?g|png|webp|gif|bmp|tiff?|avif|heic|heif)\b)")


class CsvRows:
    """Rows of a CSV file; the delimiter is the one that splits the header best.

    A cell whose quote is not closed properly would swallow the rows behind it: such a row is told, and reading goes on
    with the next line.

    Args:
        path: of the file.
        naming: which columns are looked for.

    Raises:
        DataError: unreadable, empty, or with a name over two columns.
    """

    typed = False
    place = "line"

    def __init__(self, path: Path, naming: Naming) -> None:
        self.path = path
        self.notes = Notes()
        self._text = TextFile(path)
        csv.field_size_limit(MAX_CELL_CHARACTERS)
        self._skipped, header, self.delimiter = self._find_header(naming)
        self.header = [clean_name(name) for name in header]
        refuse_twice(self.header, path)
        targets = naming.targets([name for name in self.header if name], self.notes)
        self._names = [targets.get(name, "") for name in self.header]
        self.columns = tuple(name for name in self._names if name)
        self._image_at = self._names.index("image") if "image" in self._names else -1
        self._first_notes = tuple(self.notes)

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any] | str]]:
        self.notes = Notes()
        for note in self._first_notes:
            self.notes.add(note)
        for number, cells in self._records():
            if isinstance(cells, str):
                yield number, cells
            elif len(cells) > len(self._names) and any(cells[len(self._names) :]):
                more = f"{len(cells)} cells, the header has {len(self._names)}"
                yield number, f"{more}; quote cells that hold {self.delimiter!r}, such as a box"
            else:
                cells += [""] * (len(self._names) - len(cells))
                yield number, {name: cell.strip() for name, cell in zip(self._names, cells, strict=False) if name}

    def scan(self) -> Iterator[tuple[int, dict[str, Any] | str]]:
        """The rows, to look at their columns; here the same as iterating."""
        return iter(self)

    def _find_header(self, naming: Naming) -> tuple[int, list[str], str]:
        """The number of the header's last line, its cells, and the delimiter."""
        said = ""
        for number, line in self._text.lines(Notes()):
            if not line.strip():
                continue
            if (found := _SEPARATOR_LINE.fullmatch(line.strip("\r\n"))) and not said:
                said = found.group(1)
                continue
            wanted = {name.casefold() for name in (*naming.known, *naming.mapped.values())}
            mark = said or max(DELIMITERS, key=lambda mark: _split_score(line, mark, wanted))
            self.delimiter, self._names, self._skipped, self._image_at = mark, [], number - 1, -1
            last, cells = next(self._records(), (number, "the header cannot be read"))
            if isinstance(cells, str):
                raise DataError(f"{self.path}, line {last}: {cells}")
            return self._last_line, cells, mark
        raise DataError(f"{self.path} is empty; its first line names the columns")

    def _records(self) -> Iterator[tuple[int, list[str] | str]]:
        """(line, cells or what is wrong) of every record behind the skipped lines.

        The line is the one a record ends on, as an editor counts; of a record that is wrong, the one it begins on.
        """
        source = self._text.lines(self.notes)
        waiting: deque[tuple[int, str]] = deque()  # lines given back by a record that could not be trusted
        taken: list[tuple[int, str]] = []

        def feed() -> Iterator[str]:
            while True:
                entry = waiting.popleft() if waiting else next(source, None)
                if entry is None:
                    return
                if entry[0] > self._skipped:
                    taken.append(entry)
                    yield entry[1]

        while True:
            reader = csv.reader(feed(), delimiter=self.delimiter, skipinitialspace=True)
            trusted = True
            while trusted:
                taken.clear()
                try:
                    cells: list[str] | str = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    cells = f"cannot be read: {error}"
                if not cells or not taken:
                    continue  # a blank line
                first = taken[0][0]
                self._last_line = taken[-1][0]
                fault = self._doubt([line for _, line in taken])
                if fault:
                    waiting.extendleft(reversed(taken[1:]))
                    cells, trusted = fault, False
                elif isinstance(cells, str):
                    trusted = False
                yield first if isinstance(cells, str) else self._last_line, cells

    def _doubt(self, lines: Sequence[str]) -> str:
        """Why a record that holds quotes cannot be trusted, "" where it can.

        A quote in one line of its own, as in `"Oversized" tee`, does no harm. One that runs over lines has to be closed
        before a delimiter or the end of a line, and may not hold what reads as a row of its own.
        """
        text = "".join(lines)
        if '"' not in text:
            return ""
        whole = _well_formed(self.delimiter).fullmatch(text.rstrip("\r\n"))
        if len(lines) == 1:
            closed = whole or not _opens(text.rstrip("\r\n"), self.delimiter)
            return (
                "" if closed else "a quote opens in this line and never closes; close it, or double it to mean a quote"
            )
        if not whole:
            return "a quote opens in this line and is not closed before the rows behind it; close it, or double it"
        for line in lines[1:] if self._image_at >= 0 else ():
            cells = line.rstrip("\r\n").split(self.delimiter)
            if len(cells) >= len(self._names) > 1 and _PICTURE.search(cells[self._image_at]):
                return f"a quote opens in this line and swallows {line.strip()[:60]!r}, which reads as a row; close it"
        return ""


def _well_formed(mark: str) -> re.Pattern[str]:
    cell = rf'(?: *"(?:[^"]|"")*+" *|(?! *")[^{re.escape(mark)}\r\n]*+)'
    return re.compile(rf"{cell}(?:{re.escape(mark)}{cell})*+")


def _opens(line: str, mark: str) -> bool:
    """Whether a line, read alone, ends inside a quoted cell."""
    inside = False
    at_start = True
    place = 0
    while place < len(line):
        letter = line[place]
        if inside:
            if letter == '"':
                if line[place + 1 : place + 2] == '"':
                    place += 1
                else:
                    inside = False
        elif letter == '"' and at_start:
            inside = True
        at_start = letter == mark or (at_start and letter == " ")
        place += 1
    return inside


def _split_score(header: str, mark: str, wanted: set[str]) -> tuple[int, int]:
    try:
        names = next(csv.reader([header], delimiter=mark, skipinitialspace=True), [])
    except csv.Error:
        return 0, 0
    plain = [clean_name(name).casefold() for name in names]
    return sum(name in wanted for name in plain), len(plain)
