"""Which kind of file some bytes are, told from the first of them; and where a JPEG's picture ends."""

from __future__ import annotations

import importlib.util
import re
from typing import Final

from threadmatch.model.errors import InvalidImageError

ACCEPTED_FORMATS: Final = ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "AVIF")
"""Always. HEIC too, where the extra `heic` is installed."""
SNIFFED: Final = 1024
"""Bytes that are looked at."""

_ACCEPTED: Final = f"send one of {', '.join(ACCEPTED_FORMATS)}"
_TIFF_STARTS: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_AVIF_BRANDS: Final = (b"avif", b"avis")
_HEIC_BRANDS: Final = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_STILL_BRANDS: Final = (b"mif1", b"mif2", b"miaf", b"msf1")
"""Brands of any still picture in this container; others beside them say how it is coded."""
_STRANGERS: Final = (
    (rb"%PDF", "a PDF document"),
    (rb"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*|<!doctype svg[^>]*>\s*)*<svg", "an SVG drawing"),
    (
        rb"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype html|html|head|body|script|meta|div|p|h1|title)\b",
        "an HTML page",
    ),
    (rb"<\?xml|<[a-z]+[\s>/]", "an XML document, perhaps a server's error message"),
    (rb"[\[{]\s*([\"\]}\d\[{]|true|false|null)", "JSON, perhaps a server's error message"),
    (rb"version https://git-lfs", "a Git LFS pointer in the photo's place: `git lfs pull` fetches the photo itself"),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "a JPEG XL image"),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (rb"\x1f\x8b", "packed with gzip: unpack it"),
    (rb"8BPS", "a Photoshop document"),
    (rb"%!PS", "a PostScript document"),
    (rb"PK\x03\x04", "a ZIP archive"),
    (rb"Rar!|7z\xbc\xaf", "an archive"),
    (rb"\x1aE\xdf\xa3|RIFF....AVI ", "a video"),
)
_NEXT_MARKER: Final = re.compile(rb"\xff+[^\x00\xff]", re.DOTALL)
_IN_SCAN: Final = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]", re.DOTALL)
_WITHOUT_LENGTH: Final = frozenset((0x01, *range(0xD0, 0xD9)))
_SCAN, _END = 0xDA, 0xD9


def sniff_format(data: bytes) -> str:
    """Tell an accepted format from the first bytes: Pillow's name of it.

    Raises:
        InvalidImageError: unsupported_format (another known kind of file) or not_an_image.
    """
    start = data[:16]
    if start.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if start.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return "WEBP"
    if start.startswith(_TIFF_STARTS):
        return "TIFF"
    if start[4:8] == b"ftyp":
        return _container(data)
    if start.startswith(b"BM"):
        return "BMP"
    text = data[:SNIFFED].removeprefix(b"\xef\xbb\xbf").lstrip()
    for pattern, kind in _STRANGERS:
        if re.match(pattern, text, re.IGNORECASE | re.DOTALL):
            raise _unsupported(kind)
    raise InvalidImageError(f"the file starts like no image that is accepted; {_ACCEPTED}", reason="not_an_image")


def _container(data: bytes) -> str:
    """AVIF or HEIF, by all brands that the container names."""
    length = min(int.from_bytes(data[:4], "big"), SNIFFED)
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, length, 4))]
    if any(brand in _AVIF_BRANDS for brand in brands):
        return "AVIF"
    if any(brand in _HEIC_BRANDS for brand in brands):
        if importlib.util.find_spec("pillow_heif") is not None:
            return "HEIF"
        raise _unsupported(
            "a HEIC photo, as iPhones take them", "set the phone to JPEG, or have `threadmatch[heic]` installed here"
        )
    if brands[0] in _STILL_BRANDS:
        return "AVIF"  # what does not say how it is coded is left to the decoder
    raise _unsupported("a video")


def _unsupported(kind: str, also: str = "") -> InvalidImageError:
    what = f"{_ACCEPTED}, or {also}" if also else _ACCEPTED
    return InvalidImageError(f"the file is {kind}, which is not accepted; {what}", reason="unsupported_format")


def jpeg_scans(data: bytes) -> tuple[int, bool]:
    """How many scans a JPEG's picture has, and whether its end is marked.

    What lies behind the end is no part of it: a phone puts a video there, or a second picture. Markers are found the
    way libjpeg finds them, so that a file cannot show it more scans than are counted here.
    """
    scans = 0
    at = 2
    while found := _NEXT_MARKER.search(data, at):
        marker, at = data[found.end() - 1], found.end()
        if marker == _END:
            return scans, True
        if marker in _WITHOUT_LENGTH:
            continue
        at += max(2, int.from_bytes(data[at : at + 2], "big"))
        if marker == _SCAN:
            scans += 1
            behind = _IN_SCAN.search(data, at)
            at = behind.start() if behind else len(data)
    return scans, False
