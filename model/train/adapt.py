"""A trained model made to keep the cells of its map too, for dense matching: minutes, and no labels.

The space of the cells (`neck.CellSpace`) is fitted on photos; nothing else of the model changes, so whatever was
measured of its embedding, regions and head holds as before.

Letters  n photos, h x w the map, C channels behind the neck, K kept
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from threadmatch.model.chain import Stage
from threadmatch.model.checkpoint import save_checkpoint
from threadmatch.model.config import GLOBAL_SCALE
from threadmatch.model.data.encoded import encode_images
from threadmatch.model.data.pairs import LabelledImage
from threadmatch.model.errors import DataError
from threadmatch.model.features import CELLS
from threadmatch.model.grnet import GRNet, load_checkpoint
from threadmatch.model.inference import Model, model_folder
from threadmatch.model.progress import Progress, unheard

MIN_PHOTOS = 20
"""Fewer say little of how cells differ: 20 photos of 49 cells are 980 vectors of 256 numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptSettings:
    """How the cells are kept.

    Fields:
        channels: K, numbers a cell.
        flattened: 0..1, how far the strongest directions are held back; see `neck.CellSpace.fit`.
        depth: items that the last matcher of the chain orders behind the dense match.
        photos: at most so many are looked at, drawn by `seed`.
    """

    channels: int = 128
    flattened: float = 0.25
    depth: int = 16
    photos: int = 1500
    seed: int = 0


def adapt(
    model: str,
    photos: Sequence[LabelledImage],
    *,
    out: Path,
    settings: AdaptSettings | None = None,
    progress: Progress = unheard,
) -> dict[str, Any]:
    """Fit the cells of a model on photos and write the model with them.

    Args:
        model: name or folder, as `load_model` takes it.
        photos: of garments, boxes where there are; labels are not read. None that a figure is measured on.
        out: folder of the new checkpoint.
        settings: None: the defaults.
        progress: told of encoding.

    Returns:
        {"checkpoint", "fingerprint", "photos", "chain"}.

    Raises:
        CheckpointError: no such model. DataError: too few photos, or one cannot be read.
    """
    settings = settings or AdaptSettings()
    if len(photos) < MIN_PHOTOS:
        raise DataError(f"{len(photos)} photos; the cells of a model are fitted on {MIN_PHOTOS} at least")
    drawn = np.sort(np.random.default_rng(settings.seed).permutation(len(photos))[: settings.photos])
    before = load_checkpoint(model_folder(model))
    network = with_cells(before, settings.channels)
    rows, columns = network.map_grid()
    mapped = Model(load_checkpoint(model_folder(model))).with_scales((GLOBAL_SCALE, f"{rows}x{columns}"))
    encoded = encode_images(mapped, [photos[place] for place in drawn], progress=progress)
    cells = torch.from_numpy(np.asarray(encoded.regions[:, 1:], np.float32)).flatten(0, 1)  # (n * h * w, C)
    assert network.cells is not None
    network.cells.fit(cells, flattened=settings.flattened)
    last = before.chain[-1].matcher
    network.chain = (Stage("dense"), Stage(last, settings.depth))
    prints = save_checkpoint(network, out)
    chain = [stage.to_dict() for stage in network.chain]
    return {"checkpoint": str(out), "fingerprint": prints.model, "photos": len(drawn), "chain": chain}


def with_cells(network: GRNet, channels: int) -> GRNet:
    """The same network, weights shared, with a space of cells that is not fitted yet."""
    features = tuple(dict.fromkeys((*network.config.features, CELLS)))
    config = replace(network.config, cell_channels=channels, features=features)
    made = GRNet(config, backbone=network.backbone)
    made.neck, made.embedding, made.head = network.neck, network.embedding, network.head
    made.name, made.calibration = network.name, network.calibration
    return made.eval()
