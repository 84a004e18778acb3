"""The one way from the bytes of a photo to what the model sees, offline (ingestion) and online (search).

`load_image` is what both call: header, limits, box, decoding at the resolution that the box needs, crop, resize.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from threadmatch.model.decoding import ACCEPTED_FORMATS, ImageLimits, decode_upright, open_image
from threadmatch.model.errors import InvalidImageError
from threadmatch.model.features import Encoder
from threadmatch.model.framing import SQUASHED, Framing

__all__ = [
    "ACCEPTED_FORMATS",
    "DISPLAY_PHOTO_PX",
    "Box",
    "DecodedImage",
    "ImageLimits",
    "PreparedImage",
    "decode_image",
    "display_photo",
    "display_size",
    "load_image",
    "part_seen",
    "prepare_for",
    "prepare_image",
]

DISPLAY_PHOTO_PX: Final = 512
"""Longest side of the photo that a gallery keeps to show."""

_DISPLAY_QUALITY: Final = 85
_OVERSAMPLING: Final = 2.0
"""A photo is decoded at least this many times finer than the model's input; less would show."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels of the upright original image; x0 <= x < x1, y0 <= y < y1.

    Raises:
        InvalidImageError: reason bad_box, where a side is not finite or the rectangle is empty.
    """

    x0: float
    y0: float
    x1: float
    y1: float

    def __post_init__(self) -> None:
        # Of infinite and missing sides one of the differences is no finite number above zero; a search makes hundreds.
        if not (0 < self.x1 - self.x0 < math.inf and 0 < self.y1 - self.y0 < math.inf):
            message = f"the box {self} is empty or not finite; give x0,y0,x1,y1 with x0 < x1 and y0 < y1, in pixels"
            raise InvalidImageError(message, reason="bad_box")

    def __str__(self) -> str:
        return ",".join(f"{side:g}" for side in (self.x0, self.y0, self.x1, self.y1))

    @property
    def edges(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1."""
        return self.x0, self.y0, self.x1, self.y1

    @property
    def width(self) -> float:
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        return self.y1 - self.y0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "x0,y0,x1,y1", with or without brackets around it.

        Raises:
            InvalidImageError: reason bad_box.
        """
        try:
            x0, y0, x1, y1 = (float(part) for part in text.strip().strip("[]()").split(","))
        except ValueError as error:
            message = (
                f"the box {text[:80]!r} cannot be read; give four numbers, x0,y0,x1,y1, in pixels of the upright photo"
            )
            raise InvalidImageError(message, reason="bad_box") from error
        return cls(x0, y0, x1, y1)

    def clipped(self, width: int, height: int) -> Self:
        """The part of the box inside an image.

        Args:
            width: of the upright image, pixels.
            height: of the upright image, pixels.

        Raises:
            InvalidImageError: reason bad_box, where less than one pixel in either direction is left.
        """
        x0, y0 = max(0.0, self.x0), max(0.0, self.y0)
        x1, y1 = min(float(width), self.x1), min(float(height), self.y1)
        if x1 - x0 < 1 or y1 - y0 < 1:
            message = (
                f"the box {self} leaves nothing of the image, which has {width} x {height} pixels; give a box inside "
                "it, in pixels (not in shares of its sides)"
            )
            raise InvalidImageError(message, reason="bad_box")
        return type(self)(x0, y0, x1, y1)


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """An upright RGB image, perhaps smaller than the original, which is what boxes are measured in.

    Fields:
        picture: Pillow image of mode RGB without metadata.
        width: of the upright original, pixels.
        height: of the upright original, pixels.
    """

    picture: Image.Image
    width: int
    height: int

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """(h, w, 3) uint8 RGB at the decoded size."""
        return np.asarray(self.picture)


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """What the model sees of an image.

    Fields:
        pixels: (S, S, 3) uint8 RGB.
        width: of the upright original, pixels.
        height: of the upright original, pixels.
        box: the part of the original that was asked for; `pixels` shows it as the framing has it (`Framing.shown`).
        framing: how the photo became the square.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    box: Box
    framing: Framing = SQUASHED


_DEFAULT_LIMITS: Final = ImageLimits()


