"""From a trained encoder and a folder of photos to a model: no labels, no training, minutes.

Stage one compares what the encoder itself gives for a photo; stage two the cells of its map, as principal components of
the photos' own. Both are linear, so nothing of the encoder is lost but what the photos never show.

Letters  n photos, S image side, h x w the map, C channels, K components a cell, E embedding
"""

from __future__ import annotations

import logging
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from threadmatch.model.adapting.looking import PHOTOS_LEAST, Sample, look_at
from threadmatch.model.adapting.sizes import Sizes, choose_sizes
from threadmatch.model.backbone import Backbone
from threadmatch.model.chain import Stage
from threadmatch.model.checkpoint import save_checkpoint
from threadmatch.model.components import PARTLY, rotate, whiten
from threadmatch.model.config import GRNetConfig
from threadmatch.model.data.photo_folder import photos_below
from threadmatch.model.encoders.building import open_trained
from threadmatch.model.encoders.library import Trained, Wanted, grid_of
from threadmatch.model.errors import DataError
from threadmatch.model.features import CELLS, EMBEDDING
from threadmatch.model.framing import Fit, Framing
from threadmatch.model.grnet import GRNet
from threadmatch.model.progress import Progress, unheard
from threadmatch.model.train.phases.principal_components import start_head

logger = logging.getLogger(__name__)

PHOTOS_MOST: Final = 1000
_SEED: Final = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptSettings:
    """How to adapt.

    Fields:
        image_px: S; 0 for the one that the encoder was trained with.
        fit: how a photo becomes a square; None as the encoder was trained.
        grid: rows and columns of the cells kept; None chooses.
        components: K; None takes as many as fit.
        weights: a file of the encoder's weights, for `open_trained`.
        photos_most: photos looked at, evenly spaced over all.
        bfloat16: compute in it where the processor can.
        half: store float16, half the size; the numbers then differ by about a thousandth.
        device: "cpu" or "cuda".
    """

    image_px: int = 0
    fit: Fit | None = None
    grid: tuple[int, int] | None = None
    components: int | None = None
    weights: Path | None = None
    photos_most: int = PHOTOS_MOST
    bfloat16: bool = False
    half: bool = False
    device: str = "cpu"


def adapt(
    encoder: str,
    photos: Path,
    out: Path,
    *,
    settings: AdaptSettings | None = None,
    progress: Progress = unheard,
) -> dict[str, Any]:
    """Write a model's folder.

    Args:
        encoder: "timm:NAME", "open_clip:NAME", "hf:NAME", each a folder too, or one of `backbone.BUILDERS`.
        photos: folder, with all below it.
        out: the model's folder, which must not be there yet.
        settings: how; None takes the defaults.
        progress: hears how many photos are seen.

    Returns:
        What was made, as the command prints it.

    Raises:
        ConfigError, CheckpointError: the encoder cannot be had, or not so. DataError: the photos or `out`.
    """
    started = time.monotonic()
    settings = settings or AdaptSettings()
    if out.exists():
        raise DataError(f"{out} is there already; name another --out, or take it away first")
    files = _chosen(photos, settings.photos_most)
    trained = _as_asked(open_trained(Wanted(encoder, settings.image_px, settings.weights)), settings)
    backbone = trained.backbone.to(settings.device)
    own_grid = grid_of(backbone, trained.image_px)
    sizes = choose_sizes(
        own_grid=own_grid,
        channels=backbone.channels,
        pooled=backbone.pooled_channels or backbone.channels,
        exact=bool(backbone.pooled_channels),
        grid=settings.grid,
        components=settings.components,
    )
    backbone.grid = sizes.grid if sizes.grid != own_grid else ()
    sample = look_at(files, trained, progress)
    sizes = _held_by(sizes, sample)
    network = _network(trained, backbone.to("cpu"), sizes)
    shares = _fit(network, sample)
    network.name = out.name
    _write(network, out, half=settings.half, card=_card(encoder, sizes, len(sample.pooled)))
    return {
        "checkpoint": str(out),
        **_described(trained, own_grid, sizes),
        **shares,
        "photos": len(sample.pooled),
        "skipped": sample.skipped,
        "seconds": round(time.monotonic() - started, 3),
    }


