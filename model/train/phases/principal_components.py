"""Linear layers that start as principal components of features: a start that already works.

Letters  n vectors, C channels, R regions
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from threadmatch.model.components import FULLY, PARTLY, rotate, whiten
from threadmatch.model.data.sides import Sides
from threadmatch.model.grnet import GRNet
from threadmatch.model.neck import HypercolumnNeck, learned_layer
from threadmatch.model.train.inputs.feature_sets import FeatureSet

BLEND_START = {"global": 0.0, "greedy": 24.0}
"""Of the learned weights: greedy matching alone, about as steep as the softmaxes it was trained by."""

SAMPLE_REGIONS = 100_000
"""Region vectors that the components of earlier maps are taken from, at most."""


def start_from_data(network: GRNet, train: Sides[FeatureSet]) -> None:
    """Start neck and embedding as whitened principal components of the training features, and the answer at zero.

    A random start has to unlearn itself first; from here stage one and the greedy similarity already work, and the head
    begins as exactly their blend.
    """
    with torch.no_grad():
        sample = torch.cat([train.gallery.pooled[:4000], train.queries.pooled[:8000]])
        if network.embedding is not None:
            whiten(network.embedding, sample.float(), PARTLY)
        if network.neck is not None:
            regions = _regions(train)
            whiten(learned_layer(network.neck), regions[:, : network.backbone.channels].float(), PARTLY)
    start_hypercolumn(network, train)
    start_head(network)


def start_hypercolumn(network: GRNet, train: Sides[FeatureSet]) -> None:
    """Fit what never learns of a neck over several maps: components of the earlier maps, and of all together.

    To be called again whenever the backbone or the learned part has changed. Does nothing for another neck.
    """
    neck = network.neck
    if not isinstance(neck, HypercolumnNeck):
        return
    with torch.no_grad():
        regions = _regions(train)
        regions = regions[:: -(-len(regions) // SAMPLE_REGIONS)].float()
        last, *taps = regions.split([network.backbone.channels, *network.backbone.tap_channels], dim=-1)
        for layer, own in zip(neck.components, taps, strict=True):
            whiten(layer, own, FULLY)
        column = neck.column(neck.last(last), taps)
        rotate(neck.join, column)


def start_head(network: GRNet) -> None:
    """Start the head as the blend's start and nothing else."""
    head = network.head
    with torch.no_grad():
        if head.blend is not None:
            head.classifier.weight.zero_()
            head.blend.copy_(torch.tensor([BLEND_START[name] for name in head.config.blend]))
        if head.projection_bias is not None:
            head.projection_bias.normal_(std=0.5 / math.sqrt(len(head.projection_bias)))


def _regions(train: Sides[FeatureSet]) -> Tensor:
    """(n, C) regions of some images of both sides."""
    return torch.cat([train.gallery.regions[:1500], train.queries.regions[:1500]]).flatten(0, 1)
