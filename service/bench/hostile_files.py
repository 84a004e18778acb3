"""Image files made to cost more than they weigh: once, each was taken and held the service for seconds to minutes."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Final

from PIL import Image

MIB: Final = 2**20
SIDE_PX: Final = 64


def picture(format_: str, size: tuple[int, int] = (SIDE_PX, SIDE_PX), *, mode: str = "RGB", **options: object) -> bytes:
    """A valid file of one colour."""
    with io.BytesIO() as file:
        Image.new(mode, size, 128).save(file, format_, **options)
        return file.getvalue()


def jpeg_of_fill(size_bytes: int) -> bytes:
    """Fill bytes (0xFF) before the first marker."""
    data = picture("JPEG")
    return data[:2] + b"\xff" * (size_bytes - len(data)) + data[2:]


def jpeg_of_junk(size_bytes: int) -> bytes:
    """Zeros between two segments."""
    data = picture("JPEG")
    return data[:20] + bytes(size_bytes - len(data)) + data[20:]


def jpeg_of_markers(size_bytes: int) -> bytes:
    """Empty comments before the picture."""
    data = picture("JPEG")
    return data[:2] + b"\xff\xfe\0\x02" * ((size_bytes - len(data)) // 4) + data[2:]


def jpeg_of_resources(size_bytes: int) -> bytes:
    """Empty Photoshop resources."""
    data = picture("JPEG")
    block = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0\0\0\0\0" * 5400
    segment = b"\xff\xed" + struct.pack(">H", len(block) + 2) + block
    return data[:2] + segment * ((size_bytes - len(data)) // len(segment)) + data[2:]


def jpeg_of_tags(size_bytes: int) -> bytes:
    """EXIF tags that all point to the same large value."""
    data = picture("JPEG")
    tags = 5000
    tag = struct.pack("<HHII", 0x9286, 7, 60_000, 8)
    block = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", tags) + tag * tags
    segment = b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block
    return data[:2] + segment * max(1, (size_bytes - len(data)) // len(segment)) + data[2:]


def png_of_chunks(size_bytes: int) -> bytes:
    """Empty chunks before the picture."""
    data = picture("PNG")
    empty = b"\0\0\0\0teSt" + struct.pack(">I", zlib.crc32(b"teSt"))
    return data[:33] + empty * ((size_bytes - len(data)) // 12) + data[33:]


def png_of_late_chunks(size_bytes: int) -> bytes:
    """Empty chunks behind the picture."""
    data = picture("PNG")
    empty = b"\0\0\0\0teSt" + struct.pack(">I", zlib.crc32(b"teSt"))
    return data[:-12] + empty * ((size_bytes - len(data)) // 12) + data[-12:]


def png_of_profiles(size_bytes: int) -> bytes:
    """Colour profiles, each of which unpacks to a mebibyte."""
    data = picture("PNG")
    body = b"iCCPx\0\0" + zlib.compress(bytes(MIB))
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return data[:33] + chunk * ((size_bytes - len(data)) // len(chunk)) + data[33:]


def gif_of_comments(size_bytes: int) -> bytes:
    """Comments of one byte before the frame."""
    data = picture("GIF")
    at = data.index(b",", 13 + 3 * 2 ** (data[10] % 8 + 1))
    return data[:at] + b"!\xfe\x01a\0" * ((size_bytes - len(data)) // 5) + data[at:]


def gif_of_junk(size_bytes: int) -> bytes:
    """Zeros between two blocks."""
    data = picture("GIF")
    at = data.index(b",", 13 + 3 * 2 ** (data[10] % 8 + 1))
    return data[:at] + bytes(size_bytes - len(data)) + data[at:]


def tiff_of_tags(size_bytes: int) -> bytes:
    """Tags, as many as one directory can have."""
    return _tiff([(tag, 3, 1, 1) for tag in range(1000, 1000 + min(60_000, size_bytes // 12))])


def tiff_of_values(size_bytes: int) -> bytes:
    """Tags that all point to the whole file."""
    return _tiff([(tag, 7, size_bytes // 2, 8) for tag in range(1000, 1400)]) + bytes(size_bytes // 2)


def tiff_of_strips(size_bytes: int) -> bytes:
    """Offsets of more strips than there are rows."""
    many = size_bytes // 8
    return _tiff([(273, 4, many, 8), (279, 4, many, 8)]) + bytes(many * 4)


def bmp_of_runs(size_bytes: int) -> bytes:
    """Runs of one pixel, which Pillow unpacks in Python."""
    side = 4000
    body = b"\x01\x05" * ((size_bytes - 1100) // 2) + b"\0\x01"
    head = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(body), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 1024 + len(body), 0, 0, 54 + 1024) + head + bytes(1024) + body


def webp_of_chunks(size_bytes: int) -> bytes:
    """Empty chunks behind the picture."""
    data = picture("WEBP")
    body = data[8:] + b"teSt\0\0\0\0" * ((size_bytes - len(data)) // 8)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def avif_of_boxes(size_bytes: int) -> bytes:
    """Empty boxes behind the first."""
    data = picture("AVIF")
    (first,) = struct.unpack_from(">I", data)
    return data[:first] + b"\0\0\0\x08free" * ((size_bytes - len(data)) // 8) + data[first:]


def _tiff(entries: list[tuple[int, int, int, int]]) -> bytes:
    """A grey picture of 64 x 64 with further tags, which take the place of its own of the same number."""
    pixels = SIDE_PX * SIDE_PX
    own = {256: (3, 1, SIDE_PX), 257: (3, 1, SIDE_PX), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 273: (4, 1, 8),
           277: (3, 1, 1), 278: (3, 1, SIDE_PX), 279: (4, 1, pixels)}  # fmt: skip
    tags = {**own, **{tag: (kind, count, value) for tag, kind, count, value in entries}}
    listed = b"".join(struct.pack("<HHII", tag, *tags[tag]) for tag in sorted(tags))
    directory = struct.pack("<H", len(tags)) + listed + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + pixels) + bytes([128]) * pixels + directory


FAR_FETCHED: Final[dict[str, Callable[[int], bytes]]] = {
    make.__name__: make
    for make in (
        jpeg_of_fill, jpeg_of_junk, jpeg_of_markers, jpeg_of_resources, jpeg_of_tags, png_of_chunks, png_of_late_chunks,
        png_of_profiles, gif_of_comments, gif_of_junk, tiff_of_tags, tiff_of_values, tiff_of_strips, bmp_of_runs,
        webp_of_chunks, avif_of_boxes,
    )
}  # fmt: skip
"""Files of about a given size whose structure no camera and no editor writes; all are refused as too_complex."""


def large_png(side_px: int = 7900) -> bytes:
    """A file of some hundred KB that unpacks to four bytes for each of its pixels."""
    return picture("PNG", (side_px, side_px), mode="RGBA", compress_level=1)


def float_tiff(side_px: int = 8000) -> bytes:
    """The same of floats."""
    return picture("TIFF", (side_px, side_px), mode="F", compression="tiff_lzw")