def _described(trained: Trained, own_grid: tuple[int, int], sizes: Sizes) -> dict[str, Any]:
    return {
        "encoder": trained.name,
        "image_px": trained.image_px,
        "framing": trained.encoder.framing.to_dict(),
        "own_grid": list(own_grid),
        "grid": list(sizes.grid),
        "components": sizes.components,
        "embedding": sizes.embedding,
        "embedding_is": "reduced" if sizes.reduced else "the encoder's own",
        "item_bytes": sizes.item_bytes,
    }


def _chosen(folder: Path, most: int) -> list[Path]:
    """The photos to look at, evenly spaced over all that are there."""
    files = list(photos_below(folder)) if folder.is_dir() else []
    if len(files) < PHOTOS_LEAST:
        raise DataError(f"{folder} has {len(files)} photos, expected at least {PHOTOS_LEAST}: components need variety")
    at = np.unique(np.linspace(0, len(files) - 1, min(most, len(files))).astype(np.int64))
    return [files[n] for n in at]


def _as_asked(trained: Trained, settings: AdaptSettings) -> Trained:
    """In the precision and with the way to the square that were asked for; what is filled up takes the mean colour."""
    own = replace(trained.encoder, bfloat16=settings.bfloat16)
    if settings.fit is not None:
        red, green, blue = (min(255, max(0, round(255 * value))) for value in own.mean)
        own = replace(own, framing=Framing(settings.fit, 0, own.framing.interpolation, (red, green, blue)))
    return replace(trained, encoder=own)


def _held_by(sizes: Sizes, sample: Sample) -> Sizes:
    """No more components than the photos show: half as many as vectors are there, the last ones being chance."""
    photos, cells = len(sample.pooled) // 2, len(sample.cells) // 2
    embedding = min(sizes.embedding, photos) if sizes.reduced else sizes.embedding
    components = min(sizes.components, cells - cells % 2)
    if (embedding, components) != (sizes.embedding, sizes.components):
        logger.warning(
            "few photos: the model keeps %d and %d components, %d and %d with more of them",
            embedding, components, sizes.embedding, sizes.components,
        )  # fmt: skip
    return replace(sizes, embedding=embedding, components=components)


def _network(trained: Trained, backbone: Backbone, sizes: Sizes) -> GRNet:
    """The encoder with a neck and, where its vector is reduced, an embedding layer; a head for who trains one."""
    config = GRNetConfig(
        backbone=trained.name,
        encoder=replace(trained.encoder, grid=backbone.grid),
        image_px=trained.image_px,
        embedding_channels=sizes.embedding if sizes.reduced else 0,
        neck_channels=sizes.components,
        features=(EMBEDDING, CELLS),
        region_norm="l2",
        similarity_channels=256,
        projection_bias=True,
        position_code=True,
        dropout=0.1,
        blend=("global", "greedy"),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        network = GRNet(config, backbone=backbone)
        start_head(network)
    network.chain = (Stage("dense"),)
    return network.eval()


@torch.no_grad()
def _fit(network: GRNet, sample: Sample) -> dict[str, float]:
    """The components, and the share of what the photos show that they keep."""
    assert isinstance(network.neck, nn.Linear), "an adapted encoder is read at its last map alone"
    shares = {"components_hold": whiten(network.neck, sample.cells, PARTLY)}
    if network.embedding is not None and network.backbone.pooled_channels:
        shares["embedding_holds"] = rotate(network.embedding, F.normalize(sample.pooled, dim=-1))
    elif network.embedding is not None:  # a mean of activations, which nobody trained to be compared
        shares["embedding_holds"] = whiten(network.embedding, sample.pooled, PARTLY)
    return {name: round(share, 4) for name, share in shares.items()}


def _write(network: GRNet, out: Path, *, half: bool, card: str) -> None:
    """Aside, then renamed: a kill leaves no half of a model."""
    staged = out.with_name(f".{out.name}.partial")
    shutil.rmtree(staged, ignore_errors=True)
    save_checkpoint(network, staged, half=half)
    (staged / "README.md").write_text(card)
    staged.rename(out)


def _card(encoder: str, sizes: Sizes, photos: int) -> str:
    rows, columns = sizes.grid
    return (
        f"# {encoder}\n\nTaken over by `threadmatch adapt` as it was trained, with {sizes.components} principal "
        f"components for each of {rows} x {columns} cells, fitted on {photos} photos without labels. The weights are "
        "their makers', and so is the licence.\n"
    )
