"""BMP: its header. Run-length coded ones are unpacked by Pillow in Python, so they have bounds of their own."""

from __future__ import annotations

import struct
from typing import Final

from threadmatch.model.headers.found import Header, too_complex

BMP_RUNS_BYTES_MAX: Final = 1024 * 1024
"""Size of a run-length coded file: each two bytes of it are a turn of a loop in Python."""
BMP_RUNS_PIXELS_MAX: Final = 4_000_000
BMP_RUNS_WIDTH_MAX: Final = 10_000
"""Pixels of a row of one: a few bytes can ask for 255 empty rows."""

_RUNS: Final = (1, 2, 4)  # 8 bits, 4 bits, 24 bits of OS/2


def look(data: bytes) -> Header | None:
    """The picture's header; None where it is cut off.

    Raises:
        InvalidImageError: too_complex.
    """
    if len(data) < 34:
        return None
    (size,) = struct.unpack_from("<I", data, 14)
    if size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        return Header(width, height, 4 + 4 + 4)
    width, height, _, bits, coding = struct.unpack_from("<iiHHI", data, 18)
    width, height = abs(width), abs(height)
    if coding in _RUNS:
        if len(data) > BMP_RUNS_BYTES_MAX:
            raise too_complex("BMP", f"{len(data):,} bytes of runs", BMP_RUNS_BYTES_MAX)
        if width * height > BMP_RUNS_PIXELS_MAX:
            raise too_complex("BMP", f"runs and {width * height:,} pixels", BMP_RUNS_PIXELS_MAX)
        if width > BMP_RUNS_WIDTH_MAX:
            raise too_complex("BMP", f"runs and {width:,} pixels in a row", BMP_RUNS_WIDTH_MAX)
    return Header(width, height, 4 + 4 + 4 + 1 + 4 if bits == 32 else 4 + 4 + 4)
