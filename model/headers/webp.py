"""WebP: the chunks of its RIFF container."""

from __future__ import annotations

import struct
from typing import Final

from threadmatch.model.headers.found import Header, too_complex

WEBP_CHUNKS_MAX: Final = 4096
"""Chunks: a still picture has one to six, an animation one for each of its frames."""
# Two canvases of the animation decoder, its planes, the bytes handed over, stored; RGBA, white, mask; turned upright.
_BYTES_A_PIXEL: Final = 8 + 4 + 4 + 4 + 4 + 4 + 1 + 4


def look(data: bytes) -> Header | None:
    """The canvas; None where it is not said.

    Raises:
        InvalidImageError: too_complex.
    """
    at, found = 12, None
    for _ in range(WEBP_CHUNKS_MAX):
        if at + 8 > len(data):
            return found
        kind, length = struct.unpack_from("<4sI", data, at)
        if found is None and at + 18 <= len(data):
            found = _canvas(data, at + 8, kind)
        at += 8 + length + length % 2
    raise too_complex("WebP", "more chunks", WEBP_CHUNKS_MAX)


def _canvas(data: bytes, at: int, kind: bytes) -> Header | None:
    if kind == b"VP8X":
        width = 1 + int.from_bytes(data[at + 4 : at + 7], "little")
        height = 1 + int.from_bytes(data[at + 7 : at + 10], "little")
    elif kind == b"VP8L":
        bits = int.from_bytes(data[at + 1 : at + 5], "little")
        width, height = 1 + bits % 2**14, 1 + (bits >> 14) % 2**14
    elif kind == b"VP8 ":
        width, height = (side % 2**14 for side in struct.unpack_from("<HH", data, at + 6))
    else:
        return None
    return Header(width, height, _BYTES_A_PIXEL)
