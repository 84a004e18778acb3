"""AVIF: the boxes of its container that describe pictures."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from threadmatch.model.headers.exif import EXIF_TAGS_MAX, tags_of
from threadmatch.model.headers.found import Header, too_complex

AVIF_BOXES_MAX: Final = 4096
"""Boxes, all levels together; a photo has about 30, one in tiles some hundreds."""
AVIF_EXIF_BYTES_MAX: Final = 64 * 1024
"""Size of what is called Exif in it, which Pillow reads before it is asked."""
# Planes of up to 16 bits, RGBA, the bytes handed over, stored; RGBA, white, mask; turned upright.
_BYTES_A_PIXEL: Final = 8 + 4 + 4 + 4 + 4 + 4 + 1 + 4
_INSIDE: Final = {b"meta": 4, b"iprp": 0, b"ipco": 0, b"moov": 0, b"trak": 0, b"mdia": 0, b"minf": 0, b"stbl": 0}


def look(data: bytes) -> Header | None:
    """The largest picture; None where no size is said.

    Raises:
        InvalidImageError: too_complex.
    """
    width = height = 0
    names: set[int] = set()
    places: dict[int, list[tuple[int, int]]] = {}
    for count, (kind, start, end) in enumerate(_boxes(data, 0, len(data))):
        if count >= AVIF_BOXES_MAX:
            raise too_complex("AVIF", "more boxes", AVIF_BOXES_MAX)
        if kind == b"ispe" and end - start >= 12:
            across, down = struct.unpack_from(">II", data, start + 4)
            if across * down > width * height:
                width, height = across, down
        elif kind == b"iinf":
            names |= _exif_items(data, start, end)
        elif kind == b"iloc":
            places |= _places(data, start, end)
    for item in names:
        size = sum(length for _, length in places.get(item, []))
        if size > AVIF_EXIF_BYTES_MAX:
            raise too_complex("AVIF", f"{size:,} bytes of EXIF", AVIF_EXIF_BYTES_MAX)
        for offset, length in places.get(item, [])[:1]:
            if tags_of(data[offset + 4 : offset + length]) > EXIF_TAGS_MAX:
                raise too_complex("AVIF", "more EXIF tags than that", EXIF_TAGS_MAX)
    return Header(width, height, _BYTES_A_PIXEL) if width and height else None


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of every box and of those in the ones that hold boxes; start and end of what it holds."""
    open_: list[tuple[int, int]] = [(at, end)]
    while open_:
        at, end = open_.pop()
        if at + 8 > end:
            continue
        length, kind = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if length == 1 and at + 16 <= end:
            length, start = struct.unpack_from(">Q", data, at + 8)[0], at + 16
        stop = end if length == 0 else min(end, at + length)
        if stop < start:
            continue
        open_.append((stop, end))
        yield kind, start, stop
        if kind in _INSIDE:
            open_.append((start + _INSIDE[kind], stop))


def _exif_items(data: bytes, start: int, end: int) -> set[int]:
    """Numbers of the items that are EXIF blocks."""
    at = start + (6 if data[start : start + 1] == b"\0" else 8)
    found = set()
    for count, (kind, inner, stop) in enumerate(_boxes(data, at, end)):
        if count >= AVIF_BOXES_MAX:
            raise too_complex("AVIF", "more items", AVIF_BOXES_MAX)
        wide = 4 if data[inner : inner + 1] == b"\x03" else 2
        if kind == b"infe" and data[inner + 6 + wide : inner + 10 + wide] == b"Exif" and stop - inner >= 10 + wide:
            found.add(int.from_bytes(data[inner + 4 : inner + 4 + wide], "big"))
    return found


def _places(data: bytes, start: int, end: int) -> dict[int, list[tuple[int, int]]]:
    """(offset, length) of the pieces of each item; what makes no sense is left out, as libavif refuses it."""
    if end - start < 8:
        return {}
    version = data[start]
    sizes = data[start + 4], data[start + 5]
    offset_size, length_size, base_size = sizes[0] >> 4, sizes[0] & 15, sizes[1] >> 4
    index_size = sizes[1] & 15 if version in (1, 2) else 0
    wide = 4 if version == 2 else 2
    at = start + 6

    def number(size: int) -> int:
        nonlocal at
        at += size
        return int.from_bytes(data[at - size : at], "big")

    found: dict[int, list[tuple[int, int]]] = {}
    pieces = 0
    for _ in range(number(wide)):
        item = number(wide)
        at += (2 if version in (1, 2) else 0) + 2  # how it is stored, and in which file
        base = number(base_size)
        for _ in range(number(2)):
            pieces += 1
            if pieces > AVIF_BOXES_MAX:
                raise too_complex("AVIF", "more pieces of items", AVIF_BOXES_MAX)
            at += index_size
            offset = base + number(offset_size)
            found.setdefault(item, []).append((offset, number(length_size)))
        if at > end:
            break
    return found
