"""What the network of attributes is trained by, each a function of what it made of a step.

Two faults of the published code are mended. Its learnable weights of the losses were never given to the optimiser, so
they stayed 1 and both losses weighed alike; and their form, exp(p) L + p, has no minimum. Here weights are fixed, or
learned as exp(-s) L + s (Kendall et al., CVPR 2018) by the same optimiser.

Letters  B photos, A attributes, d width of an embedding, T triplets, V values of an attribute
Paper    Xiao and Yamasaki, IEEE Access 2024 (AG-MAN), as its published code computes it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MARGIN = 0.2
LEAST_LOG_VARIANCE = -4.0
"""Where s stops to fall: of a loss that is exactly 0, as of triplets can be, exp(-s) L + s has no minimum either."""


def triplet_loss(anchor: Tensor, positive: Tensor, negative: Tensor, *, margin: float = MARGIN) -> Tensor:
    """Mean over triplets of max(0, a . n - a . p + margin).

    Args:
        anchor, positive, negative: (T, d) unit vectors.
        margin: by which the same value is to be closer.
    """
    apart = (anchor * negative).sum(1) - (anchor * positive).sum(1)
    return F.relu(apart + margin).mean()


def shared_triplet_loss(embeddings: Tensor, marks: Sequence[Tensor], *, margin: float = MARGIN) -> Tensor:
    """`triplet_loss` over every triplet of a step, for every attribute: mean of those that the margin still pushes.

    Photos that share a value are positives of one another; that have values and share none, negatives; others neither.

    Args:
        embeddings: (B, A, d) unit vectors.
        marks: for each attribute (B, V) bool, the values of each photo; none: unknown.
        margin: see `triplet_loss`.

    Returns:
        Mean over attributes that have a triplet; 0 where none has.
    """
    losses = []
    for attribute, own in enumerate(marks):
        known = own.any(1)
        same = (own.float() @ own.float().T) > 0
        positive = same & ~torch.eye(len(own), dtype=torch.bool, device=own.device)
        negative = ~same & known[:, None] & known[None]
        if not (positive.any(1) & negative.any(1)).any():
            continue
        cosine = embeddings[:, attribute] @ embeddings[:, attribute].T  # (B, B)
        apart = cosine[:, None, :] - cosine[:, :, None] + margin  # [a, p, n]
        pushed = F.relu(apart) * (positive[:, :, None] & negative[:, None, :])
        losses.append(pushed.sum() / (pushed > 0).sum().clamp(min=1))
    return torch.stack(losses).mean() if losses else embeddings.sum() * 0.0


def attribute_loss(logits: Tensor, has: Tensor) -> Tensor:
    """Binary cross-entropy of "this photo has the attribute", whatever its value; a mean over all.

    Args:
        logits: (B, A).
        has: (B, A) bool.
    """
    return F.binary_cross_entropy_with_logits(logits, has.float())


def value_loss(embeddings: Tensor, directions: Sequence[Tensor], marks: Sequence[Tensor], *, scale: float) -> Tensor:
    """Cross-entropy of each photo's value by the cosine with the values' directions: ours, not the paper's.

        -mean log softmax_v( scale z_c . w_cv ) over the photos that have a value; of several each counts alike

    Args:
        embeddings: (B, A, d) unit vectors z.
        directions: for each attribute (V, d), w, of any length.
        marks: for each attribute (B, V) bool.
        scale: of the cosine.

    Returns:
        Mean over attributes that somebody has; 0 where nobody has any.
    """
    losses = []
    for attribute, (own, toward) in enumerate(zip(marks, directions, strict=True)):
        known = own.any(1)
        if not known.any():
            continue
        cosine = embeddings[known, attribute] @ F.normalize(toward, dim=-1).T
        wanted = own[known].float()
        losses.append(F.cross_entropy(scale * cosine, wanted / wanted.sum(1, keepdim=True)))
    return torch.stack(losses).mean() if losses else embeddings.sum() * 0.0


class Weighing(nn.Module):
    """The losses of a step as one.

    Args:
        weights: of each loss by name, as they begin or stay.
        learned: sum_i w_i (exp(-s_i) L_i + s_i), s learned from 0; else sum_i w_i L_i.
    """

    def __init__(self, weights: Mapping[str, float], *, learned: bool = False) -> None:
        super().__init__()
        self.weights = dict(weights)
        self.log_variance = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in weights if learned})

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Scalars by name -> their sum."""
        return torch.stack([self.weights[name] * self._one(name, loss) for name, loss in losses.items()]).sum()

    def _one(self, name: str, loss: Tensor) -> Tensor:
        if name not in self.log_variance:
            return loss
        s: Tensor = self.log_variance[name].clamp(min=LEAST_LOG_VARIANCE)
        return torch.exp(-s) * loss + s
