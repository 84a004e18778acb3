"""Bytes of an image file to upright 8-bit RGB, whatever the file holds and whoever sent it.

The bytes are not trusted. The format is told from the first bytes, and Pillow is asked for that one decoder only; the
file's structure is looked through in one bounded pass before (`model.headers`); the size in the header is checked
before a pixel is decoded; whatever the decoder raises becomes an InvalidImageError that says what to do.

An embedded colour profile is not applied: profiles are a second parser for hostile bytes, and the difference between
sRGB and the wider spaces of telephones is smaller than that between two lamps, which the model has to bear anyway.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageChops, UnidentifiedImageError

from threadmatch.model.errors import InvalidImageError
from threadmatch.model.headers.exif import EXIF_BYTES_MAX, is_modest
from threadmatch.model.headers.looking import look
from threadmatch.model.image_formats import ACCEPTED_FORMATS, jpeg_scans, sniff_format

__all__ = ["ACCEPTED_FORMATS", "ImageLimits", "OpenedImage", "decode_upright", "open_image", "sniff_format"]

JPEG_SCANS_MAX: Final = 64
"""A progressive JPEG has about ten scans; thousands of empty ones, 10 bytes each, would keep a core busy for hours."""

_JPEG_END: Final = b"\xff\xd9"
_FILLERS: Final = (b"", b"\x55" * 512, b"\xaa" * 512)
"""Bytes of a scan that nothing was ever encoded as."""
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_RAW_EXIF: Final = "Raw profile type exif"  # a PNG's, in hexadecimal digits, as ImageMagick writes it
_BAND_PX: Final = 1 << 20
_SWAPPED: Final = (5, 6, 7, 8)  # orientations that exchange width and height


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What an image may cost before it is refused.

    Fields:
        max_bytes: size of the file.
        max_pixels: width times height as the file's header says it, checked before decoding.
        min_side_px: shortest side that still shows something.
    """

    max_bytes: int = 32 * 2**20
    max_pixels: int = 64_000_000
    min_side_px: int = 8


@dataclass(frozen=True, slots=True)
class OpenedImage:
    """An image file whose header was read and whose pixels mostly were not.

    Fields:
        picture: Pillow's image.
        data: the file.
        orientation: as EXIF counts, 1 to 8; 1 stands.
        width: upright, pixels.
        height: upright, pixels.
    """

    picture: Image.Image
    data: bytes
    orientation: int
    width: int
    height: int


def open_image(data: bytes, limits: ImageLimits) -> OpenedImage:
    """Read the header of an image file and check what it promises.

    Raises:
        InvalidImageError: empty, too_many_bytes, unsupported_format, not_an_image, truncated, damaged, too_complex,
            too_many_pixels or too_small.
    """
    if not data:
        raise InvalidImageError("the image is empty (0 bytes); send the bytes of a photo", reason="empty")
    if len(data) > limits.max_bytes:
        message = f"the image has {len(data):,} bytes, at most {limits.max_bytes:,} are accepted; send a smaller one"
        raise InvalidImageError(message, reason="too_many_bytes")
    format_ = sniff_format(data)
    scans, ends = jpeg_scans(data) if format_ == "JPEG" else (0, True)
    if scans > JPEG_SCANS_MAX:
        message = f"the JPEG has {scans} scans, at most {JPEG_SCANS_MAX} are accepted; save it as a baseline JPEG"
        raise InvalidImageError(message, reason="too_complex")
    look(data, format_)
    if scans and not ends:
        data = _with_end(data, limits)
    elif format_ == "HEIF":
        _take_heif()
    try:
        picture = Image.open(io.BytesIO(data), formats=(format_,))
    except Exception as error:  # Pillow's parsers raise nearly every kind of exception at hostile bytes
        raise _explain(error, data, format_) from error
    width, height = picture.size
    if width * height > limits.max_pixels:
        found = f"{width} x {height} pixels, at most {limits.max_pixels:,} are accepted"
        raise _too_many_pixels(found)
    if min(width, height) < limits.min_side_px:
        message = (
            f"the image has {width} x {height} pixels, each side needs at least {limits.min_side_px}; send a larger one"
        )
        raise InvalidImageError(message, reason="too_small")
    if format_ == "PNG":  # its EXIF block may stand behind the pixels, and Pillow would fetch it in silence
        try:
            picture.load()
        except Exception as error:  # as above
            raise _explain(error, data, format_) from error
    orientation = _orientation(picture)
    if orientation in _SWAPPED:
        width, height = height, width
    return OpenedImage(picture, data, orientation, width, height)


