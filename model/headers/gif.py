"""GIF: the blocks before its first frame."""

from __future__ import annotations

import struct
from typing import Final

from threadmatch.model.headers.found import SKIPPED_MAX, Header, too_complex

GIF_BLOCKS_MAX: Final = 4096
"""Pieces of comments and extensions before the first frame, of at most 255 bytes each; most files have under ten."""


def look(data: bytes) -> Header | None:
    """The first frame's header; None where none comes.

    Raises:
        InvalidImageError: too_complex.
    """
    if len(data) < 13:
        return None
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + (3 << (flags % 8 + 1) if flags & 0x80 else 0)
    blocks = skipped = 0
    while at < len(data):
        kind = data[at]
        at += 1
        if kind == 0x3B:  # the end
            return None
        if kind == 0x2C:
            if at + 8 > len(data):
                return None
            left, top, across, down = struct.unpack_from("<HHHH", data, at)
            # One byte a pixel, RGBA, what the frame leaves behind, white, mask, a copy turned upright.
            return Header(max(width, left + across), max(height, top + down), 1 + 4 + 4 + 4 + 1 + 4)
        if kind != 0x21:
            skipped += 1
            if skipped > SKIPPED_MAX:
                raise too_complex("GIF", "more bytes between its blocks", SKIPPED_MAX)
            continue
        at += 1  # which extension
        while at < len(data):
            size = data[at]
            at += 1 + size
            blocks += 1
            if blocks > GIF_BLOCKS_MAX:
                raise too_complex("GIF", "more pieces of comments before its picture", GIF_BLOCKS_MAX)
            if size == 0:
                break
    return None
