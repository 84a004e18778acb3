"""Many labelled images described by their pixels alone, in processes beside this one.

Letters  n images, S image side
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray

from model.data.pairs import LabelledImage
from model.errors import DataError, InvalidImageError
from model.images import load_image

CHUNK = 32

Describe = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""(B, S, S, 3) uint8 RGB -> (B, ...) float32; a function of a module, since other processes call it."""


def describe_pixels(
    images: Sequence[LabelledImage], describe: Describe, *, image_px: int, workers: int = 2
) -> NDArray[np.float32]:
    """Describe each image, cropped to its box and resized as for the network.

    Returns:
        (n, ...) float32, in the images' order.

    Raises:
        DataError: an image cannot be read; it is named.
    """
    chunks = [images[start : start + CHUNK] for start in range(0, len(images), CHUNK)]
    if len(chunks) <= workers:  # starting a process takes longer than a few photos
        return np.concatenate([_describe_chunk(chunk, describe, image_px) for chunk in chunks])
    with ProcessPoolExecutor(workers, mp_context=get_context("forkserver")) as pool:
        return np.concatenate(list(pool.map(_describe_chunk, chunks, repeat(describe), repeat(image_px))))


def _describe_chunk(images: Sequence[LabelledImage], describe: Describe, image_px: int) -> NDArray[np.float32]:
    pixels = []
    for image in images:
        try:
            prepared, _ = load_image(image.path.read_bytes(), image_px=image_px, box=image.box)
        except (OSError, InvalidImageError) as error:
            raise DataError(f"{image.path}: {error}") from error
        pixels.append(prepared.pixels)
    return describe(np.stack(pixels))