def decode_upright(opened: OpenedImage, *, long_side_hint_px: int | None = None) -> Image.Image:
    """Decode the pixels of an opened image.

    Args:
        opened: from `open_image`; to be used once.
        long_side_hint_px: the longer side may come out smaller than in the file, down to this; None keeps the size.

    Returns:
        Upright image of mode RGB, without any metadata; what was transparent is white.
    """
    picture = opened.picture
    format_ = picture.format or "image"
    try:
        shrink = _shrink_factor(picture.size, long_side_hint_px)
        if shrink > 1 and format_ in ("JPEG", "MPO"):
            width, height = (
                picture.size
            )  # libjpeg halves while it decodes: 2, 4 or 8 times smaller, for a third of the time
            picture.draft(None, (width // shrink, height // shrink))
        picture.load()
        rgb = _as_rgb(picture)
        if (shrink := _shrink_factor(rgb.size, long_side_hint_px)) > 1:
            rgb = rgb.reduce(shrink)
        if opened.orientation in _TURNS:
            rgb = rgb.transpose(_TURNS[opened.orientation])
    except Exception as error:  # as in open_image
        raise _explain(error, opened.data, format_) from error
    rgb.info = {}
    return rgb


def _take_heif() -> None:
    """Let Pillow open HEIC photos; libheif turns them upright itself."""
    from pillow_heif import register_heif_opener

    if "HEIF" not in Image.OPEN:
        register_heif_opener()


def _with_end(data: bytes, limits: ImageLimits) -> bytes:
    """A JPEG whose end is not marked, with the mark, if that is all it lacks; else as it is.

    Where the picture is whole, what follows it changes no pixel. Where it is not, the decoder would make something up
    from what follows, and differently for different bytes.
    """
    whole = data.rstrip(b"\xff") + _JPEG_END
    try:
        pictures = []
        for filler in _FILLERS:
            picture = Image.open(io.BytesIO(data.rstrip(b"\xff") + filler + _JPEG_END), formats=("JPEG",))
            if picture.width * picture.height > limits.max_pixels:
                return data
            pictures.append(picture.convert("RGB"))
    except Exception:  # whatever it is, opening the file as it is says it better
        return data
    alike = all(ImageChops.difference(pictures[0], other).getbbox() is None for other in pictures[1:])
    return whole if alike else data


def _orientation(picture: Image.Image) -> int:
    """EXIF orientation 1 to 8; 1 where the EXIF block is missing or makes no sense."""
    if picture.format == "TIFF":
        return 1  # Pillow turns TIFF by itself, in size and in load
    if not is_modest(picture.info.get("exif", b"")) or len(picture.info.get(_RAW_EXIF, "")) > 2 * EXIF_BYTES_MAX:
        return 1  # hundreds of tags of large values, each copied
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a broken EXIF block does not make the photo unusable
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def _shrink_factor(size: tuple[int, int], long_side_px: int | None) -> int:
    """Whole number by which both sides can be divided and keep the hinted length and at least one pixel."""
    if long_side_px is None:
        return 1
    return max(1, min(max(size) // max(1, long_side_px), min(size)))


def _as_rgb(picture: Image.Image) -> Image.Image:
    """Any Pillow mode to RGB; 16-bit and float values are scaled, not clipped; transparent pixels over white."""
    if picture.mode.startswith("I") or picture.mode == "F":
        return Image.fromarray(_deep_grey(picture)).convert("RGB")
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        white = Image.new("RGB", rgba.size, (255, 255, 255))
        white.paste(rgba, mask=rgba.getchannel("A"))
        return white
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _deep_grey(picture: Image.Image) -> NDArray[np.uint8]:
    """Grey values of more than 8 bits to 8 bits.

    Band by band, since float copies of a whole picture would take gigabytes.

    Unsigned 16-bit values use their whole range. Signed and float values have no agreed white, so the smallest usual
    range that holds them all is taken (1 for floats, 255, 65535), and their own range where none does.

    Returns:
        (H, W) uint8.
    """
    bands = [
        (0, top, picture.width, min(top + max(1, _BAND_PX // picture.width), picture.height))
        for top in range(0, picture.height, max(1, _BAND_PX // picture.width))
    ]
    tags: Mapping[int, object] = getattr(picture, "tag_v2", {})
    inverted = False
    if picture.mode.startswith("I;16"):
        low, high = 0.0, 4095.0 if tags.get(ExifTags.Base.BitsPerSample) == (12,) else 65535.0
        # white is zero; Pillow leaves 16-bit values as they are
        inverted = tags.get(ExifTags.Base.PhotometricInterpretation) == 0
    else:
        ends = [(float(values.min()), float(values.max())) for values in (_values(picture, band) for band in bands)]
        low, high = min(low for low, _ in ends), max(high for _, high in ends)
        if low >= 0 and (fits := [top for top in _WHITES[picture.mode[0]] if high <= top]):
            low, high = 0.0, fits[0]
    levels = np.empty((picture.height, picture.width), np.uint8)
    for band in bands:
        values = _values(picture, band)
        scaled = ((high - values if inverted else values) - low) * np.float32(255.0 / max(high - low, 1e-12))
        levels[band[1] : band[3]] = np.clip(np.rint(scaled), 0, 255)
    return levels


def _values(picture: Image.Image, band: tuple[int, int, int, int]) -> NDArray[np.float32]:
    """(h, w) finite values of some rows: whole pictures of numbers would take many times the memory of the pixels."""
    rows = np.asarray(picture.crop(band), dtype=np.float32)
    return np.nan_to_num(rows, nan=0.0, posinf=0.0, neginf=0.0)


_WHITES: Final = {"I": (255.0, 65535.0), "F": (1.0, 255.0, 65535.0)}


def _explain(error: Exception, data: bytes, format_: str) -> InvalidImageError:
    """The InvalidImageError that tells a sender what to do about something a decoder raised."""
    text = str(error)
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return _too_many_pixels("more pixels than the decoder accepts")
    if "MAX_TEXT" in text:
        message = f"the {format_} carries more text than is accepted; save it again without metadata"
        return InvalidImageError(message, reason="too_complex")
    if isinstance(error, EOFError) or "truncated" in text.lower() or _ends_early(data, format_):
        message = f"the {format_} file ends before the picture does ({len(data):,} bytes); send the whole file"
        return InvalidImageError(message, reason="truncated")
    if isinstance(error, MemoryError):
        return _too_many_pixels("more pixels than fit into memory")
    said = "its header makes no sense" if isinstance(error, UnidentifiedImageError) else (text or type(error).__name__)
    message = f"the {format_} file is damaged or cannot be decoded ({said[:120]}); save it again as JPEG or PNG"
    return InvalidImageError(message, reason="damaged")


def _ends_early(data: bytes, format_: str) -> bool:
    """Whether a file that could not be decoded lacks its end, by what its container says."""
    if format_ in ("JPEG", "MPO"):
        return b"\xff\xd9" not in data
    if format_ == "PNG":
        return b"IEND" not in data
    if format_ == "GIF":
        return b";" not in data[-16:]
    if format_ in ("WEBP", "BMP") and len(data) >= 8:
        (length,) = struct.unpack_from("<I", data, 4 if format_ == "WEBP" else 2)
        return bool(length + (8 if format_ == "WEBP" else 0) > len(data))
    if format_ == "AVIF":
        return _boxes_end_early(data)
    return len(data) < 32


def _boxes_end_early(data: bytes) -> bool:
    """Whether the last of an AVIF's boxes, each of which says its length, is longer than what is left."""
    at = 0
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        if length < 8:  # 0: up to the end of the file; 1: a 64-bit length, which no image needs
            return False
        at += length
    return at > len(data)


def _too_many_pixels(found: str) -> InvalidImageError:
    return InvalidImageError(f"the image has {found}; send a smaller one", reason="too_many_pixels")
