"""Many labelled images encoded once, decoded on all cores beside the model, and kept in a cache folder.

Letters  n images, S image side, E embedding size, R regions, C channels
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.data.pairs import LabelledImage
from model.errors import DataError, InvalidImageError
from model.images import load_image
from model.inference import Model

logger = logging.getLogger(__name__)

DECODE_CHUNK = 32


@dataclass(frozen=True, slots=True)
class EncodedSet:
    """Labelled images and their features: embeddings (n, E) float32, regions (n, R, C) float16."""

    images: list[LabelledImage]
    embeddings: NDArray[np.float32]
    regions: NDArray[np.float16]


def encode_images(
    model: Model, images: Sequence[LabelledImage], *, cache: Path | None = None, workers: int = 2
) -> EncodedSet:
    """Encode labelled images.

    Args:
        model: whose features.
        images: to encode; read from disk.
        cache: folder to keep the result in, by the model's features, the paths and the boxes; None keeps nothing.
        workers: decoding processes.

    Raises:
        DataError: an image cannot be read; it is named.
    """
    key = _key(model, images)
    if cache is not None and (cache / f"{key}.regions.npy").exists():
        embeddings = np.load(cache / f"{key}.embeddings.npy")
        regions = np.load(cache / f"{key}.regions.npy")
        return EncodedSet(list(images), embeddings, regions)
    embeddings = np.empty((len(images), model.embedding_dim), np.float32)
    regions = np.empty((len(images), *model.regions_shape), np.float16)
    chunks = [images[start : start + DECODE_CHUNK] for start in range(0, len(images), DECODE_CHUNK)]
    done = 0
    with ProcessPoolExecutor(workers, mp_context=get_context("forkserver")) as pool:
        for pixels in pool.map(decode_labelled, chunks, [model.image_px] * len(chunks)):
            features = model.encode(pixels)
            embeddings[done : done + len(pixels)] = features.embeddings
            regions[done : done + len(pixels)] = features.regions
            done += len(pixels)
            if done % (DECODE_CHUNK * 20) == 0:
                logger.info("encoded", extra={"done": done, "of": len(images)})
    if cache is not None:
        cache.mkdir(parents=True, exist_ok=True)
        np.save(cache / f"{key}.embeddings.npy", embeddings)
        np.save(cache / f"{key}.regions.npy", regions)  # last: its presence says both are whole
    return EncodedSet(list(images), embeddings, regions)


def decode_labelled(images: Sequence[LabelledImage], image_px: int) -> NDArray[np.uint8]:
    """Read and prepare images: (len(images), S, S, 3) uint8.

    Raises:
        DataError: one cannot be read; it is named.
    """
    return np.stack([_decode_one(image, image_px) for image in images])


def _decode_one(image: LabelledImage, image_px: int) -> NDArray[np.uint8]:
    try:
        prepared, _ = load_image(image.path.read_bytes(), image_px=image_px, box=image.box)
    except (OSError, InvalidImageError) as error:
        raise DataError(f"{image.path}: {error}") from error
    return prepared.pixels


def _key(model: Model, images: Sequence[LabelledImage]) -> str:
    digest = hashlib.sha256(model.features_fingerprint.encode())
    for image in images:
        stat = image.path.stat()
        digest.update(json.dumps([str(image.path), stat.st_size, stat.st_mtime_ns, str(image.box)]).encode())
    return digest.hexdigest()[:24]
