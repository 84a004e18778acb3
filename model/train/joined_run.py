"""Two trained models as one: both look at a photo, and what a gallery keeps of it is no larger than of one.

    python -m threadmatch.model.train.joined_run grnet-lite0 runs/lite2/checkpoint --photos sets/train \\
        --stages 5 6 7 --out runs/joined

Networks that were trained apart err apart. Each cell of the first is joined by the second's and by earlier maps of
both, each part of unit length; the leading components of all together are kept, and so are those of both embeddings.
Nothing trains. Regions, GRNet's head and parts that read maps of the first network stay as they were; the chain behind
the cells is fitted by `train.sparse_run` afterwards.

Letters  n photos or cells, E embedding size, K channels of a cell
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from threadmatch.model.chain import Stage
from threadmatch.model.checkpoint import save_checkpoint
from threadmatch.model.components import FULLY, rotate, whiten
from threadmatch.model.data.pairs import LabelledImage, read_labelled
from threadmatch.model.data.photo_reading import decoded
from threadmatch.model.encoders.building import further_stages
from threadmatch.model.errors import ConfigError
from threadmatch.model.features import CELLS
from threadmatch.model.grnet import GRNet, load_checkpoint
from threadmatch.model.inference import model_folder
from threadmatch.model.neck import HypercolumnNeck, learned_layer

PHOTOS = 3000
"""That the components are taken from, at most."""
CELLS_A_PHOTO = 12
"""Of those, by chance."""
SAME = ("encoder", "image_px", "neck_channels", "embedding_channels")
"""Settings that both must have."""


def join_networks(
    first: GRNet, second: GRNet, photos: Sequence[LabelledImage], *, stages: Sequence[int] = (), seed: int = 0
) -> GRNet:
    """One network of two.

    Args:
        first: its backbone leads. Taken over, as is `second`.
        second: becomes its companion.
        photos: what the components are fitted to, both sides of pairs.
        stages: of both, whose maps are read beside their last ones, those of the first's `hypercolumn` among them; ()
            for those alone.
        seed: of the photos and cells that are taken.

    Returns:
        A network that makes what the first does and cells, in evaluation mode; its chain is the dense match until one
        is fitted.

    Raises:
        ConfigError: the two do not fit each other, or lack such a stage. DataError: a photo cannot be read.
    """
    _check(first, second)
    features = tuple(dict.fromkeys((*first.config.features, CELLS)))
    read = tuple(stages) or first.config.hypercolumn
    config = replace(first.config, companion=second.config.backbone, cell_hypercolumn=read, features=features)
    learned = [learned_layer(network.neck) for network in (first, second) if network.neck is not None]
    backbone = first.backbone.accompany(second.backbone.tap(read), further_stages(config))
    joined = GRNet(config, backbone=backbone).eval()
    joined.neck, joined.head, joined.calibration = first.neck, first.head, first.calibration
    assert isinstance(joined.cell_neck, HypercolumnNeck)
    rng = np.random.default_rng(seed)
    chosen = [photos[n] for n in rng.permutation(len(photos))[:PHOTOS]]
    with torch.no_grad():
        pooled, cells = _seen(joined, chosen, rng)
        channels = [backbone.channels, *backbone.tap_channels, *backbone.beside_channels]
        _fit_neck(joined.cell_neck, learned, cells.split(channels, dim=-1), backbone.companion_place)
        _join_embeddings(joined, [first, second], pooled)
    joined.chain = (Stage("dense"),)
    _keep_parts(joined, first)
    return joined


def _check(first: GRNet, second: GRNet) -> None:
    for name in SAME:
        own, other = getattr(first.config, name), getattr(second.config, name)
        if own != other:
            raise ConfigError(f"the models cannot be joined: {name} is {own} of the first and {other} of the second")
    alone = not (first.config.companion or second.config.companion)
    necks = isinstance(first.neck, HypercolumnNeck) and second.neck is not None
    if not (alone and necks and first.config.embedding_channels):
        raise ConfigError(
            "the models cannot be joined: each must be one network with a neck and `embedding_channels`, the first "
            "with `hypercolumn`"
        )


def _seen(joined: GRNet, photos: Sequence[LabelledImage], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """(n, C of both) pooled, and some cells with the channels of all maps."""
    pooled, chosen = [], []
    for pixels in decoded(photos, image_px=joined.config.image_px, workers=2):
        looked = joined.backbone.look(torch.from_numpy(pixels).permute(0, 3, 1, 2))
        assert looked.pooled is not None
        pooled.append(looked.pooled)
        cells = looked.whole.flatten(2).transpose(1, 2)  # (B, h * w, all channels)
        some = torch.from_numpy(rng.integers(cells.shape[1], size=(len(cells), CELLS_A_PHOTO)))
        chosen.append(cells.gather(1, some[..., None].expand(-1, -1, cells.shape[2])).flatten(0, 1))
    return torch.cat(pooled), torch.cat(chosen)


def _fit_neck(neck: HypercolumnNeck, learned: Sequence[nn.Linear], maps: Sequence[Tensor], place: int) -> None:
    """The last maps' layers as they were trained, the companion's at `place`; of the others components."""
    own, other = learned
    last, *taps = maps
    companion = neck.components[place]
    for layer, seen in zip(neck.components, taps, strict=True):
        if layer is not companion:
            whiten(layer, seen, FULLY)
    neck.last.load_state_dict(own.state_dict())
    companion.load_state_dict(other.state_dict())
    rotate(neck.join, neck.column(neck.last(last), taps))


def _keep_parts(joined: GRNet, first: GRNet) -> None:
    """The parts that read nothing but maps of the first backbone."""
    for part in first.attached.values():
        if part.stages:
            part.tie("")
            joined.attach(part)


def _join_embeddings(joined: GRNet, networks: Sequence[GRNet], pooled: Tensor) -> None:
    """The leading directions of both embeddings, which count alike."""
    weights, offsets = [], []
    for network, seen in zip(networks, pooled.split([one.backbone.channels for one in networks], dim=1), strict=True):
        layer = network.embedding
        assert layer is not None
        length = layer(seen).norm(dim=1).mean()
        weights.append(layer.weight / length)
        offsets.append(layer.bias / length)
    weight, offset = torch.block_diag(*weights), torch.cat(offsets)
    own = joined.embedding
    assert own is not None
    kept = nn.Linear(len(offset), own.out_features, bias=False)
    rotate(kept, F.normalize(F.linear(pooled, weight, offset), dim=1))
    own.weight.copy_(kept.weight @ weight)
    own.bias.copy_(kept.weight @ offset)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Join two trained models to one that looks with both.")
    parser.add_argument("first", help="a model that ships, or a checkpoint's folder")
    parser.add_argument("second", help="likewise: the companion")
    parser.add_argument("--photos", type=Path, nargs="+", required=True, help="sets to fit the components to")
    parser.add_argument("--stages", type=int, nargs="+", default=(), help="whose maps are read as well")
    parser.add_argument("--name", default="", help="of the model; else the folder's")
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    given = parser.parse_args()
    first, second = (load_checkpoint(model_folder(name)) for name in (given.first, given.second))
    photos = [
        image
        for path in given.photos
        for side in ("gallery", "queries")
        for image in read_labelled(path / f"{side}.csv")
    ]
    joined = join_networks(first, second, photos, stages=given.stages)
    joined.name = given.name or given.out.name
    prints = save_checkpoint(joined, given.out)
    print(json.dumps({"fingerprint": prints.model, "features_fingerprint": prints.features}))


if __name__ == "__main__":
    main()
