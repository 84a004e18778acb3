"""From a feature map to the region vectors of all scales.

Letters  B images, C channels, h x w the map, R regions, L scales
Paper    Kuang et al., ICCV 2019, sec. 3.2 and 5.1: max-pooled windows of 1x1, 1x2, 2x1, 2x2, 1x3, 3x1, 3x3
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from model.config import Pool

Grid = tuple[int, int]


def pool_regions(feature_map: Tensor, grids: Sequence[Grid], pool: Pool = "max") -> Tensor:
    """Pool every window of every grid.

    Args:
        feature_map: (B, C, h, w) last convolution activation, float.
        grids: rows and columns of each scale, in order.
        pool: "max" (the paper's) or "avg".

    Returns:
        (B, R, C); regions scale by scale, each row by row.
    """
    adaptive = F.adaptive_max_pool2d if pool == "max" else F.adaptive_avg_pool2d
    pooled = [adaptive(feature_map, grid).flatten(2) for grid in grids]  # L x (B, C, rows * columns)
    return torch.cat(pooled, dim=2).transpose(1, 2)  # (B, R, C)


def region_boxes(grids: Sequence[Grid], map_rows: int, map_columns: int) -> Tensor:
    """Where each region lies, as a share of the crop.

    Returns:
        (R, 4) float32 x0, y0, x1, y1 in 0..1, in the order of `pool_regions`: the cells of the map that the adaptive
        window reads. What the cells themselves see (the receptive field) is wider.
    """
    boxes = [
        (x0 / map_columns, y0 / map_rows, x1 / map_columns, y1 / map_rows)
        for rows, columns in grids
        for y0, y1 in _windows(rows, map_rows)
        for x0, x1 in _windows(columns, map_columns)
    ]
    return torch.tensor(boxes, dtype=torch.float32)


def _windows(cells: int, size: int) -> list[tuple[int, int]]:
    """Adaptive borders: floor of the start, ceiling of the end."""
    return [(i * size // cells, -(-(i + 1) * size // cells)) for i in range(cells)]