def load_image(
    data: bytes,
    *,
    image_px: int,
    framing: Framing = SQUASHED,
    box: Box | None = None,
    limits: ImageLimits = _DEFAULT_LIMITS,
    long_side_px: int = DISPLAY_PHOTO_PX,
) -> tuple[PreparedImage, DecodedImage]:
    """Bytes of a photo to the model's input: the one call of ingestion, of search and of training.

    Args:
        data: a file of one of ACCEPTED_FORMATS.
        image_px: side S of the model's input.
        framing: how the photo becomes that square.
        box: the garment, in pixels of the upright original; None takes the whole photo.
        limits: what is refused.
        long_side_px: the decoded photo is needed this fine.

    Returns:
        The model's input, and the decoded photo, fine enough for `display_photo`.

    Raises:
        InvalidImageError: see `model.decoding.open_image`; bad_box.
    """
    opened = open_image(data, limits)
    used = _box_or_all(box, opened.width, opened.height)
    scale = _OVERSAMPLING * max(image_px, framing.resize_px) / min(used.width, used.height)
    hint = max(long_side_px, math.ceil(scale * max(opened.width, opened.height)))
    image = DecodedImage(decode_upright(opened, long_side_hint_px=hint), opened.width, opened.height)
    return prepare_image(image, image_px=image_px, framing=framing, box=used), image


def decode_image(
    data: bytes, limits: ImageLimits = _DEFAULT_LIMITS, *, long_side_hint_px: int | None = None
) -> DecodedImage:
    """Bytes to an upright RGB image.

    Args:
        data: a file of one of ACCEPTED_FORMATS.
        limits: what is refused.
        long_side_hint_px: the longer side is needed no finer than this; None decodes at full size.

    Raises:
        InvalidImageError: see `model.decoding.open_image`.
    """
    opened = open_image(data, limits)
    return DecodedImage(decode_upright(opened, long_side_hint_px=long_side_hint_px), opened.width, opened.height)


def prepare_image(
    image: DecodedImage, *, image_px: int, framing: Framing = SQUASHED, box: Box | None = None
) -> PreparedImage:
    """Crop the box and make a square of it.

    Args:
        image: the decoded photo.
        image_px: side S of the square.
        framing: how; squashed, as the paper does, if nothing is said.
        box: in pixels of the upright original; None takes the whole photo.

    Raises:
        InvalidImageError: bad_box.
    """
    used = _box_or_all(box, image.width, image.height)
    across, down = image.picture.width / image.width, image.picture.height / image.height
    # A box of one pixel in a huge photo is a fraction of a decoded pixel only where no box was known while decoding.
    pixels = framing.square(image.picture, used.edges, image_px, scale=(across, down))
    return PreparedImage(pixels, image.width, image.height, used, framing)


def prepare_for(encoder: Encoder, image: DecodedImage, box: Box | None = None) -> PreparedImage:
    """`prepare_image` as an encoder was trained to see photos."""
    return prepare_image(image, image_px=encoder.image_px, framing=encoder.framing, box=box)


def part_seen(encoder: Encoder, box: Box) -> Box:
    """The part of a photo that an encoder's square shows of a box; beyond it where the square is filled up."""
    return Box(*encoder.framing.shown(box.edges, encoder.image_px))


def display_size(width: float, height: float, *, long_side_px: int = DISPLAY_PHOTO_PX) -> tuple[int, int]:
    """Width and height of something to show, in whole pixels: longest side at most `long_side_px`, never enlarged."""
    scale = min(1.0, long_side_px / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def display_photo(image: DecodedImage, box: Box | None = None, *, long_side_px: int = DISPLAY_PHOTO_PX) -> bytes:
    """A JPEG to show, without metadata.

    Args:
        image: the decoded photo.
        box: the part to show, in pixels of the upright original and inside it; None shows all.
        long_side_px: longest side at most.
    """
    area = (0.0, 0.0, float(image.picture.width), float(image.picture.height))
    if box is not None:
        across, down = image.picture.width / image.width, image.picture.height / image.height
        area = (box.x0 * across, box.y0 * down, box.x1 * across, box.y1 * down)
    size = display_size(area[2] - area[0], area[3] - area[1], long_side_px=long_side_px)
    small = image.picture
    if box is not None or size != small.size:
        small = small.resize(size, Image.Resampling.BICUBIC, box=area, reducing_gap=3.0)
    with io.BytesIO() as file:
        small.save(file, "JPEG", quality=_DISPLAY_QUALITY)
        return file.getvalue()


def _box_or_all(box: Box | None, width: int, height: int) -> Box:
    return Box(0.0, 0.0, float(width), float(height)) if box is None else box.clipped(width, height)
