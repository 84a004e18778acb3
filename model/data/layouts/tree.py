"""What the layouts share: files looked for in a folder, tables with a count and a header, splits by hash, notes.

Layouts are read as generators of manifest rows; what is odd on the way is counted in Notes, with an example.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from threadmatch.model.data.manifest.rows import Split
from threadmatch.model.errors import DataError, InvalidImageError
from threadmatch.model.images import Box

TRIED: Final = 50
"""Image names that are looked for before a folder is said to hold none of them."""


@dataclass(slots=True)
class Notes:
    """What was odd in a layout: what, how often, and the first example."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, what: str, example: str) -> None:
        """Count one."""
        self.counts[what] = self.counts.get(what, 0) + 1
        self.examples.setdefault(what, example)


def need(root: Path, name: str, layout: str) -> Path:
    """A file of a layout.

    Raises:
        DataError: it is not there; where it was looked for, and where it was found instead.
    """
    if (path := root / name).is_file():
        return path
    if not root.is_dir():
        raise DataError(f"no folder {root}; give the folder that holds {name}")
    elsewhere = next((found.parents[len(Path(name).parts) - 1] for found in sorted(root.glob(f"*/{name}"))), None)
    hint = f"; it is in {elsewhere}: give that folder" if elsewhere else ""
    raise DataError(f"{root} is not laid out as {layout}: {name} is missing{hint}")


def table_rows(path: Path, columns: Sequence[str], notes: Notes) -> Iterator[list[str]]:
    """The rows of a DeepFashion table: line 1 a count, line 2 names, then cells between blanks.

    Args:
        path: of the table.
        columns: wanted, in the order of the official README; the header's names decide where they are. A header with
            other names and as many columns is taken to be in that order.
        notes: told of a count that is wrong.

    Raises:
        DataError: another form; the line is named.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            count = file.readline().strip()
            header = file.readline().split()
            if not count.isdigit() or not header:
                raise DataError(
                    f"{path} should begin with a line with a count and one with names; found {count[:80]!r}"
                )
            order = _order(path, header, columns)
            read = 0
            for number, line in enumerate(file, start=3):
                if not (cells := line.split()):
                    continue
                if len(cells) != len(header):
                    raise DataError(f"{path}, line {number}: {len(cells)} cells, the header names {len(header)}")
                read += 1
                yield [cells[at] for at in order]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if read != int(count):
        notes.add("wrong count", f"{path} says {count} rows and holds {read}; is it cut off?")


def _order(path: Path, header: Sequence[str], columns: Sequence[str]) -> list[int]:
    if set(columns) <= set(header):
        return [header.index(name) for name in columns]
    if len(header) != len(columns):
        raise DataError(f"{path} has the columns {' '.join(header)}; expected {' '.join(columns)}")
    return list(range(len(columns)))


def item_ids(path: Path) -> frozenset[str] | None:
    """The ids of a list_item file (line 1 a count, then an id a line), or None where there is no such file."""
    if not path.is_file():
        return None
    try:
        return frozenset(path.read_text(encoding="utf-8-sig").split()[1:])
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def image_folder(root: Path, names: Iterator[str], layout: str) -> Path:
    """The folder that image names of a table are below: ROOT/Img, as the archives unpack, or ROOT.

    Raises:
        DataError: none of the first names is in either.
    """
    tried = list(islice(names, TRIED))
    for folder in (root / "Img", root):
        if any((folder / name).is_file() for name in tried):
            return folder
    example = tried[0] if tried else "(the table names none)"
    raise DataError(
        f"{root} is not laid out as {layout}: neither {root / 'Img' / example} nor {root / example} is there; "
        f"unpack the images, so that they lie in {root / 'Img'}"
    )


def corners_box(corners: Sequence[str], name: str, notes: Notes) -> Box | None:
    """A box of four numbers as text, x0 y0 x1 y1; None, and a note, where it is empty or no box."""
    try:
        return Box(*(float(part) for part in corners))
    except (InvalidImageError, ValueError):
        notes.add("box left out", f"{name}: {' '.join(corners)} is empty or no box; the whole image is taken")
        return None


def held_out(product: str, share: float) -> Split:
    """train or val for a product of a set without an official val: the same for ever, whatever else there is."""
    place = int.from_bytes(hashlib.sha256(product.encode()).digest()[:8], "big") / 2**64
    return Split.VAL if place < share else Split.TRAIN
