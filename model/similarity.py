"""The nodes of the graph: similarity vectors of same-scale region pairs; and the scalar similarities they replace.

Letters  B pairs, R regions an image, C feature channels, D similarity channels, N nodes
Paper    Kuang et al., ICCV 2019, Eq. 1 to 4: x, y -> query, gallery; P -> projection
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

Grid = tuple[int, int]


def scale_spans(grids: Sequence[Grid]) -> list[tuple[int, int]]:
    """First and last-plus-one region of each scale."""
    spans, start = [], 0
    for rows, columns in grids:
        spans.append((start, start + rows * columns))
        start += rows * columns
    return spans


def pair_index(grids: Sequence[Grid]) -> tuple[Tensor, Tensor, Tensor]:
    """Name the two regions of every node.

    Returns:
        Three (N,) int64: the query region i, the gallery region j (both 0..R-1) and the scale l of each node; scales in
        order, i before j. Node 0 is the global pair.
    """
    query, gallery, scale = [], [], []
    for number, (start, end) in enumerate(scale_spans(grids)):
        cells = torch.arange(start, end)
        query.append(cells.repeat_interleave(len(cells)))
        gallery.append(cells.repeat(len(cells)))
        scale.append(torch.full((len(cells) ** 2,), number))
    return torch.cat(query), torch.cat(gallery), torch.cat(scale)


def region_similarity(
    query: Tensor, gallery: Tensor, projection: Tensor, *, grids: Sequence[Grid], bias: Tensor | None = None
) -> Tensor:
    """Compare every query region with every gallery region of its scale.

        s = P|x - y|^2 / ||P|x - y|^2||_2        (Eq. 4; |.|^2 is element-wise)

    Args:
        query: (B, R, C) region features x, float.
        gallery: (B, R, C) region features y, float.
        projection: (D, C) learned matrix P.
        grids: rows and columns of each scale.
        bias: (D,) added to P|x - y|^2 before the length is taken; None is the paper's form.

    Returns:
        (B, N, D) unit vectors in the order of `pair_index`. Two identical regions give the zero vector, not NaN.
    """
    gaps = [
        (query[:, start:end, None] - gallery[:, None, start:end]).flatten(1, 2)  # (B, cells * cells, C)
        for start, end in scale_spans(grids)
    ]
    squared_gap = torch.cat(gaps, dim=1).square()  # (B, N, C)
    return F.normalize(F.linear(squared_gap, projection, bias), dim=-1)  # (B, N, D)


def global_similarity(query: Tensor, gallery: Tensor) -> Tensor:
    """Cosine of two global vectors (Eq. 1 with S_g the cosine).

    Args:
        query, gallery: (..., C), float.

    Returns:
        (...,) in -1..1; a zero vector gives 0.
    """
    return (F.normalize(query, dim=-1) * F.normalize(gallery, dim=-1)).sum(-1)


def greedy_similarity(query: Tensor, gallery: Tensor, *, grids: Sequence[Grid]) -> Tensor:
    """Each query region with its best partner of the same scale (Eq. 2 and 3, S_l the cosine), as a mean.

        s_l = sum_ij w_ij S_l(x_i, y_j),   w_ij = 1 where j = argmax_k S_l(x_i, y_k), else 0

    The sum of Eq. 2 over all regions of all scales is divided by R, which changes no order and keeps it in -1..1.

    Args:
        query, gallery: (B, R, C), float.

    Returns:
        (B,) mean cosine.
    """
    cosine = F.normalize(query, dim=-1) @ F.normalize(gallery, dim=-1).transpose(1, 2)  # (B, R, R)
    best = [cosine[:, start:end, start:end].amax(dim=2) for start, end in scale_spans(grids)]  # L x (B, cells)
    return torch.cat(best, dim=1).mean(dim=1)  # (B,)


def greedy_similarity_across(query: Tensor, gallery: Tensor, *, grids: Sequence[Grid]) -> Tensor:
    """`greedy_similarity` of every query with every gallery image.

    Args:
        query: (B, R, C), float. gallery: (n, R, C), float.

    Returns:
        (B, n) mean cosine.
    """
    query, gallery = F.normalize(query, dim=-1), F.normalize(gallery, dim=-1)
    best = [
        torch.einsum("bic,njc->bnij", query[:, start:end], gallery[:, start:end]).amax(dim=3)
        for start, end in scale_spans(grids)
    ]  # L x (B, n, cells)
    return torch.cat(best, dim=2).mean(dim=2)  # (B, n)
