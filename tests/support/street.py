"""A photo of somebody in the street, drawn."""

from __future__ import annotations

import functools
import io

from PIL import Image

from threadmatch.model.data.setups import Setup
from threadmatch.model.synthetic.drawn.drawn_query import draw_street_query
from threadmatch.model.synthetic.garments.garment import garment

WORN = 8


@functools.cache
def passer_by() -> bytes:
    """A JPEG of a passer-by in a coat, over trousers."""
    with io.BytesIO() as file:
        shown = draw_street_query(garment(7, WORN), setup=Setup.EASY, seed=WORN)
        Image.fromarray(shown.image).save(file, "JPEG", quality=92)
        return file.getvalue()
