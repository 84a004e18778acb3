"""Learning from sets of kinds: a pixel whose kind is known, one of which something is known, one of which nothing is.

Letters  B photos, K kinds, h x w the grid
Paper    Cour, Sapp, Taskar, JMLR 2011 (partial labels), with the likelihood of the set as the loss
"""

from __future__ import annotations

import torch
from torch import Tensor


def allowed_kinds(sets: Tensor, kinds: int) -> Tensor:
    """(B, h, w) integers -> (B, K, h, w) bool: bit k as channel k."""
    powers = torch.arange(kinds, device=sets.device).view(1, -1, 1, 1)
    return (sets[:, None].to(torch.int64) >> powers) & 1 == 1


def partial_cross_entropy(logits: Tensor, sets: Tensor, weights: Tensor) -> Tensor:
    """-log of the probability that the kind is one of the set, averaged over the pixels of which something is known.

        loss = sum_p w_p (logsumexp_k z_pk - logsumexp_{k in S_p} z_pk) / sum_p w_p,   w_p = mean of w_k, k in S_p

    With one kind a set it is the weighted cross-entropy. A pixel that may be anything weighs nothing.

    Args:
        logits: (B, K, h, w) z.
        sets: (B, h, w) integers S, as `kinds` has them; none of them empty.
        weights: (K,) w.

    Returns:
        () the loss; 0 where nothing is known.
    """
    allowed = allowed_kinds(sets, logits.shape[1])  # (B, K, h, w)
    count = allowed.sum(dim=1)  # (B, h, w)
    share = (allowed * weights.view(1, -1, 1, 1)).sum(dim=1) / count.clamp(min=1)
    weight = torch.where(count < logits.shape[1], share, 0.0)  # (B, h, w)
    within = logits.masked_fill(~allowed, float("-inf")).logsumexp(dim=1)
    loss = logits.logsumexp(dim=1) - within
    return (weight * loss).sum() / weight.sum().clamp(min=1e-6)
