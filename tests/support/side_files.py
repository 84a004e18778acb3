"""Side files of galleries, taken away or damaged."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from threadmatch.indexer.store.record_file import SUFFIX, RecordFile


def side_files(folder: Path) -> list[Path]:
    """Of all generations of a gallery."""
    return sorted((folder / "generations").glob(f"*/*{SUFFIX}"))


def take_away(folder: Path) -> None:
    """As a former version left a gallery: what is derived comes from the database alone."""
    for path in side_files(folder):
        path.unlink()


def damage(path: Path, start: int, size: int = 4) -> None:
    """Flip some bytes of a file in place."""
    with path.open("r+b") as file:
        file.seek(start)
        held = file.read(size)
        file.seek(start)
        file.write(bytes(255 - byte for byte in held))


def damage_record(path: Path, row: int) -> None:
    """Damage the record of a row, if it has one."""
    file = RecordFile(path)
    places = [place for place, number in enumerate(file.rows.tolist()) if number == row]
    for place in places:
        damage(path, int(file._starts[place]) + int(file._sizes[place]) // 2, 1)


def as_torn(path: Path) -> None:
    """As a power cut may leave a file: its first half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def as_of_another_form(path: Path) -> None:
    """A whole file of a format that nobody knows yet."""
    from threadmatch.indexer.store.record_file import Described, RecordWriter

    about = RecordFile(path).about
    path.unlink()
    with RecordWriter(path, Described(about.name, about.first, about.last, {"format": 99})) as writer:
        writer.add(about.first, json.dumps(["wrong", None, 0, [1, 1, 0, 0, 1, 1], {}]).encode())


FAULTS: dict[str, Callable[[Path], None]] = {
    "gone": Path.unlink,
    "torn": as_torn,
    "empty": lambda path: path.write_bytes(b""),
    "a record is damaged": lambda path: damage(path, 1),
    "its tables are damaged": lambda path: damage(path, path.stat().st_size - 60),
    "of another form": as_of_another_form,
}
"""What may have become of a file."""


def forget(path: Path) -> None:
    """Have the kernel drop a file from memory, where there is a disk under it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
