"""From a photo and its garments to what the model sees: the one that is meant, before a quiet background."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from threadmatch.model.detection.parsing.detector import Parsing
from threadmatch.model.detection.parsing.quieting import quiet, searched_box
from threadmatch.model.features import Encoder
from threadmatch.model.images import DecodedImage, PreparedImage, prepare_for

LEAST_PX: Final = 8
"""A side of the chosen part; less is no garment."""


def framed(
    image: DecodedImage, parsing: Parsing, encoder: Encoder, *, kinds: Collection[str] = ()
) -> PreparedImage | None:
    """The garment that is meant, cut out and its background quieted; None where the whole photo is to be taken.

    Args:
        image: the photo.
        parsing: what a parser saw in it.
        encoder: what it is for.
        kinds: of garment that are meant, where that is known.
    """
    box = searched_box(parsing.choice_of(kinds), image.width, image.height) if parsing.shows_garment else None
    if box is None or min(box.width, box.height) < LEAST_PX:
        return None
    return quiet(prepare_for(encoder, image, box), parsing.kept)
