"""Linear layers that start as principal components of features: a start that already works.

Letters  n vectors, C channels, R regions
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from threadmatch.model.data.sides import Sides
from threadmatch.model.grnet import GRNet
from threadmatch.model.neck import HypercolumnNeck, learned_layer
from threadmatch.model.train.inputs.feature_sets import FeatureSet

BLEND_START = {"global": 0.0, "greedy": 24.0}
"""Of the learned weights: greedy matching alone, about as steep as the softmaxes it was trained by."""

PARTLY, FULLY = 0.5, 1.0
"""Power of the deviation that a component is divided by. Fully lifts noise: it serves beside others."""

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
            _whiten(network.embedding, sample.float(), PARTLY)
        if network.neck is not None:
            regions = _regions(train)
            _whiten(learned_layer(network.neck), regions[:, : network.backbone.channels].float(), PARTLY)
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
            _whiten(layer, own, FULLY)
        column = neck.column(neck.last(last), taps)
        # Not centred: what is kept of the vectors' products counts, since cosines are taken of them.
        _, vectors = torch.linalg.eigh(column.T @ column / len(column))
        neck.join.weight.copy_(vectors.flip(1)[:, : neck.join.out_features].T)


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


def _whiten(layer: nn.Linear, sample: Tensor, power: float) -> None:
    """Rows: the leading components, each divided by its deviation to `power` (1 whitens fully and lifts noise)."""
    mean = sample.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov((sample - mean).T))
    keep = layer.out_features
    values, vectors = values.flip(0)[:keep], vectors.flip(1)[:, :keep]
    scale = (values / values[0]).clamp(min=1e-6).pow(-power / 2)
    weight = scale[:, None] * vectors.T
    length = (F.linear(sample - mean, weight)).norm(dim=1).mean()
    layer.weight.copy_(weight / length)
    layer.bias.copy_(-(weight / length) @ mean)
