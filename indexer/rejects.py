"""The file of rows that could not be used: one JSON object a line, written as it happens."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TextIO

from threadmatch.indexer.catalogue.rows import Reject

FOLDER = "rejects"


def rejects_path(gallery: Path, run: int) -> Path:
    """Where a run's rejects are."""
    return gallery / FOLDER / f"run-{run:06d}.jsonl"


class RejectFile:
    """Writes a run's rejects. A run that is continued tries its rejects again, so the file begins anew.

    Args:
        gallery: its folder.
        run: number.
    """

    def __init__(self, gallery: Path, run: int) -> None:
        self.path = rejects_path(gallery, run)
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
