"""Pooling written as loops; where each region lies."""

from __future__ import annotations

import pytest
import torch

from threadmatch.model.config import PAPER_SCALES, GRNetConfig
from threadmatch.model.pyramid import averaged_to, pool_regions, region_boxes

GRIDS = GRNetConfig().grids


def _loops(feature_map: torch.Tensor, grids: tuple[tuple[int, int], ...], reduce: str) -> torch.Tensor:
    b, c, h, w = feature_map.shape
    out = []
    for rows, columns in grids:
        for i in range(rows):
            for j in range(columns):
                cell = feature_map[
                    :, :, i * h // rows : -(-(i + 1) * h // rows), j * w // columns : -(-(j + 1) * w // columns)
                ].reshape(b, c, -1)
                out.append(cell.amax(2) if reduce == "max" else cell.mean(2))
    return torch.stack(out, dim=1)


@pytest.mark.parametrize("pool", ["max", "avg"])
@pytest.mark.parametrize("size", [(7, 7), (5, 8), (2, 3)])
def test_regions_are_the_adaptive_windows_written_as_loops(pool: str, size: tuple[int, int]) -> None:
    feature_map = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        pool_regions(feature_map, GRIDS, pool),  # type: ignore[arg-type]
        _loops(feature_map, GRIDS, pool),
    )


@pytest.mark.parametrize("grid", [(4, 3), (2, 6), (8, 6), (3, 4)])  # the last has parts of several sizes
def test_a_map_is_averaged_over_the_same_parts_however_it_is_taken(grid: tuple[int, int]) -> None:
    feature_map = torch.randn(2, 3, 8, 6, generator=torch.Generator().manual_seed(1))
    expected = _loops(feature_map, (grid,), "avg").transpose(1, 2).reshape(2, 3, *grid)
    torch.testing.assert_close(averaged_to(feature_map, grid), expected)


def test_the_paper_has_24_regions_and_124_nodes() -> None:
    config = GRNetConfig()
    assert config.scales == PAPER_SCALES
    assert (len(config.scales), config.regions, config.nodes) == (7, 24, 124)


def test_a_region_box_holds_exactly_the_cells_that_its_region_reads() -> None:
    h, w = 7, 5
    boxes = region_boxes(GRIDS, h, w)
    for row in range(h):
        for column in range(w):
            spike = torch.zeros(1, 1, h, w)
            spike[0, 0, row, column] = 1
            hit = pool_regions(spike, GRIDS)[0, :, 0] > 0
            x, y = (column + 0.5) / w, (row + 0.5) / h
            inside = (boxes[:, 0] < x) & (x < boxes[:, 2]) & (boxes[:, 1] < y) & (y < boxes[:, 3])
            assert torch.equal(hit, inside)
