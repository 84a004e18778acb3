"""XML feeds, RSS and Atom: an item (or entry) is a row, its children are cells; what stands there twice is joined."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from xml.etree.ElementTree import Element, ParseError, iterparse

from threadmatch.model.data.tables.naming import Naming
from threadmatch.model.data.tables.notes import Notes
from threadmatch.model.data.tables.text import open_bytes, reading
from threadmatch.model.errors import DataError

ROWS: Final = ("item", "entry")


class XmlRows:
    """Rows of an XML feed. Names lose their namespace: g:image_link is image_link. Every cell is text.

    Args:
        path: of the file.
        naming: which columns are looked for.
    """

    typed = False
    place = "item"

    def __init__(self, path: Path, naming: Naming) -> None:
        self.path, self._naming = path, naming
        self.notes = Notes()

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Every name that an item has; the file is read through for it."""
        return tuple(dict.fromkeys(name for _, values in self if isinstance(values, dict) for name in values))

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any] | str]]:
        self.notes = Notes()
        number = 0
        try:
            with reading(self.path), open_bytes(self.path) as file:
                for _, element in iterparse(file, events=("end",)):  # noqa: S314 - expat bounds what entities grow to
                    if _local(element) in ROWS:
                        number += 1
                        yield number, self._row(element)
                        element.clear()
        except ParseError as error:
            raise DataError(f"{self.path} is damaged XML behind item {number}: {error}") from error

    def scan(self) -> Iterator[tuple[int, dict[str, Any] | str]]:
        """The rows, to look at their columns; here the same as iterating."""
        return iter(self)

    def _row(self, element: Element) -> dict[str, Any]:
        cells: dict[str, list[str]] = {}
        for child in element:
            text = (child.text or child.get("href") or "").strip()
            if text:
                cells.setdefault(_local(child), []).append(text)
        targets = self._naming.of_row(tuple(cells), self.notes)
        return {targets[name]: ", ".join(texts) for name, texts in cells.items()}


def _local(element: Element) -> str:
    return element.tag.rpartition("}")[2]
