"""One bounded pass over a file's structure, by its format, before Pillow sees the bytes.

Pillow walks markers, chunks, extensions and tags in Python: millions of empty ones in a file of a few megabytes hold
the interpreter, and with it everybody else, for seconds to minutes. Each pass here is linear, ends where Pillow's would
end or earlier, and gives up at the first bound.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from threadmatch.model.headers import avif, bmp, gif, jpeg, png, tiff, webp
from threadmatch.model.headers.found import Header


def _unread(_data: bytes) -> Header | None:
    """libheif reads the structure in C, and has bounds of its own."""
    return None


LOOKS: Final[dict[str, Callable[[bytes], Header | None]]] = {
    "JPEG": jpeg.look,
    "PNG": png.look,
    "WEBP": webp.look,
    "GIF": gif.look,
    "BMP": bmp.look,
    "TIFF": tiff.look,
    "AVIF": avif.look,
    "HEIF": _unread,
}
"""By Pillow's name of the format, as `model.decoding.sniff_format` gives it."""


def look(data: bytes, format_: str) -> Header | None:
    """What the file says of its picture; None where it says nothing that this pass understands.

    Raises:
        InvalidImageError: reason too_complex, where the structure is beyond a bound.
    """
    return LOOKS[format_](data)
