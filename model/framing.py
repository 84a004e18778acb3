"""Which part of a photo becomes the model's square, and how it is resized: each encoder was trained with its own way.

Letters  S side of the square, R what the photo is resized to first, w x h the photo or the garment's box
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from threadmatch.model.errors import ConfigError

Fit = Literal["squash", "crop", "pad"]
Interpolation = Literal["bicubic", "bilinear", "lanczos", "nearest"]
Edges = tuple[float, float, float, float]
"""x0, y0, x1, y1."""

_RESAMPLING: Final[Mapping[str, Image.Resampling]] = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}
_REDUCING_GAP: Final = 3.0
"""Of Pillow: a photo much too large is halved before it is resized, which shows nowhere."""


@dataclass(frozen=True, slots=True)
class Framing:
    """How a photo becomes a square.

    Fields:
        fit: "squash" resizes both sides to R, the aspect ratio lost (the paper, SigLIP); "crop" the shorter side (CLIP,
            DINOv2); "pad" the longer one. Then the S x S in the middle are taken, the missing ones filled.
        resize_px: R; 0 for S itself.
        interpolation: how pixels are made.
        fill: RGB of what lies beyond the photo, 0..255.

    Raises:
        ConfigError: a value out of range.
    """

    fit: Fit = "squash"
    resize_px: int = 0
    interpolation: Interpolation = "bicubic"
    fill: tuple[int, int, int] = (0, 0, 0)

    def __post_init__(self) -> None:
        for name, known in (("fit", get_args(Fit)), ("interpolation", get_args(Interpolation))):
            if getattr(self, name) not in known:
                raise ConfigError(f"framing: {name} is {getattr(self, name)!r}, expected one of {', '.join(known)}")
        if self.resize_px < 0 or not all(0 <= value <= 255 for value in self.fill) or len(self.fill) != 3:
            raise ConfigError(f"framing: resize_px is {self.resize_px}, fill {self.fill}; expected 0 or more, 0 to 255")

    def shown(self, box: Edges, image_px: int) -> Edges:
        """The part of a photo that the square shows, in the photo's pixels.

        Args:
            box: the garment, in pixels of the photo.
            image_px: S.

        Returns:
            Its edges; beyond the box where the square is filled up.
        """
        if self.fit == "squash" and self.resize_px in (0, image_px):
            return box
        x0, y0, x1, y1 = box
        sides = self._resized(x1 - x0, y1 - y0, image_px)
        left, right = _window(x1 - x0, sides[0], image_px)
        top, bottom = _window(y1 - y0, sides[1], image_px)
        return x0 + left, y0 + top, x0 + right, y0 + bottom

    def square(self, picture: Image.Image, box: Edges, image_px: int, *, scale: tuple[float, float]) -> NDArray[Any]:
        """Make the square.

        Args:
            picture: RGB, or grey where it is a mask; perhaps smaller than the original.
            box: the garment, in pixels of the original.
            image_px: S.
            scale: pixels of the picture by pixel of the original, across and down.

        Returns:
            (S, S, 3) uint8, (S, S) of a grey one.
        """
        shown = self.shown(box, image_px)
        fill = self.fill if picture.mode == "RGB" else 0
        taken = tuple(
            pick(*pair) for pick, pair in zip((max, max, min, min), zip(shown, box, strict=True), strict=True)
        )
        # where the part that there is of it lies in the square: all of it, unless something is to be filled
        across, down = image_px / (shown[2] - shown[0]), image_px / (shown[3] - shown[1])
        left, top = round((taken[0] - shown[0]) * across), round((taken[1] - shown[1]) * down)
        right = max(left + 1, round((taken[2] - shown[0]) * across))
        bottom = max(top + 1, round((taken[3] - shown[1]) * down))
        area = (taken[0] * scale[0], taken[1] * scale[1], taken[2] * scale[0], taken[3] * scale[1])
        resized = picture.resize(
            (right - left, bottom - top), _RESAMPLING[self.interpolation], box=area, reducing_gap=_REDUCING_GAP
        )
        if resized.size == (image_px, image_px):
            return np.asarray(resized)
        square = Image.new(picture.mode, (image_px, image_px), fill)
        square.paste(resized, (left, top))
        return np.asarray(square)

    def _resized(self, width: float, height: float, image_px: int) -> tuple[int, int]:
        """Width and height after the first resizing, in whole pixels as torchvision and timm round them."""
        size = self.resize_px or image_px
        short, long = min(width, height), max(width, height)
        if self.fit == "squash":
            return size, size
        if self.fit == "crop":
            other = int(size * long / short)
            return (size, other) if width <= height else (other, size)
        other = max(1, round(size * short / long))
        return (other, size) if width <= height else (size, other)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**asdict(self), "fill": list(self.fill)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote.

        Raises:
            ConfigError: an unknown field, or a value out of range or of another type.
        """
        try:
            fill = tuple(int(value) for value in values.get("fill", (0, 0, 0)))
            return cls(**{**values, "fill": fill, "resize_px": int(values.get("resize_px", 0))})
        except (TypeError, ValueError) as error:
            raise ConfigError(f"framing has {dict(values)}, expected fit, resize_px, interpolation, fill") from error


SQUASHED: Final = Framing()
"""The paper's, and that of every model that ships."""


def _window(length: float, resized: int, side: int) -> tuple[float, float]:
    """The middle `side` of `resized` pixels, in those of the `length` that was resized to them."""
    start = round((resized - side) / 2) if resized >= side else -((side - resized) // 2)
    return start * length / resized, (start + side) * length / resized
