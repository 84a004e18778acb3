"""Many labelled images encoded once, decoded on all cores beside the model, and kept in a cache folder.

Letters  n images, S image side, E embedding size, R regions, C channels
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from threadmatch.model.data.pairs import LabelledImage
from threadmatch.model.data.photo_reading import CHUNK, decoded, identity
from threadmatch.model.inference import Model

logger = logging.getLogger(__name__)


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
    done = 0
    for pixels in decoded(images, image_px=model.image_px, workers=workers):
        features = model.encode(pixels)
        embeddings[done : done + len(pixels)] = features.embeddings
        regions[done : done + len(pixels)] = features.regions
        done += len(pixels)
        if done % (CHUNK * 20) == 0:
            logger.info("encoded", extra={"done": done, "of": len(images)})
    if cache is not None:
        cache.mkdir(parents=True, exist_ok=True)
        np.save(cache / f"{key}.embeddings.npy", embeddings)
        np.save(cache / f"{key}.regions.npy", regions)  # last: its presence says both are whole
    return EncodedSet(list(images), embeddings, regions)


def _key(model: Model, images: Sequence[LabelledImage]) -> str:
    return hashlib.sha256(model.features_fingerprint.encode() + identity(images)).hexdigest()[:24]
