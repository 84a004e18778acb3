"""Around the training of a backbone: the maps it begins with, and the features that the head is trained on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from threadmatch.model.config import GRNetConfig
from threadmatch.model.data.pairs import LabelledImage
from threadmatch.model.data.sets import LabelledSet
from threadmatch.model.data.sides import Sides
from threadmatch.model.fusing import fold_batch_norm
from threadmatch.model.grnet import GRNet
from threadmatch.model.inference import Model
from threadmatch.model.progress import Progress, unheard
from threadmatch.model.train.inputs.feature_sets import FeatureSet
from threadmatch.model.train.inputs.front_maps import MapSet, loosened, make_maps
from threadmatch.model.train.inputs.map_distortions import distorted
from threadmatch.model.train.loop.run_folder import Run
from threadmatch.model.train.phases.finetune import FinetuneSettings
from threadmatch.model.train.phases.principal_components import start_from_data, start_hypercolumn
from threadmatch.model.train.phases.trained_part import bare_features

START_SAMPLE = 3000
"""Images of either side that the principal components at the start are taken from."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the training of a backbone begins with.

    Fields:
        rest: the stages that are trained, the network's own.
        train, val: maps of the stages before them.
    """

    rest: nn.Module
    train: Sides[MapSet]
    val: Sides[MapSet]


def prepare(
    network: GRNet,
    train: LabelledSet,
    val: LabelledSet,
    *,
    from_stage: int,
    seed: int,
    run: Run,
) -> Prepared:
    """Carry all images through the stages that stay as they are.

    Args:
        network: with its starting backbone, in evaluation mode.
        train, val: images; the boxes of training queries are loosened (`front_maps.loosened`), those of val are not.
        from_stage: the first stage that is trained.
        seed: of the loosened boxes.
        run: keeps the maps in `maps`; its main process makes them.

    Raises:
        ConfigError: the backbone has no such stage. DataError: an image cannot be read.
    """
    side = network.config.image_px
    front, _ = fold_batch_norm(copy.deepcopy(network.backbone), image_px=side).split(from_stage)
    _, rest = network.backbone.split(from_stage)
    label = f"{bare_model(network, hypercolumn=False).features_fingerprint} {from_stage}"  # the front is the same

    def maps(images: list[LabelledImage]) -> MapSet:
        return make_maps(front, images, image_px=side, cache=run.folder / "maps", label=label, progress=run.say)

    with run.processes.main_first():
        training = replace(train, queries=loosened(train.queries, seed=seed))
        return Prepared(rest, training.map(maps), val.map(maps))


def refit_hypercolumn(network: GRNet, prepared: Prepared) -> None:
    """Fit the components of earlier maps again, to the features that the backbone now makes."""
    if network.config.hypercolumn:
        start_hypercolumn(network, features_of(network, prepared.rest, prepared.train, at_most=START_SAMPLE))


def start_from_maps(network: GRNet, prepared: Prepared, *, seed: int) -> None:
    """Start neck, embedding and head from the features that the backbone now makes; see `principal_components`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        start_from_data(network, features_of(network, prepared.rest, prepared.train, at_most=START_SAMPLE))


def head_features(
    network: GRNet,
    prepared: Prepared,
    settings: FinetuneSettings,
    *,
    project: bool = False,
    progress: Progress = unheard,
) -> Sides[FeatureSet]:
    """Features of the trained backbone that the head is trained on.

    Args:
        network: trained.
        prepared: what it was trained with.
        settings: how many distorted copies of each query, and how.
        project: through neck and embedding, since these stay as they are.
        progress: hears how many images are done.
    """
    plain = features_of(network, prepared.rest, prepared.train, project=project, progress=progress)
    queries = prepared.train.queries
    copies = [
        FeatureSet(
            *bare_features(
                network,
                prepared.rest,
                queries,
                np.arange(len(queries.products)),
                change=_distorting(queries, settings, number),
                project=project,
                progress=progress,
            ),
            queries.products,
            project,
        )
        for number in range(settings.head_copies)
    ]
    count = len(queries.products)
    refused = {
        copied * count + n: items for copied in range(settings.head_copies + 1) for n, items in plain.refused.items()
    }
    return Sides(plain.gallery, FeatureSet.joined([plain.queries, *copies]), refused)


def bare_model(network: GRNet, *, hypercolumn: bool = True) -> Model:
    """A network's backbone alone, as a model whose features are what neck, embedding and head are trained on.

    Args:
        network: whose.
        hypercolumn: whether with the earlier maps, if the network reads some.
    """
    taps = network.config.hypercolumn if hypercolumn else ()
    config = GRNetConfig(
        backbone=network.config.backbone,
        encoder=network.config.encoder,
        image_px=network.config.image_px,
        scales=network.config.scales,
        pool=network.config.pool,
        embedding_pool=network.config.embedding_pool,
        hypercolumn=taps,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)  # the head goes unused, but must not change the random numbers of the caller
        return Model(GRNet(config, backbone=copy.deepcopy(network.backbone).tap(taps)))


def features_of(
    network: GRNet,
    rest: nn.Module,
    pairs: Sides[MapSet],
    *,
    at_most: int | None = None,
    project: bool = False,
    progress: Progress = unheard,
) -> Sides[FeatureSet]:
    """Features of maps; of evenly spaced ones where there are more than `at_most`."""

    def features(images: MapSet) -> FeatureSet:
        at = np.arange(len(images.products))
        if at_most is not None and len(at) > at_most:
            at = np.linspace(0, len(at) - 1, at_most).astype(np.int64)
        pooled, regions = bare_features(network, rest, images, at, project=project, progress=progress)
        return FeatureSet(pooled, regions, [images.products[n] for n in at], project)

    if at_most is not None:  # positions are others, so what was refused is left out
        return Sides(features(pairs.gallery), features(pairs.queries))
    return pairs.map(features)


def _distorting(images: MapSet, settings: FinetuneSettings, number: int) -> Callable[[Tensor], Tensor]:
    """Zooms into maps and covers them; each copy has its own distortions."""
    # Another stream than those of the steps: their seeds end in a process's rank, which is smaller.
    rng = np.random.default_rng([settings.seed, number, len(images.products)])
    return lambda maps: distorted(maps, rng, zoomed=settings.zoomed, covered=settings.covered)
