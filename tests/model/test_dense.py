"""Dense matching and the space of its cells against loops, every dimension another."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.conftest import TINY_CONFIG
from threadmatch.model.config import GRNetConfig
from threadmatch.model.dense import DenseMatcher, dense_similarity
from threadmatch.model.errors import ConfigError
from threadmatch.model.grnet import GRNet
from threadmatch.model.inference import Model
from threadmatch.model.neck import CellSpace


def _cells(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _unit(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(_cells(*shape, seed=seed), dim=-1)


@pytest.mark.parametrize("photos", [1, 2])
def test_dense_similarity_is_its_equation_written_as_loops(photos: int) -> None:
    b, p, q, k = 2, 3, 5, 7
    query, items = _unit(photos, p, k), _unit(b, q, k, seed=1)
    actual = dense_similarity(query, items)
    for n in range(b):
        own = query[min(n, photos - 1)]
        total = sum(max(float(own[i] @ items[n, j]) for j in range(q)) for i in range(p))
        assert actual[n].item() == pytest.approx(total / p, abs=1e-6)


def test_a_photo_matches_itself_wherever_its_parts_stand() -> None:
    cells = _unit(1, 6, 4)
    assert dense_similarity(cells, cells[:, torch.randperm(6)]).item() == pytest.approx(1.0, abs=1e-6)


def test_several_photos_share_chunks_and_keep_their_own_scores() -> None:
    photos = [{"cells": _unit(3, 7, seed=n).numpy()} for n in range(3)]
    items = [{"cells": _unit(count, 5, 7, seed=9 + count).numpy()} for count in (4, 0, 300)]
    together = DenseMatcher().score_many(photos, items)
    assert [len(scores) for scores in together] == [4, 0, 300]
    for photo, block, scores in zip(photos, items, together, strict=True):
        [alone] = DenseMatcher().score_many([photo], [block])
        np.testing.assert_allclose(scores, alone, atol=1e-6)


def test_a_cell_space_is_its_equation_written_out() -> None:
    space = CellSpace(7, 4)
    space.fit(_cells(50, 7, seed=3), flattened=0.5)
    cells = _cells(2, 3, 7)
    kept = space(cells)
    for n, i in itertools.product(range(2), range(3)):
        turned = space.axes.T @ (cells[n, i] / cells[n, i].norm() - space.mean)
        torch.testing.assert_close(kept[n, i], turned / turned.norm())


def test_a_cell_space_keeps_all_of_what_lies_in_few_dimensions() -> None:
    basis = torch.linalg.qr(_cells(7, 3)).Q  # (7, 3)
    cells = _unit(50, 3, seed=2) @ basis.T
    space = CellSpace(7, 3)
    space.fit(cells, flattened=0.0)
    kept = (cells - space.mean) @ space.axes
    torch.testing.assert_close(kept @ space.axes.T + space.mean, cells, atol=1e-4, rtol=0)


def test_axes_come_most_important_first_and_flattening_evens_them_out() -> None:
    cells = F.normalize(
        torch.tensor([[9.0, 0, 0, 0, 0]]) + _cells(4000, 5) * torch.tensor([0.0, 1, 0.3, 2, 0.01]), dim=1
    )
    space = CellSpace(5, 2)
    space.fit(cells, flattened=0.0)
    assert space.axes.abs().argmax(dim=0).tolist() == [3, 1]
    space.fit(cells, flattened=1.0)
    spread = ((cells - space.mean) @ space.axes).std(dim=0)
    torch.testing.assert_close(spread, torch.ones(2), atol=0.01, rtol=0)


def test_a_model_with_cells_keeps_its_whole_map_as_unit_vectors() -> None:
    config = {**TINY_CONFIG.to_dict(), "cell_channels": 6, "features": ("embedding", "regions", "cells")}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = GRNet(GRNetConfig.from_dict(config))
    assert network.cells is not None
    network.cells.fit(_cells(100, 24), flattened=0.5)
    model = Model(network)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    made = model.encode(pixels)["cells"]
    rows, columns = model.map_grid
    assert made.shape == (2, rows * columns, 6) == (2, *model.feature("cells").shape)
    np.testing.assert_allclose(np.linalg.norm(made, axis=-1), 1, atol=1e-5)
    scales = model.with_scales(("1x1", f"{rows}x{columns}"))
    behind_the_neck = torch.from_numpy(scales.encode(pixels)["regions"][:, 1:])
    torch.testing.assert_close(torch.from_numpy(made), network.cells(behind_the_neck), atol=1e-4, rtol=1e-3)


def test_cells_without_a_size_are_refused() -> None:
    config = {**TINY_CONFIG.to_dict(), "features": ("embedding", "cells")}
    with pytest.raises(ConfigError, match="cell_channels is 0"):
        Model(GRNet(GRNetConfig.from_dict(config)))
