"""From a feature map to the region vectors of all scales.

Letters  B images, C channels, h x w the map, R regions, L scales
Paper    Kuang et al., ICCV 2019, sec. 3.2 and 5.1: max-pooled windows of 1x1, 1x2, 2x1, 2x2, 1x3, 3x1, 3x3
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from threadmatch.model.config import GLOBAL_GRID, GRNetConfig, Pool
from threadmatch.model.looked import Looked

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


def pool_map(feature_map: Tensor, config: GRNetConfig, channels: int) -> tuple[Tensor, Tensor]:
    """Pool a backbone's map for both stages.

    Args:
        feature_map: (B, C + taps, h, w); the channels of earlier stages follow those of the last.
        config: how to pool. Earlier stages are averaged: they say how much of something there is, where the last one
            says whether it is there.
        channels: C of the last stage, which stage one reads alone.

    Returns:
        (B, C) pooled, (B, R, C + taps) regions.
    """
    last, taps = feature_map[:, :channels], feature_map[:, channels:]
    pooled = pool_regions(last, [GLOBAL_GRID], config.embedding_pool)[:, 0]
    regions = pool_regions(last, config.grids, config.pool)
    if taps.shape[1]:
        regions = torch.cat([regions, pool_regions(taps, config.grids, "avg")], dim=2)
    return pooled, regions


def pool_looked(looked: Looked, config: GRNetConfig, channels: int) -> tuple[Tensor, Tensor]:
    """`pool_map` of what a backbone saw; what it pooled by itself stands."""
    pooled, regions = pool_map(looked.feature_map, config, channels)
    return (pooled if looked.pooled is None else looked.pooled), regions


def averaged_to(feature_map: Tensor, grid: Grid) -> Tensor:
    """The mean of each part of a map: (B, C, H, W) -> (B, C, h, w).

    Where the parts are all alike they are taken as windows, which gives the same numbers: OpenVINO takes twenty times
    as long for parts that may differ.

    Args:
        feature_map: (B, C, H, W) float.
        grid: h and w.
    """
    (height, width), (rows, columns) = map(int, feature_map.shape[2:]), map(int, grid)
    if height % rows or width % columns:
        return F.adaptive_avg_pool2d(feature_map, grid)
    return F.avg_pool2d(feature_map, (height // rows, width // columns))


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
