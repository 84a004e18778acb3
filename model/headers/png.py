"""PNG: its chunks."""

from __future__ import annotations

import struct
from typing import Final

from threadmatch.model.headers.found import Header, too_complex

PNG_CHUNKS_MAX: Final = 16_384
"""Chunks of a file. An encoder that cuts the picture into pieces of 8 KiB makes 2,560 of the largest file."""
PNG_EXTRAS_MAX: Final = 1024
"""Those that are not the picture's own (IDAT)."""
PNG_PROFILES_MAX: Final = 4
"""Colour profiles: each is unpacked up to a mebibyte."""


def look(data: bytes) -> Header | None:
    """The picture's header; None where it is not there.

    Raises:
        InvalidImageError: too_complex.
    """
    if len(data) < 29 or data[12:16] != b"IHDR":
        return None
    at, extras, profiles, transparent = 8, 0, 0, False
    for _ in range(PNG_CHUNKS_MAX):
        if at + 8 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind != b"IDAT":
            extras += 1
            profiles += kind == b"iCCP"
            transparent |= kind == b"tRNS"
            if extras > PNG_EXTRAS_MAX:
                raise too_complex("PNG", "more chunks that are not its picture", PNG_EXTRAS_MAX)
            if profiles > PNG_PROFILES_MAX:
                raise too_complex("PNG", "more colour profiles", PNG_PROFILES_MAX)
        if kind == b"IEND":
            break
        at += 12 + length
    else:
        raise too_complex("PNG", "more chunks", PNG_CHUNKS_MAX)
    width, height, _, colour = struct.unpack_from(">IIBB", data, 16)
    alpha = transparent or colour in (4, 6)
    # Stored, then RGBA, the white below it and its mask, or RGB alone; and a copy turned upright.
    return Header(width, height, 4 + 4 + 4 + 1 + 4 if alpha else 4 + 4 + 4)
