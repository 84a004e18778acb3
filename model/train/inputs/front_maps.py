"""Images carried through the frozen front of a backbone, once, and kept on disk for fine-tuning the rest.

Letters  n images, S image side, c channels, h x w the front's map
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from threadmatch.model.data.pairs import LabelledImage
from threadmatch.model.data.photo_reading import decoded, identity
from threadmatch.model.images import Box
from threadmatch.model.progress import Progress, unheard


@dataclass(frozen=True, slots=True)
class MapSet:
    """Labelled images and the front's maps: (n, h, w, c) float16, mostly a file that is read where needed."""

    products: list[str]
    maps: NDArray[np.float16]

    def take(self, at: NDArray[np.int64]) -> Tensor:
        """(len(at), c, h, w) float32, channels last in memory."""
        chosen = torch.from_numpy(self.maps[at])  # (b, h, w, c)
        return chosen.float().permute(0, 3, 1, 2)

    def some(self, at: NDArray[np.int64]) -> MapSet:
        """The images at these positions alone."""
        return MapSet([self.products[n] for n in at], self.maps[at])


def loosened(images: Sequence[LabelledImage], *, seed: int) -> list[LabelledImage]:
    """The same images with boxes as people draw them: half exact, a third too wide, the rest none at all.

    A shop's customers send whole photos or boxes of their own; features learned on exact boxes alone fall when those
    come. The pixels of an image are not known here, so a box that reaches beyond it is cut at reading.
    """
    drawn = []
    for number, image in enumerate(images):
        rng = np.random.default_rng([seed, number])
        kind = rng.random()
        box = image.box
        if box is None or kind < 0.5:
            drawn.append(image)
            continue
        if kind > 0.85:
            drawn.append(replace(image, box=None))
            continue
        wide, high = box.x1 - box.x0, box.y1 - box.y0
        left, right = rng.uniform(-0.05, 0.35, 2) * wide
        top, bottom = rng.uniform(-0.05, 0.35, 2) * high
        drawn.append(
            replace(
                image,
                box=Box(max(0.0, box.x0 - left), max(0.0, box.y0 - top), box.x1 + right, box.y1 + bottom),
            )
        )
    return drawn


def make_maps(
    front: nn.Module,
    images: Sequence[LabelledImage],
    *,
    image_px: int,
    cache: Path,
    label: str,
    workers: int = 2,
    progress: Progress = unheard,
) -> MapSet:
    """Carry images through the front of a backbone.

    Args:
        front: (B, 3, S, S) uint8 pixels -> (B, c, h, w); `label` names its weights.
        images: to read and encode.
        image_px: S.
        cache: folder to keep the maps in; the same images, boxes and label are taken from there.
        label: part of the cache's key.
        workers: decoding processes.
        progress: hears how many images are done.

    Raises:
        DataError: an image cannot be read; it is named.
    """
    products = [image.product_id for image in images]
    path = cache / f"{_key(label, image_px, images)}.maps.npy"
    if path.exists():
        return MapSet(products, np.load(path, mmap_mode="r"))
    cache.mkdir(parents=True, exist_ok=True)
    staged = path.with_suffix(".partial")
    maps: np.memmap[Any, np.dtype[np.float16]] | None = None
    done = 0
    with torch.inference_mode():
        for pixels in decoded(images, image_px=image_px, workers=workers):
            batch = torch.from_numpy(pixels).permute(0, 3, 1, 2)
            encoded = front(batch).permute(0, 2, 3, 1).to(torch.float16).numpy()  # (B, h, w, c)
            if maps is None:
                shape = (len(images), *encoded.shape[1:])
                maps = np.lib.format.open_memmap(staged, mode="w+", dtype=np.float16, shape=shape)
            maps[done : done + len(encoded)] = encoded
            done += len(encoded)
            progress("carrying photos through the frozen stages", done, len(images))
    assert maps is not None, "read_labelled refuses an empty table"
    maps.flush()
    staged.replace(path)
    return MapSet(products, np.load(path, mmap_mode="r"))


def _key(label: str, image_px: int, images: Sequence[LabelledImage]) -> str:
    return hashlib.sha256(f"{label} {image_px}".encode() + identity(images)).hexdigest()[:24]
