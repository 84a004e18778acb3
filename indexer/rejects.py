"""Rows that could not be used: the file of them, one JSON object a line, and how many are too many."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TextIO

from threadmatch.indexer.catalogue.rows import Reject
from threadmatch.indexer.errors import CatalogueError
from threadmatch.indexer.store.versions import Run, Store

FOLDER = "rejects"


def rejects_path(gallery: Path, run: int) -> Path:
    """Where a run's rejects are."""
    return gallery / FOLDER / f"run-{run:06d}.jsonl"


@dataclass(frozen=True, slots=True)
class RejectBound:
    """How many rows of a catalogue may be rejected before nothing of it is put in service.

    Fields:
        rows: a number, or
        percent: a share of all rows, 0 to 100; the other is None. Both None: all but one may.
    """

    rows: int | None = None
    percent: float | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "100" or "2.5%".

        Raises:
            ValueError: it is neither.
        """
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(%?)\s*", text)
        if found is None or (not found[2] and "." in found[1]) or (found[2] and float(found[1]) > 100):
            raise ValueError(f"{text!r} is no bound on rejects; give a number of rows, such as 100, or a share: 2.5%")
        return cls(percent=float(found[1])) if found[2] else cls(rows=int(found[1]))

    def fault(self, rejected: int, rows: int) -> str:
        """Why so many are too many, "" where they are not. All of them always are."""
        if rejected and rejected == rows:
            return f"none of the {rows} rows could be used"
        if self.rows is not None and rejected > self.rows:
            return f"{rejected} of {rows} rows were rejected, at most {self.rows} may be"
        if self.percent is not None and 100 * rejected > self.percent * rows:
            share = 100 * rejected / rows
            return f"{rejected} of {rows} rows ({share:.3g} %) were rejected, at most {self.percent:g} % may be"
        return ""


class RejectFile:
    """Writes a run's rejects. A run that is continued tries its rejects again, so the file begins anew.

    Args:
        gallery: its folder.
        run: number.
    """

    def __init__(self, gallery: Path, run: int) -> None:
        self.path = rejects_path(gallery, run)
        self.count = 0
        self.unnamed = 0  # rows that are about nobody knows which item
        self._file: TextIO | None = None

    def __enter__(self) -> RejectFile:
        self.path.unlink(missing_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, reject: Reject) -> None:
        """Add a row; the file appears with the first one."""
        if self._file is None:
            self.path.parent.mkdir(exist_ok=True)
            self._file = self.path.open("w", encoding="utf-8", errors="backslashreplace", buffering=1)
        self._file.write(json.dumps(dataclasses.asdict(reject), ensure_ascii=False) + "\n")
        self.count += 1
        self.unnamed += reject.id is None

    def ids(self) -> Iterator[tuple[str, int]]:
        """Id and row of every reject so far that has an id."""
        return ((reject.id, reject.row) for reject in self._read() if reject.id is not None)

    def commonest(self) -> tuple[str, int, Reject] | None:
        """The reason that most rows so far have, how many do, and the first of them; None without rejects."""
        counts: Counter[str] = Counter()
        first: dict[str, Reject] = {}
        for reject in self._read():
            counts[reject.reason] += 1
            first.setdefault(reject.reason, reject)
        if not counts:
            return None
        reason, count = counts.most_common(1)[0]
        return reason, count, first[reason]

    def _read(self) -> Iterator[Reject]:
        if self._file is not None:
            self._file.flush()
            with self.path.open(encoding="utf-8") as file:
                for line in file:
                    yield Reject(**json.loads(line))


def refuse_too_many(bound: RejectBound, rejects: RejectFile, *, rows: int, catalogue: Path) -> None:
    """Raise CatalogueError where more rows were rejected than may be; the message leads to the reasons."""
    if fault := bound.fault(rejects.count, rows):
        common = rejects.commonest()
        why = ""
        if common is not None:
            reason, count, first = common
            why = f"; {count} of {rejects.count} are {reason}, such as row {first.row}: {first.message}"
        raise CatalogueError(
            f"{catalogue}: {fault}, so nothing of it was put in service; photos that were encoded are kept. "
            f"The reasons are in {rejects.path}{why}"
        )


def prune(store: Store, run: Run, rejects: RejectFile) -> str:
    """Delete the items that the catalogue does not hold, those of rejected rows left as they are.

    Returns:
        Why nothing was deleted, "" where something could be: a damaged row may be about any item.
    """
    if rejects.unnamed:
        return f"nothing was pruned: {rejects.unnamed} rejected rows do not say which item they are about; mend them"
    for item_id, row in rejects.ids():
        store.claim(item_id, row)
    store.delete_unseen(run)
    return ""
