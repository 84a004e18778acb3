"""What a check of a manifest found: counted by kind, a few of each kept to show, all of them in a file."""

from __future__ import annotations

import csv
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of finding. An error makes figures wrong or stops a run; a warning may be meant so."""

    severity: Severity
    advice: str


KINDS: Final = {
    "bad_row": Kind("error", "mend the row, or write the file again with a CSV library"),
    "empty_field": Kind("error", "fill the cell, or leave the row out"),
    "bad_domain": Kind("error", "customer for photos that ask, shop for photos that answer"),
    "bad_split": Kind("error", "train, val or test"),
    "bad_setup": Kind("error", "leave it empty, or take a known one; own groupings go into another column"),
    "bad_box": Kind("error", "x0,y0,x1,y1 in pixels with x0 < x1 and y0 < y1; empty means the whole image"),
    "missing_image": Kind("error", "put the file there, give --images ROOT, or leave the row out"),
    "unreadable_image": Kind("error", "fetch or save the image again, or leave the row out"),
    "too_large_image": Kind("error", "save the image smaller; nothing is gained by more pixels"),
    "box_outside": Kind("error", "is the box of another image, or of another size of this one?"),
    "duplicate_id": Kind("error", "give each row an id of its own, or none"),
    "product_in_two_splits": Kind("error", "keep all rows of a product in one split, else what is measured was learnt"),
    "image_in_two_splits": Kind("error", "keep an image in one split, else what is measured was learnt"),
    "unanswerable_query": Kind("error", "add a shop image of the product to that split, or leave its queries out"),
    "unused_query": Kind("warning", "training passes over customer images without a shop image of their product"),
    "query_is_shop_image": Kind("warning", "the same file asks and answers; such a query is no test"),
    "image_of_two_products": Kind("warning", "one garment under two product_ids counts a right answer as wrong"),
    "duplicate_row": Kind("warning", "leave one of them out; a query counts as often as it is listed"),
    "box_past_edge": Kind("warning", "the part inside the image is taken; a box of another size of the image?"),
    "odd_table": Kind("warning", "it was read all the same; write the file again if that is not what was meant"),
    "misspelt_column": Kind("warning", "rename the column, or leave it if it is your own"),
    "missing_split": Kind("warning", "training needs train and val, a figure to publish needs test"),
}
"""Every kind of finding, in the order they are told."""


@dataclass(slots=True)
class Found:
    """The findings of one kind: how many, and the first few as (row number or None, message)."""

    count: int = 0
    examples: list[tuple[int | None, str]] = field(default_factory=list)


class Findings:
    """Collects findings in bounded memory; use it in a `with` statement.

    Args:
        shown: kept of each kind.
        path: CSV file that every finding goes to, made at the first one; None keeps only those shown.
        place: what row numbers count, "line" or "row".
    """

    def __init__(self, *, shown: int, path: Path | None, place: str = "row") -> None:
        self.by_kind: dict[str, Found] = {}
        self.shown = shown
        self.path = path
        self.place = place
        self._open = ExitStack()
        self._write: Any = None

    def add(self, kind: str, message: str, row: int | None = None) -> None:
        """Note one finding.

        Args:
            kind: of KINDS.
            message: what was found.
            row: its number in the manifest; None where it is about no single row.
        """
        severity = KINDS[kind].severity
        found = self.by_kind.setdefault(kind, Found())
        found.count += 1
        if len(found.examples) < self.shown:
            found.examples.append((row, message))
        if self.path is not None:
            if self._write is None:
                file = self._open.enter_context(self.path.open("w", newline="", encoding="utf-8"))
                self._write = csv.writer(file).writerow
                self._write(("kind", "severity", "row", "message"))
            self._write((kind, severity, row or "", message))

    def count(self, severity: Severity) -> int:
        """How many of a severity."""
        return sum(found.count for kind, found in self.by_kind.items() if KINDS[kind].severity == severity)

    @property
    def written(self) -> Path | None:
        """The file with all findings, if there are any."""
        return self.path if self._write is not None else None

    def __enter__(self) -> Self:
        if self.path is not None:
            self.path.unlink(missing_ok=True)  # an older check's file would speak of mended rows
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()
