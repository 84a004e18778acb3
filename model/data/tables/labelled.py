"""The tables that sets of labelled photos come in, every cell as text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from threadmatch.model.data.tables.cells import FOR_NOTHING, LabelColumns
from threadmatch.model.data.tables.columnar import EmbeddedImage
from threadmatch.model.data.tables.naming import Naming
from threadmatch.model.data.tables.opening import open_source
from threadmatch.model.data.tables.photo_files import kept_photo
from threadmatch.model.errors import DataError

Cells = dict[str, str]
"""A row: column name to text, both without spaces around; an empty cell is ""."""

LABELS: Final = ("product_id", "id")


class Table:
    """A table of labelled photos. Each iteration reads it anew: (number, cells), or (number, what is wrong with it).

    What says "nothing" as data frames do (nan, null) is empty in the columns of ids, and so is no product.

    Args:
        path: any file that `model.data.tables` reads.
        known: names of columns that are looked for, however they are written.

    Attributes:
        place: "line" (of a text file, its header counts) or "row": what numbers count, from 1.
        columns: their names.

    Raises:
        DataError: missing, unreadable, empty, of an unknown kind, or with a column named twice.
    """

    def __init__(self, path: Path, known: Sequence[str] = ()) -> None:
        self._source = open_source(path, Naming(tuple(known)))
        self.place, self.columns = self._source.place, self._source.columns
        if not any(self.columns):
            raise DataError(f"{path} is empty; its first line names the columns")
        self._labels: LabelColumns | None = None

    def __iter__(self) -> Iterator[tuple[int, Cells | str]]:
        labels = self._look_at_labels()
        for number, values in self._source:
            if isinstance(values, str):
                yield number, values
                continue
            cells = {name: _text(value) for name, value in values.items()}
            if isinstance(photo := values.get("image"), EmbeddedImage) and not cells.get("id"):
                cells["id"] = photo.path or f"{self._source.path.name}#{number}"
            for name in LABELS:
                if name in cells:
                    cells[name] = labels.clean(name, cells[name])
            if cells.get("image") in FOR_NOTHING:
                cells["image"] = ""
            yield number, cells

    @property
    def notes(self) -> list[str]:
        """What was odd and taken all the same."""
        return [*self._source.notes, *self._look_at_labels().notes()]

    def _look_at_labels(self) -> LabelColumns:
        if self._labels is None:
            self._labels = LabelColumns(tuple(name for name in LABELS if name in self.columns))
            for _, values in self._source.scan():
                if not isinstance(values, str):
                    self._labels.add({name: _text(values.get(name)) for name in self._labels.names})
        return self._labels


def open_table(path: Path, known: Sequence[str] = ()) -> Table:
    """Open a table and read its header; see `Table`."""
    return Table(path, known)


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, EmbeddedImage):
        return str(kept_photo(value))
    if isinstance(value, list | tuple):
        return ",".join(_text(part) for part in value)
    if isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value):
        return str(int(value))
    return str(value).strip()
