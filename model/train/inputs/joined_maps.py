"""What the training of a companion reads of each photo: its own frozen front's map, and what the first network says.

Neither changes while the companion's rest trains, so each photo passes both once; the arrays stay on disk.

Letters  n images, S image side, c channels of the front's map, h x w the map, P cells, C channels of the first
         network's parts of a cell, E embedding size
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from threadmatch.model.data.pairs import LabelledImage
from threadmatch.model.data.photo_reading import decoded, identity
from threadmatch.model.grnet import GRNet
from threadmatch.model.neck import HypercolumnNeck
from threadmatch.model.progress import Progress, unheard

Pixels = NDArray[np.uint8]
Change = Callable[[Pixels, int], Pixels]
"""(B, S, S, 3) photos of a chunk and the place of its first to the same, changed."""

COVERED: Final = 0.2
"""Share of the queries that a part of another photo covers."""
ZOOMED: Final = 0.3
"""Share that is cut at some sides, up to ZOOM of each."""
ZOOM: Final = 0.25
LIT: Final = 0.8
"""Share in another light: each channel times a factor, and all of them times one."""
CAST: Final = 0.06
EXPOSURE: Final = 0.08
"""Deviations of the factors' logarithms."""


class Joined(NamedTuple):
    """Of some images: (b, c, h, w) fronts' maps, (b, P, C) parts of the cells, (b, E) part of the embedding."""

    fronts: Tensor
    cells: Tensor
    embeddings: Tensor


@dataclass(frozen=True, slots=True)
class JoinedMaps:
    """All images: the products they show, and `Joined` of them as float16 arrays, mostly files."""

    products: list[str]
    fronts: NDArray[np.float16]
    cells: NDArray[np.float16]
    embeddings: NDArray[np.float16]

    def take(self, at: NDArray[np.int64]) -> Joined:
        """Of the images at these positions, float32."""
        return Joined(*(torch.from_numpy(values[at]).float() for values in (self.fronts, self.cells, self.embeddings)))


class JoinedFront(nn.Module):
    """All of a joined model that stays as it is while the rest of its companion trains.

    Args:
        joined: with a companion.
        from_stage: of the companion, the first that trains.
    """

    def __init__(self, joined: GRNet, from_stage: int) -> None:
        super().__init__()
        backbone, neck = joined.backbone, joined.cell_neck
        assert backbone.companion is not None
        assert isinstance(neck, HypercolumnNeck)
        assert joined.embedding is not None
        self.backbone, self.neck, self.embedding = backbone, neck, joined.embedding
        self.front, _ = backbone.companion.split(from_stage)

    def forward(self, pixels: Tensor) -> Joined:
        """(B, 3, S, S) values 0..255 -> `Joined`."""
        own, channels = self.backbone.look_alone(pixels), self.backbone.channels
        cells = own.whole.flatten(2).transpose(1, 2)
        last, *taps = cells.split(self.neck.split[: 1 + first_taps(self.backbone)], dim=-1)
        pooled = own.feature_map[:, :channels].mean((2, 3))
        said = F.linear(pooled, self.embedding.weight[:, :channels], self.embedding.bias)
        return Joined(self.front(pixels), self.neck.parts(self.neck.last(last), taps), said)


def first_taps(backbone: nn.Module) -> int:
    """How many earlier maps a joined cell reads of the first network."""
    return len(backbone.tap_channels) + len(backbone.further)  # type: ignore[arg-type]


def make_joined_maps(
    front: JoinedFront,
    images: Sequence[LabelledImage],
    *,
    image_px: int,
    folder: Path,
    label: str,
    change: Change | None = None,
    progress: Progress = unheard,
) -> JoinedMaps:
    """Carry images through what stays as it is, or take what an earlier run kept of them.

    Args:
        front: in evaluation mode.
        images: to read.
        image_px: S.
        folder: that keeps the arrays.
        label: of the front's weights and of `change`: part of their names.
        change: of the photos before they are looked at; None leaves them.
        progress: hears how many images are done.

    Raises:
        DataError: an image cannot be read; it is named.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(f"{label} {image_px}".encode() + identity(images)).hexdigest()[:24]
    paths = [folder / f"{key}.{name}.npy" for name in Joined._fields]
    if not all(path.exists() for path in paths):
        staged = [path.with_suffix(".partial") for path in paths]
        arrays: list[NDArray[np.float16]] = []
        done = 0
        with torch.inference_mode():
            for read in decoded(images, image_px=image_px):
                photos = read if change is None else change(read, done)
                found = front(torch.from_numpy(photos).permute(0, 3, 1, 2))
                if not arrays:
                    arrays = [
                        np.lib.format.open_memmap(path, "w+", np.float16, (len(images), *values.shape[1:]))
                        for path, values in zip(staged, found, strict=True)
                    ]
                for array, values in zip(arrays, found, strict=True):
                    array[done : done + len(photos)] = values.numpy()
                done += len(photos)
                progress("carrying photos through the frozen stages", done, len(images))
        for array, old, new in zip(arrays, staged, paths, strict=True):
            array.flush()  # type: ignore[attr-defined]
            old.replace(new)
    fronts, cells, embeddings = (np.load(path, mmap_mode="r") for path in paths)
    return JoinedMaps([image.product_id for image in images], fronts, cells, embeddings)


def another_look(photos: Pixels, first: int, *, seed: int) -> Pixels:
    """Photos covered in part, cut, and in another light, each by chances of its own.

    Args:
        photos: (B, S, S, 3) of a chunk, which lend each other covers.
        first: place of the first of them in all.
        seed: of the chances.
    """
    return np.stack(
        [
            _looked_at(photo, photos[(n + 7) % len(photos)], np.random.default_rng([seed, first + n]))
            for n, photo in enumerate(photos)
        ]
    )


def _looked_at(photo: Pixels, other: Pixels, rng: np.random.Generator) -> Pixels:
    side = len(photo)
    if rng.random() < COVERED:
        high, wide = (int(side * rng.uniform(0.15, 0.45)) for _ in range(2))
        (y, from_y), (x, from_x) = (rng.integers(0, side - size, 2) for size in (high, wide))
        photo = photo.copy()
        photo[y : y + high, x : x + wide] = other[from_y : from_y + high, from_x : from_x + wide]
    if rng.random() < ZOOMED:
        cut = rng.uniform(0, ZOOM, 4) * (rng.random(4) < 0.5)
        top, left = (cut[:2] * side).astype(int)
        bottom, right = (side * (1 - cut[2:])).astype(int)
        photo = np.asarray(cv2.resize(photo[top:bottom, left:right], (side, side)), np.uint8)
    if rng.random() < LIT:
        gains = np.exp(rng.normal(0, CAST, 3) + rng.normal(0, EXPOSURE)).astype(np.float32)
        photo = np.clip(photo * gains, 0, 255).astype(np.uint8)
    return photo
