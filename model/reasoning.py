"""Message passing over the graph of similarities, equation by equation. The reference; `engine` is the fast form.

Letters  B pairs, N nodes, D channels coming in, C' channels going out
Paper    Kuang et al., ICCV 2019, Eq. 5 to 8: w -> edges, s-hat -> messages, h -> the returned nodes
"""

from __future__ import annotations

import torch
from torch import Tensor


def edge_mask(scale: Tensor, *, intra: bool, inter: bool) -> Tensor:
    """Which edges the graph has (Table 5, rows 4 to 7).

    Args:
        scale: (N,) int64 scale of each node; node 0 is the global one.
        intra, inter: keep the edges inside a scale, between scales.

    Returns:
        (N, N) bool, [a, b] true where node a hears node b. Edges into node 0 and from a node to itself always stay.
    """
    same = scale[:, None] == scale[None, :]
    mask = (same & intra) | (~same & inter) | torch.eye(len(scale), dtype=torch.bool, device=scale.device)
    mask[0] = True
    return mask


def edge_weights(nodes: Tensor, t_out: Tensor, t_in: Tensor, mask: Tensor | None = None) -> Tensor:
    """How much each node hears of each other.

        w_ab = exp((T_out s_a)^T (T_in s_b)) / sum_c exp((T_out s_a)^T (T_in s_c))        (Eq. 5)

    Args:
        nodes: (B, N, D) s.
        t_out, t_in: (D, D).
        mask: (N, N) bool, false where there is no edge; None keeps all.

    Returns:
        (B, N, N); each row sums to 1.
    """
    affinity = (nodes @ t_out.T) @ (nodes @ t_in.T).transpose(1, 2)  # (B, N, N)
    if mask is not None:
        affinity = affinity.masked_fill(~mask, float("-inf"))
    return affinity.softmax(dim=-1)


def propagate(nodes: Tensor, edges: Tensor, w: Tensor) -> Tensor:
    """One step of reasoning.

        s-hat_a = sum_b w_ab s_b        (Eq. 6)
        h_a = ReLU(W s-hat_a)           (Eq. 8)

    Args:
        nodes: (B, N, D).
        edges: (B, N, N).
        w: (C', D).

    Returns:
        (B, N, C').
    """
    messages = edges @ nodes  # (B, N, D)
    return (messages @ w.T).relu()  # (B, N, C')
