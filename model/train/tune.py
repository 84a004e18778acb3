"""Fine-tuning from tables of images to a tuned network and the features its head is trained on."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from model.config import GRNetConfig
from model.data.pairs import LabelledImage
from model.fusing import fold_batch_norm
from model.grnet import GRNet
from model.inference import Model
from model.train.distort import distorted
from model.train.finetune import FinetuneSettings, finetune
from model.train.fit import start_from_data
from model.train.maps import MapPairs, MapSet, loosened, make_maps
from model.train.pools import PairPools, Pools
from model.train.processes import Processes
from model.train.tower import bare_features

START_SAMPLE = 3000
"""Images of either side that the principal components at the start are taken from."""


@dataclass(frozen=True, slots=True)
class Tables:
    """The images of a labelled set.

    Fields:
        refused: (image of a query, id of a gallery item that is not it).
    """

    gallery: list[LabelledImage]
    queries: list[LabelledImage]
    refused: list[tuple[Path, str]] = field(default_factory=list)


def tune(
    network: GRNet, settings: FinetuneSettings, train: Tables, val: Tables, run: Path, processes: Processes
) -> tuple[PairPools, PairPools]:
    """Fine-tune a network in place.

    Args:
        network: with its starting backbone, in evaluation mode.
        settings: how.
        train, val: images; the boxes of training queries are loosened (`maps.loosened`), those of val are not.
        run: folder for maps/, finetune.jsonl and finetune.pt; an unfinished run there goes on.
        processes: that fine-tune together; the main one makes the maps.

    Returns:
        Features of the tuned backbone for `train` and `val`, before neck and embedding.

    Raises:
        ConfigError: the backbone has no such stage. DataError: an image cannot be read.
    """
    side = network.config.image_px
    front, _ = fold_batch_norm(copy.deepcopy(network.backbone), image_px=side).split(settings.from_stage)
    _, rest = network.backbone.split(settings.from_stage)
    label = f"{bare_model(network).features_fingerprint} {settings.from_stage}"

    def maps(images: list[LabelledImage]) -> MapSet:
        return make_maps(front, images, image_px=side, cache=run / "maps", label=label)

    with processes.main_first():
        training = MapPairs(maps(train.gallery), maps(loosened(train.queries, seed=settings.seed)))
        held_out = MapPairs(maps(val.gallery), maps(val.queries))
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        start_from_data(network, _pools(network, rest, training, at_most=START_SAMPLE))
    finetune(network, rest, training, held_out, settings=settings, run=run, processes=processes)
    rest.to(processes.device)
    plain, val_pools = _pools(network, rest, training), _pools(network, rest, held_out)
    copies = [_distorted(network, rest, training.queries, settings, number) for number in range(settings.head_copies)]
    rest.to("cpu")
    return PairPools(plain.gallery, Pools.joined([plain.queries, *copies])), val_pools


def bare_model(network: GRNet) -> Model:
    """A network's backbone alone, as a model whose features are what neck, embedding and head are trained on."""
    config = GRNetConfig(
        backbone=network.config.backbone,
        image_px=network.config.image_px,
        scales=network.config.scales,
        pool=network.config.pool,
        embedding_pool=network.config.embedding_pool,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)  # the head goes unused, but must not change the random numbers of the caller
        return Model(GRNet(config, backbone=copy.deepcopy(network.backbone)))


def _pools(network: GRNet, rest: nn.Module, pairs: MapPairs, *, at_most: int | None = None) -> PairPools:
    """Features of maps; of evenly spaced ones where there are more than `at_most`."""

    def pools(images: MapSet) -> Pools:
        at = np.arange(len(images.products))
        if at_most is not None and len(at) > at_most:
            at = np.linspace(0, len(at) - 1, at_most).astype(np.int64)
        pooled, regions = bare_features(network.config, rest, images, at)
        return Pools(pooled, regions, [images.products[n] for n in at])

    return PairPools(pools(pairs.gallery), pools(pairs.queries))


def _distorted(network: GRNet, rest: nn.Module, images: MapSet, settings: FinetuneSettings, number: int) -> Pools:
    """Features of zoomed and covered maps; each copy has its own distortions."""
    rng = np.random.default_rng([settings.seed, number, len(images.products)])

    def change(maps: Tensor) -> Tensor:
        return distorted(maps, rng, zoomed=settings.zoomed, covered=settings.covered)

    at = np.arange(len(images.products))
    return Pools(*bare_features(network.config, rest, images, at, change=change), images.products)
