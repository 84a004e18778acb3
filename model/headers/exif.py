"""A bound on EXIF blocks. Pillow reads each tag of one in Python, and copies what it points to."""

from __future__ import annotations

import struct
from typing import Final

EXIF_TAGS_MAX: Final = 1024
"""Tags of a block that are read; cameras write 10 to 60 into the first directory."""
EXIF_BYTES_MAX: Final = 256 * 1024
"""Size of a block that is read; most have less than 64 KiB."""


def is_modest(block: bytes) -> bool:
    """Whether an EXIF block (a small TIFF, with or without `Exif\\0\\0` before it) is cheap to read."""
    return len(block) <= EXIF_BYTES_MAX and tags_of(block) <= EXIF_TAGS_MAX


def tags_of(block: bytes) -> int:
    """How many tags of the first directory a reader would come to; 0 where the block makes no sense."""
    at = 6 if block.startswith(b"Exif\0\0") else 0
    order = "<" if block[at : at + 2] == b"II" else ">"
    if len(block) < at + 8:
        return 0
    (offset,) = struct.unpack_from(f"{order}I", block, at + 4)
    start = at + offset
    if start + 2 > len(block):
        return 0
    (count,) = struct.unpack_from(f"{order}H", block, start)
    return int(min(count, (len(block) - start - 2) // 12))
