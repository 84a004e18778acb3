"""Maps are zoomed and covered anew each time, as often as asked, and never in place."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from threadmatch.model.train.inputs.map_distortions import COVER, ZOOM, cover, distorted, zoom

COUNT, SIDE = 300, 20


@pytest.fixture
def maps() -> torch.Tensor:
    """Each map is its own number plus a ramp from left to right, below 1."""
    ramp = torch.linspace(0, 0.5, SIDE).expand(1, 1, SIDE, SIDE)
    return torch.arange(COUNT).float().view(-1, 1, 1, 1) + ramp


def test_a_cover_is_a_rectangle_of_the_next_map_of_the_named_size(maps: torch.Tensor) -> None:
    before = maps.clone()
    out = cover(maps, 0.5, np.random.default_rng(0))
    assert torch.equal(maps, before), "the cache is not written to"
    changed = (out != maps).flatten(1).float().mean(1)
    touched = changed > 0
    assert 0.4 < touched.float().mean() < 0.6
    assert changed[touched].min() > COVER[0] - 0.05
    assert changed[touched].max() < COVER[1] + 0.05
    for n in np.flatnonzero(touched)[:40].tolist():
        hidden = out[n, 0] != maps[n, 0]
        rows, columns = hidden.any(1).nonzero(), hidden.any(0).nonzero()
        assert hidden[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all(), "one whole rectangle"
        assert torch.equal(out[n, 0][hidden], maps[(n + 1) % COUNT, 0][hidden])


def test_a_zoom_shows_a_part_of_the_same_map_at_the_full_size(maps: torch.Tensor) -> None:
    out = zoom(maps, 1.0, np.random.default_rng(0))
    assert out.shape == maps.shape
    spread = (out - torch.arange(COUNT).float().view(-1, 1, 1, 1)).flatten(1)
    assert spread.min() > -1e-3, "nothing of another map"
    assert spread.max() < 0.5 + 1e-3
    width = (spread.max(1).values - spread.min(1).values) / 0.5
    assert width.min() > ZOOM[0] - 0.1
    assert width.min() < ZOOM[0] + 0.1
    assert width.max() > 0.9


def test_nothing_asked_changes_nothing_and_the_same_seed_distorts_the_same(maps: torch.Tensor) -> None:
    assert torch.equal(distorted(maps, np.random.default_rng(0), zoomed=0.0, covered=0.0), maps)
    one, two, other = (distorted(maps, np.random.default_rng(seed), zoomed=0.3, covered=0.3) for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
