"""JPEG: the markers before the first scan, as Pillow walks them."""

from __future__ import annotations

import struct
from typing import Final

from PIL.JpegImagePlugin import MARKER

from threadmatch.model.headers.exif import EXIF_BYTES_MAX, EXIF_TAGS_MAX, tags_of
from threadmatch.model.headers.found import SKIPPED_MAX, Header, too_complex

JPEG_SEGMENTS_MAX: Final = 1000
"""Markers before the first scan. A photo has about ten; one with a large profile or a depth map some hundreds."""
JPEG_TABLE_BYTES_MAX: Final = 64 * 1024
"""Huffman and quantisation tables, which Pillow reads in Python; a photo has under 2 KB."""
JPEG_RESOURCES_MAX: Final = 4096
"""Photoshop's resources, likewise; an edited photo has some dozens."""

_START_OF_SCAN: Final = 0xDA
_TABLES: Final = (0xC4, 0xDB)
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE: Final = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
_KNOWN: Final = frozenset(code & 0xFF for code in MARKER)
_BARE: Final = frozenset(code & 0xFF for code, (_, _, handler) in MARKER.items() if handler is None)  # nothing follows


def look(data: bytes) -> Header | None:
    """The frame's header; None where there is none before the scan.

    Raises:
        InvalidImageError: too_complex.
    """
    header: Header | None = None
    at, skipped, tables, resources, exif = 2, 0, 0, 0, 0
    for _ in range(JPEG_SEGMENTS_MAX):
        at, passed = _next_marker(data, at)
        skipped += passed
        if skipped > SKIPPED_MAX:
            raise too_complex("JPEG", "much between its segments that is no segment", SKIPPED_MAX)
        if at >= len(data) or data[at] == _START_OF_SCAN or data[at] not in _KNOWN | {0x00}:
            return header
        code, at = data[at], at + 1
        if code in _BARE or code == 0x00:
            continue
        if at + 2 > len(data):
            return header
        end = at + max(2, int.from_bytes(data[at : at + 2], "big"))
        if code in _FRAMES and at + 8 <= len(data):
            header = _frame(data, at, code)
        elif code in _TABLES:
            tables += end - at
        elif code == 0xED:
            resources += data.count(b"8BIM", at, end)
        elif code == 0xE1 and data[at + 2 : at + 8] == b"Exif\0\0":
            exif += end - at
            if tags_of(data[at + 2 : end]) > EXIF_TAGS_MAX:
                raise too_complex("JPEG", "more EXIF tags than that", EXIF_TAGS_MAX)
        _check(tables, resources, exif)
        at = end
    raise too_complex("JPEG", "more segments before its picture", JPEG_SEGMENTS_MAX)


def _check(tables: int, resources: int, exif: int) -> None:
    for found, most, what in (
        (tables, JPEG_TABLE_BYTES_MAX, "bytes of tables"),
        (resources, JPEG_RESOURCES_MAX, "Photoshop resources"),
        (exif, EXIF_BYTES_MAX, "bytes of EXIF"),
    ):
        if found > most:
            raise too_complex("JPEG", f"{found:,} {what}", most)


def _next_marker(data: bytes, at: int) -> tuple[int, int]:
    """Where the next marker's code stands, and how many bytes on the way there were none; gives up past SKIPPED_MAX."""
    found = data.find(b"\xff", at, at + SKIPPED_MAX + 2)
    if found < 0:
        return len(data), min(len(data) - at, SKIPPED_MAX + 1)
    code = found + 1
    while code < len(data) and data[code] == 0xFF and code - at <= SKIPPED_MAX + 1:
        code += 1
    return code, code - at - 1


def _frame(data: bytes, at: int, code: int) -> Header:
    height, width, components = struct.unpack_from(">HHB", data, at + 3)
    # Pillow's RGB and CMYK are 4 bytes; a copy turned upright; a progressive file's coefficients, 2 bytes each.
    pixel = {1: 1 + 4 + 4, 3: 4 + 4}.get(components, 4 + 4 + 4)
    return Header(width, height, pixel + (2 * components if code in _PROGRESSIVE else 0))
