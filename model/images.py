"""From bytes to the pixels a model takes: the one preprocessing, offline and online.

Letters  S side of the model's square input
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from model.errors import InvalidImageError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
DISPLAY_PHOTO_PX = 512
DISPLAY_QUALITY = 85
DRAFT_MARGIN = 2.0
"""A JPEG is decoded at reduced size only while the box keeps this many times the model's side."""


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What an image may be: encoded bytes, decoded pixels, shortest side in pixels."""

    max_bytes: int = 20 * 2**20
    max_pixels: int = 64_000_000
    min_side_px: int = 8


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels of the upright original; x1 and y1 lie just outside."""

    x0: float
    y0: float
    x1: float
    y1: float

    @classmethod
    def parse(cls, text: str) -> Box:
        """Read "x0,y0,x1,y1".

        Raises:
            InvalidImageError: reason "bad_box".
        """
        try:
            values = [float(part) for part in text.strip().strip("[]()").split(",")]
            x0, y0, x1, y1 = values
        except ValueError as error:
            raise InvalidImageError(f"box {text!r} is not four numbers x0,y0,x1,y1 in pixels", reason="bad_box") from error
        if not all(np.isfinite(values)) or x1 <= x0 or y1 <= y0:
            raise InvalidImageError(f"box {text!r} needs finite numbers with x0 < x1 and y0 < y1", reason="bad_box")
        return cls(x0, y0, x1, y1)

    def clipped(self, width: int, height: int) -> Box:
        """The part inside an image of width x height pixels.

        Raises:
            InvalidImageError: reason "bad_box", if that is less than a pixel.
        """
        box = Box(max(self.x0, 0), max(self.y0, 0), min(self.x1, width), min(self.y1, height))
        if box.x1 - box.x0 < 1 or box.y1 - box.y0 < 1:
            raise InvalidImageError(
                f"box {self.x0:g},{self.y0:g},{self.x1:g},{self.y1:g} lies outside the image of {width}x{height} pixels",
                reason="bad_box",
            )
        return box


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """Upright RGB pixels, perhaps decoded at reduced size; width and height are the upright original's."""

    pixels: Image.Image
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """(S, S, 3) uint8 RGB, the upright original's size in pixels, and the box that was cut out."""

    pixels: NDArray[np.uint8]
    width: int
    height: int
    box: Box


def load_image(
    data: bytes, *, image_px: int, box: Box | None = None, limits: ImageLimits | None = None
) -> tuple[PreparedImage, DecodedImage]:
    """Decode and prepare in one go; what ingestion and search both call.

    Raises:
        InvalidImageError: the bytes or the box cannot be used.
    """
    decoded = decode_image(data, limits or ImageLimits(), image_px=image_px, box=box)
    return prepare_image(decoded, image_px=image_px, box=box), decoded


def decode_image(
    data: bytes, limits: ImageLimits | None = None, *, image_px: int | None = None, box: Box | None = None
) -> DecodedImage:
    """Decode to upright RGB.

    Args:
        data: an image file.
        limits: checked before anything is decoded.
        image_px: with it a large JPEG is decoded at reduced size, never below what `box` and display need.
        box: see above.

    Raises:
        InvalidImageError: with its reason.
    """
    limits = limits or ImageLimits()
    if not data:
        raise InvalidImageError("the file is empty; send an image", reason="empty")
    if len(data) > limits.max_bytes:
        raise InvalidImageError(
            f"the file has {len(data)} bytes, at most {limits.max_bytes} are taken; send a smaller one",
            reason="too_many_bytes",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _decode(data, limits, image_px, box)
    except InvalidImageError:
        raise
    except Image.DecompressionBombError as error:
        raise InvalidImageError(f"{error}", reason="too_many_pixels") from error
    except Image.UnidentifiedImageError as error:
        raise InvalidImageError(
            f"not an image of a known kind ({', '.join(FORMATS)}); convert it", reason="not_an_image"
        ) from error
    except MemoryError as error:
        raise InvalidImageError("the image needs too much memory", reason="too_many_pixels") from error
    except Exception as error:  # Pillow's readers raise whatever the bytes provoke
        raise InvalidImageError(f"the image is damaged or cut short ({error})", reason="truncated") from error


def _decode(data: bytes, limits: ImageLimits, image_px: int | None, box: Box | None) -> DecodedImage:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        width, height = image.size
        if width * height > limits.max_pixels:
            raise InvalidImageError(
                f"the image has {width}x{height} pixels, at most {limits.max_pixels} are taken", reason="too_many_pixels"
            )
        if min(width, height) < limits.min_side_px:
            raise InvalidImageError(
                f"the image has {width}x{height} pixels, at least {limits.min_side_px} a side are needed",
                reason="too_small",
            )
        orientation = image.getexif().get(0x0112, 1)
        if orientation in (5, 6, 7, 8):
            upright = (height, width)
        else:
            upright = (width, height)
        if image_px is not None and image.format == "JPEG":
            _draft(image, image_px, box, upright)
        image.load()
        pixels = _rgb(ImageOps.exif_transpose(image))
    return DecodedImage(pixels, *upright)


def _draft(image: Image.Image, image_px: int, box: Box | None, upright: tuple[int, int]) -> None:
    """Let the JPEG decoder halve the picture while enough is left of it."""
    side = min(upright) if box is None else min(box.x1 - box.x0, box.y1 - box.y0)
    needed = image_px * DRAFT_MARGIN
    shrink = min(side / needed, max(upright) / DISPLAY_PHOTO_PX)
    if shrink >= 2:
        image.draft("RGB", (int(image.size[0] / shrink), int(image.size[1] / shrink)))


def _rgb(image: Image.Image) -> Image.Image:
    """Any mode to RGB; transparent parts become white."""
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image, dtype=np.float64) / 257
        return Image.fromarray(np.clip(values + 0.5, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        values = np.nan_to_num(np.asarray(image, dtype=np.float64))
        span = values.max() if values.max() > 1 else 1.0
        return Image.fromarray(np.clip(values / span * 255, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def prepare_image(image: DecodedImage, *, image_px: int, box: Box | None = None) -> PreparedImage:
    """Cut out the box and resize it to a square, aspect ratio not kept (paper sec. 5.1).

    Args:
        image: decoded.
        image_px: S.
        box: in pixels of the upright original; None takes the whole image.

    Raises:
        InvalidImageError: reason "bad_box".
    """
    box = Box(0, 0, image.width, image.height) if box is None else box.clipped(image.width, image.height)
    scale_x, scale_y = image.pixels.width / image.width, image.pixels.height / image.height
    part = (box.x0 * scale_x, box.y0 * scale_y, box.x1 * scale_x, box.y1 * scale_y)
    square = image.pixels.resize((image_px, image_px), Image.Resampling.BICUBIC, box=part, reducing_gap=3.0)
    return PreparedImage(np.asarray(square, dtype=np.uint8), image.width, image.height, box)


def display_photo(image: DecodedImage) -> bytes:
    """A JPEG to show, long side at most DISPLAY_PHOTO_PX, nothing of the original's metadata."""
    photo = image.pixels.copy()
    photo.thumbnail((DISPLAY_PHOTO_PX, DISPLAY_PHOTO_PX), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=DISPLAY_QUALITY)
    return buffer.getvalue()
