"""Labelled images read and prepared in processes beside this one, which need not import torch.

Letters  B images of a chunk, S image side
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import repeat
from multiprocessing import get_context
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from threadmatch.model.data.pairs import LabelledImage
from threadmatch.model.errors import DataError, InvalidImageError
from threadmatch.model.framing import SQUASHED, Framing
from threadmatch.model.images import load_image

CHUNK = 32

T = TypeVar("T")


def decoded(
    images: Sequence[LabelledImage], *, image_px: int, framing: Framing = SQUASHED, workers: int = 2
) -> Iterator[NDArray[np.uint8]]:
    """Read images, cropped to their boxes and resized as for the network.

    Args:
        images: any number.
        image_px: S.
        framing: how a photo becomes a square.
        workers: processes.

    Yields:
        (B, S, S, 3) uint8 RGB, the images in their order.

    Raises:
        DataError: one cannot be read; it is named.
    """
    return in_chunks(partial(_decode, framing=framing), images, image_px, workers)


def in_chunks(
    work: Callable[[Sequence[LabelledImage], int], T], images: Sequence[LabelledImage], image_px: int, workers: int
) -> Iterator[T]:
    """What `work`, a function of a module, makes of each chunk of images, in their order."""
    chunks = [images[start : start + CHUNK] for start in range(0, len(images), CHUNK)]
    if len(chunks) <= workers:  # starting processes takes longer than a few photos
        yield from map(work, chunks, repeat(image_px))
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("forkserver")) as pool:
        yield from pool.map(work, chunks, repeat(image_px))


def identity(images: Sequence[LabelledImage]) -> bytes:
    """What tells a list of images from every other one, as files and boxes: for the keys of caches."""
    lines = []
    for image in images:
        stat = image.path.stat()
        lines.append(json.dumps([str(image.path), stat.st_size, stat.st_mtime_ns, str(image.box)]))
    return "".join(lines).encode()


def _decode(images: Sequence[LabelledImage], image_px: int, *, framing: Framing) -> NDArray[np.uint8]:
    return np.stack([_decode_one(image, image_px, framing) for image in images])


def _decode_one(image: LabelledImage, image_px: int, framing: Framing) -> NDArray[np.uint8]:
    try:
        prepared, _ = load_image(image.path.read_bytes(), image_px=image_px, framing=framing, box=image.box)
    except (OSError, InvalidImageError) as error:
        raise DataError(f"{image.path}: {error}") from error
    return prepared.pixels
