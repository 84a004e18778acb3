"""What a pass over a file's structure finds, and the refusal of structures that no camera and no editor writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from threadmatch.model.errors import InvalidImageError

SKIPPED_MAX: Final = 4096
"""Bytes between the parts of a file that belong to none of them. Pillow steps over each with a line of Python."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of its picture.

    Fields:
        width, height: as stored, pixels.
        bytes_a_pixel: that decoding to upright RGB holds at its peak, for each pixel; an upper bound.
    """

    width: int
    height: int
    bytes_a_pixel: float

    @property
    def needs_bytes(self) -> int:
        """Memory that decoding takes at its peak, beside the file."""
        return int(self.width * self.height * self.bytes_a_pixel)


def too_complex(format_: str, found: str, most: int) -> InvalidImageError:
    """The refusal of a structure beyond its bound."""
    message = (
        f"the {format_} has {found}, at most {most:,} are accepted; save it again without metadata, as JPEG or PNG"
    )
    return InvalidImageError(message, reason="too_complex")
