"""Attention that an attribute guides, as functions: where to look, which channels count, and what is compared.

Letters  B photos, A attributes, d channels, P = h x w positions of the map
Paper    AG-MAN: Xiao and Yamasaki, IEEE Access 2024, as its published code computes it; ASEN: Ma et al., AAAI 2020;
         the gate: Woo et al., ECCV 2018 (CBAM); the masks: Veit et al., CVPR 2017 (Conditional Similarity Networks)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

MASK_OTHERS, MASK_OWN = 0.1, 1.0
"""What a mask begins with: everywhere, and in its attribute's own block of channels."""


def swish(values: Tensor) -> Tensor:
    """t * sigmoid(t), of any shape."""
    return F.silu(values)


def spatial_attention(keys: Tensor, guides: Tensor) -> Tensor:
    """Where each attribute is to be seen.

        att[a, p] = softmax_p( sum_k u[a, k] keys[k, p] / sqrt(d) )

    Args:
        keys: (B, d, P), tanh(BN(X)) in AG-MAN.
        guides: (A, d), u.

    Returns:
        (B, A, P); each row sums to 1.
    """
    return (guides @ keys / math.sqrt(keys.shape[1])).softmax(dim=-1)  # (A, d) @ (B, d, P) -> (B, A, P)


def spatial_gate(attention: Tensor, values: Tensor, kernel: Tensor, grid: tuple[int, int]) -> Tensor:
    """CBAM's spatial gate of each attribute's attended map X1 = att o X, without making X1.

        gate = sigmoid( conv_{2->1}( [mean_k X1 ; max_k X1] ) )

    Attention is 0 or more and the same for all channels, so that mean and maximum of X1 over channels are those of X
    times the attention.

    Args:
        attention: (B, A, P), 0 or more.
        values: (B, d, P), X times its gain.
        kernel: (1, 2, n, n), n odd; no bias.
        grid: h, w.

    Returns:
        (B, A, P) in 0..1.
    """
    b, a, p = attention.shape
    seen = torch.stack([values.mean(dim=1), values.amax(dim=1)], dim=1)  # (B, 2, P)
    maps = (attention[:, :, None] * seen[:, None]).reshape(b * a, 2, *grid)
    return F.conv2d(maps, kernel, padding=kernel.shape[-1] // 2).sigmoid().reshape(b, a, p)


def pooled(attention: Tensor, values: Tensor) -> Tensor:
    """v[a] = sum_p att[a, p] X[:, p]: a sum, since the weights already sum to 1 before the gate.

    Args:
        attention: (B, A, P).
        values: (B, d, P).

    Returns:
        (B, A, d).
    """
    return attention @ values.transpose(1, 2)


def channel_attention(pooled: Tensor, seen: Tensor, guided: Tensor, out: Tensor, bias: Tensor) -> Tensor:
    """Which channels count for each attribute.

        g = sigmoid( W2 ReLU( W1 [v ; r] + b1 ) + b2 ),   W1 [v ; r] + b1 = Wv v + (Wr r + b1)

    Args:
        pooled: (B, A, d), v.
        seen: (k, d), Wv: the columns of W1 that read v.
        guided: (A, k), Wr r + b1: nothing in it but the attribute, so it is tabulated.
        out: (d, k), W2.
        bias: (d,), b2.

    Returns:
        (B, A, d) in 0..1.
    """
    hidden = F.relu(F.linear(pooled, seen) + guided)  # (B, A, k)
    return F.linear(hidden, out, bias).sigmoid()


def first_masks(attributes: int, width: int) -> Tensor:
    """(A, d) masks as they begin: 0.1, and 1 on the attribute's own block of floor(d / A) channels."""
    masks = torch.full((attributes, width), MASK_OTHERS)
    block = width // attributes
    for attribute in range(attributes):
        masks[attribute, attribute * block : (attribute + 1) * block] = MASK_OWN
    return masks
