"""Many labelled images described by their pixels alone, in processes beside this one.

Letters  n images, S image side
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from threadmatch.model.data.pairs import LabelledImage
from threadmatch.model.data.photo_reading import decoded, in_chunks
from threadmatch.model.progress import Progress, unheard

Describe = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""(B, S, S, 3) uint8 RGB -> (B, ...) float32; a function of a module, since other processes call it."""


def describe_pixels(
    images: Sequence[LabelledImage],
    describe: Describe,
    *,
    image_px: int,
    workers: int = 2,
    progress: Progress = unheard,
) -> NDArray[np.float32]:
    """Describe each image, cropped to its box and resized as for the network.

    Args:
        images: to read and describe.
        describe: makes of pixels what is wanted.
        image_px: S.
        workers: processes.
        progress: hears how many images are done.

    Returns:
        (n, ...) float32, in the images' order.

    Raises:
        DataError: an image cannot be read; it is named.
    """
    found: list[NDArray[np.float32]] = []
    done = 0
    for part in in_chunks(partial(_described, describe), images, image_px, workers):
        found.append(part)
        done += len(part)
        progress("describing photos by their pixels", done, len(images))
    return np.concatenate(found)


def _described(describe: Describe, images: Sequence[LabelledImage], image_px: int) -> NDArray[np.float32]:
    [pixels] = decoded(images, image_px=image_px)
    return describe(pixels)
