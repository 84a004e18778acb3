"""What a trained encoder sees in photos: the vectors that components are fitted on.

Letters  B photos of a batch, n photos, m cells, S image side, h x w the map, C channels, E pooled channels
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from threadmatch.model.encoders.library import Trained
from threadmatch.model.errors import DataError, InvalidImageError
from threadmatch.model.images import load_image
from threadmatch.model.progress import Progress, unheard

PHOTOS_LEAST: Final = 8
SAMPLE_CELLS: Final = 50_000
"""Cells that components are taken of, about."""
_BATCH: Final = 8
_SEED: Final = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """What the photos showed.

    Fields:
        cells: (m, C) of the map, some of each photo.
        pooled: (n, E) the encoder's own output, or (n, C) the map's mean where it has none.
        skipped: photos that could not be read, and why.
    """

    cells: Tensor
    pooled: Tensor
    skipped: list[str]


def look_at(files: Sequence[Path], trained: Trained, progress: Progress = unheard) -> Sample:
    """Show the photos to the encoder, on the device that it is on.

    Args:
        files: photos, PHOTOS_LEAST or more.
        trained: the encoder.
        progress: hears how many photos are seen.

    Raises:
        DataError: too few can be read.
    """
    skipped: list[str] = []
    cells: list[Tensor] = []
    pooled: list[Tensor] = []
    each = max(1, SAMPLE_CELLS // len(files))
    chance = torch.Generator().manual_seed(_SEED)
    done = 0
    for pixels in _batches(files, trained, skipped):
        with torch.inference_mode():
            images = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(trained.backbone.mean.device)
            looked = trained.backbone.look(images)
        columns = looked.feature_map.flatten(2).transpose(1, 2).float().cpu()  # (B, h * w, C)
        order = torch.randperm(columns.shape[1], generator=chance)[:each]
        cells.append(columns[:, order].flatten(0, 1))
        pooled.append(columns.mean(dim=1) if looked.pooled is None else looked.pooled.float().cpu())
        done += len(pixels)
        progress("looking at photos", done + len(skipped), len(files))
    if done < PHOTOS_LEAST:
        raise DataError(
            f"{done} of {len(files)} photos can be read, expected at least {PHOTOS_LEAST}; {'; '.join(skipped[:3])}"
        )
    return Sample(torch.cat(cells), torch.cat(pooled), skipped)


def _batches(files: Sequence[Path], trained: Trained, skipped: list[str]) -> Iterator[NDArray[np.uint8]]:
    """(B, S, S, 3) of some photos at a time; those that cannot be read are named in `skipped`."""

    def read(path: Path) -> NDArray[np.uint8] | str:
        try:
            framing = trained.encoder.framing
            return load_image(path.read_bytes(), image_px=trained.image_px, framing=framing)[0].pixels
        except (InvalidImageError, OSError) as error:
            return f"{path}: {error}"

    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(files), _BATCH):
            found = list(pool.map(read, files[start : start + _BATCH]))
            skipped += [one for one in found if isinstance(one, str)]
            if good := [one for one in found if not isinstance(one, str)]:
                yield np.stack(good)
