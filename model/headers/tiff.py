"""TIFF: the tags of its first directory and of those below it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from threadmatch.model.headers.found import Header, too_complex

TIFF_TAGS_MAX: Final = 512
"""Tags of one directory. A scanner's file has 20 to 60."""
TIFF_NUMBERS_MAX: Final = 262_144
"""Numbers in all tags together, which become Python's; offsets and lengths of strips are most of them."""
TIFF_VALUE_BYTES_MAX: Final = 16 * 2**20
"""Bytes that all tags together point to; one part of the file may be pointed to many times."""

_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_OPAQUE: Final = (1, 2, 7)  # kept as bytes
_WIDTH, _HEIGHT, _BITS, _SAMPLES = 256, 257, 258, 277
_EXIF, _GPS, _INTEROP = 34665, 34853, 40965


@dataclass(frozen=True, slots=True)
class _Entry:
    tag: int
    kind: int
    count: int
    value: int  # the first number, where it stands in the entry itself; else an offset
    inline: bool

    @property
    def size_bytes(self) -> int:
        return self.count * _SIZES.get(self.kind, 1)


def look(data: bytes) -> Header | None:
    """The first picture's header; None where its size is not said.

    Raises:
        InvalidImageError: too_complex.
    """
    order = "<" if data[:1] == b"I" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    if len(data) < (16 if big else 8):
        return None
    start = struct.unpack_from(f"{order}Q" if big else f"{order}I", data, 8 if big else 4)[0]
    numbers = value_bytes = 0
    found: dict[int, _Entry] = {}
    below = [start]
    for level in range(4):  # the first, Exif, GPS, what works together
        if level >= len(below):
            break
        for entry in _entries(data, below[level], order, big):
            numbers += 0 if entry.kind in _OPAQUE else entry.count
            value_bytes += 0 if entry.inline else min(entry.size_bytes, len(data))
            if numbers > TIFF_NUMBERS_MAX:
                raise too_complex("TIFF", "more numbers in its tags", TIFF_NUMBERS_MAX)
            if value_bytes > TIFF_VALUE_BYTES_MAX:
                raise too_complex("TIFF", "more bytes in its tags", TIFF_VALUE_BYTES_MAX)
            if level == 0:
                found[entry.tag] = entry
            if entry.tag in (_EXIF, _GPS, _INTEROP) and len(below) < 4:
                below.append(entry.value)
    if _WIDTH not in found or _HEIGHT not in found:
        return None
    samples = found[_SAMPLES].value if _SAMPLES in found else 1
    bits = _first_number(data, found[_BITS], order) if _BITS in found else 1
    raw = samples * bits / 8  # a strip may be the whole picture
    # Stored, RGBA, white, mask, turned by Pillow and as RGB again; 16-bit and float values go band by band.
    return Header(found[_WIDTH].value, found[_HEIGHT].value, raw + 4 + 4 + 4 + 1 + 4 + 4)


def _entries(data: bytes, start: int, order: str, big: bool) -> Iterator[_Entry]:
    """The entries of one directory, as many as there are bytes for."""
    head, size = (8, 20) if big else (2, 12)
    if start + head > len(data):
        return
    count = struct.unpack_from(f"{order}Q" if big else f"{order}H", data, start)[0]
    count = min(count, (len(data) - start - head) // size)
    if count > TIFF_TAGS_MAX:
        raise too_complex("TIFF", f"{count:,} tags in one directory", TIFF_TAGS_MAX)
    room, offset = (8, "Q") if big else (4, "I")
    for at in range(start + head, start + head + count * size, size):
        tag, kind = struct.unpack_from(f"{order}HH", data, at)
        number = struct.unpack_from(f"{order}{offset}", data, at + 4)[0]
        inline = number * _SIZES.get(kind, 1) <= room
        form = {1: "B", 3: "H"}.get(kind, offset) if inline else offset
        yield _Entry(tag, kind, number, struct.unpack_from(f"{order}{form}", data, at + 4 + room)[0], inline)


def _first_number(data: bytes, entry: _Entry, order: str) -> int:
    """A SHORT's first value, wherever it stands."""
    if entry.inline or entry.value + 2 > len(data):
        return entry.value if entry.inline else 16
    return int(struct.unpack_from(f"{order}H", data, entry.value)[0])
