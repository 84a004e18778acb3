"""How the cells of a joined model are reduced: the leading components of all that both networks say of a place.

Letters  n photos or cells, C channels of all maps, K channels of a cell
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from torch import Tensor

from threadmatch.model.chain import Stage
from threadmatch.model.components import rotate, turn
from threadmatch.model.data.pairs import LabelledImage
from threadmatch.model.data.photo_reading import decoded
from threadmatch.model.errors import ConfigError
from threadmatch.model.grnet import GRNet
from threadmatch.model.neck import HypercolumnNeck

PHOTOS: Final = 4000
"""That the components are taken from, at most."""
CELLS_A_PHOTO: Final = 20
"""Of those, by chance."""
POWER: Final = 0.3
"""With cells of two bits each component is divided by its deviation to this power: that lifts what few garments differ
in, and fewer bits lose less of it. Chosen on `val` (docs/research/what-was-tried.md)."""


def seen_of(joined: GRNet, photos: Sequence[LabelledImage], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """(n, C of both last maps) pooled, and some cells of each photo with the channels of all maps.

    Cells of the rim are left out: there is more of the ground there than of the garment.

    Raises:
        DataError: a photo cannot be read.
    """
    chosen = [photos[n] for n in rng.permutation(len(photos))[:PHOTOS]]
    pooled, cells = [], []
    for pixels in decoded(chosen, image_px=joined.config.image_px, workers=2):
        looked = joined.backbone.look(torch.from_numpy(pixels).permute(0, 3, 1, 2))
        assert looked.pooled is not None
        pooled.append(looked.pooled)
        whole = looked.whole if min(looked.whole.shape[2:]) < 3 else looked.whole[..., 1:-1, 1:-1]
        inner = whole.flatten(2).transpose(1, 2)  # (B, cells, C)
        some = torch.from_numpy(rng.integers(inner.shape[1], size=(len(inner), CELLS_A_PHOTO)))
        cells.append(inner.gather(1, some[..., None].expand(-1, -1, inner.shape[2])).flatten(0, 1))
    return torch.cat(pooled), torch.cat(cells)


def fit_join(joined: GRNet, cells: Tensor) -> None:
    """Fit the last step of the cells' neck to (n, C) cells, the steps before it being as they are to stay."""
    neck = joined.cell_neck
    assert isinstance(neck, HypercolumnNeck)
    last, *taps = cells.split(joined.backbone.cell_parts, dim=-1)
    column = torch.nn.functional.normalize(neck.column(neck.last(last), taps), dim=-1)
    rotate(neck.join, column, power=POWER if joined.config.cell_channels else 0.0)
    if joined.config.cell_channels:
        turn(neck.join)


@torch.no_grad()
def with_cells_of(joined: GRNet, photos: Sequence[LabelledImage], *, cell_channels: int, seed: int = 0) -> GRNet:
    """The same model with cells of another size.

    Args:
        joined: with a companion; all but the join of its cells is shared.
        photos: that the components are fitted to, both sides of pairs; best of garments that no network was trained on.
        cell_channels: K, see `GRNetConfig.cell_channels`.
        seed: of the photos and cells that are taken.

    Returns:
        In evaluation mode, its chain the dense match until one is fitted (`train.sparse_run`).

    Raises:
        ConfigError: it has no companion. DataError: a photo cannot be read.
    """
    if joined.backbone.companion is None:
        raise ConfigError(f"model {joined.name or 'given'} is one network; join it with another first (joined_run)")
    made = joined.under(replace(joined.config, cell_channels=cell_channels)).eval()
    made.head, made.calibration, made.chain = joined.head, joined.calibration, (Stage("dense"),)
    fit_join(made, seen_of(made, photos, np.random.default_rng(seed))[1])
    keep_parts(made, joined)
    return made


def keep_parts(made: GRNet, model: GRNet) -> None:
    """Give one model another's parts that read nothing but maps of its first network, which both share."""
    for part in model.attached.values():
        if part.stages:
            part.tie("")
            made.attach(part)
