"""Linear layers as principal components of what they will read.

Letters  n vectors, C channels, K components
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PARTLY, FULLY = 0.5, 1.0
"""Power of the deviation that a component is divided by. Fully lifts noise: it serves beside others."""


def whiten(layer: nn.Linear, sample: Tensor, power: float) -> float:
    """Rows: the leading components, each divided by its deviation to `power` (1 whitens fully and lifts noise).

    Args:
        layer: C to K, changed in place; what it gives has unit length in the mean.
        sample: (n, C) float32.
        power: 0 to 1.

    Returns:
        The share of the sample's variance that the components hold, 0..1.
    """
    mean = sample.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov((sample - mean).T))
    whole, keep = values.clamp(min=0).sum(), layer.out_features
    values, vectors = values.flip(0)[:keep], vectors.flip(1)[:, :keep]
    scale = (values / values[0]).clamp(min=1e-6).pow(-power / 2)
    weight = scale[:, None] * vectors.T
    length = (F.linear(sample - mean, weight)).norm(dim=1).mean()
    layer.weight.copy_(weight / length)
    layer.bias.copy_(-(weight / length) @ mean)
    return float(values.clamp(min=0).sum() / whole)


def rotate(layer: nn.Linear, sample: Tensor) -> float:
    """Rows: the directions that hold most of the vectors' products, so that cosines stay as they are.

    Args:
        layer: C to K, changed in place; without its bias.
        sample: (n, C) float32 unit vectors; not centred, since cosines are taken of them.

    Returns:
        The share of their squared length that is kept, 0..1.
    """
    values, vectors = torch.linalg.eigh(sample.T @ sample / len(sample))
    layer.weight.copy_(vectors.flip(1)[:, : layer.out_features].T)
    if layer.bias is not None:
        layer.bias.zero_()
    return float(values.flip(0)[: layer.out_features].sum() / values.sum())
