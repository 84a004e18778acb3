"""Equations 1 to 4 written as loops, every dimension different."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from threadmatch.model.similarity import (
    global_similarity,
    greedy_similarity,
    greedy_similarity_across,
    pair_index,
    region_similarity,
)

GRIDS = ((1, 1), (2, 1), (1, 3))
REGIONS = 6


def _regions(batch: int, channels: int, seed: int) -> Tensor:
    return torch.randn(batch, REGIONS, channels, generator=torch.Generator().manual_seed(seed))


def _scales() -> list[list[int]]:
    return [[0], [1, 2], [3, 4, 5]]


def test_nodes_pair_every_two_regions_of_a_scale_and_no_others() -> None:
    i, j, scale = pair_index(GRIDS)
    expected = [(a, b, s) for s, cells in enumerate(_scales()) for a, b in itertools.product(cells, cells)]
    assert list(zip(i.tolist(), j.tolist(), scale.tolist(), strict=True)) == expected
    assert len(expected) == 1 + 4 + 9


@pytest.mark.parametrize("with_bias", [False, True])
def test_region_similarity_is_equation_4_written_as_loops(with_bias: bool) -> None:
    b, c, d = 2, 5, 4
    query, gallery = _regions(b, c, 0), _regions(b, c, 1)
    projection = torch.randn(d, c, generator=torch.Generator().manual_seed(2))
    bias = torch.randn(d, generator=torch.Generator().manual_seed(3)) if with_bias else None
    actual = region_similarity(query, gallery, projection, grids=GRIDS, bias=bias)
    for n in range(b):
        node = 0
        for cells in _scales():
            for i, j in itertools.product(cells, cells):
                projected = projection @ (query[n, i] - gallery[n, j]) ** 2
                if bias is not None:
                    projected = projected + bias
                torch.testing.assert_close(actual[n, node], projected / projected.norm())
                node += 1
        assert node == actual.shape[1]


def test_identical_regions_give_the_zero_vector() -> None:
    query = _regions(1, 5, 0)
    actual = region_similarity(query, query, torch.ones(4, 5), grids=GRIDS)
    assert torch.equal(actual[0, 0], torch.zeros(4))
    assert torch.isfinite(actual).all()


def test_global_similarity_is_the_cosine() -> None:
    x, y = torch.tensor([[3.0, 4.0, 0.0]]), torch.tensor([[0.0, 4.0, 3.0]])
    torch.testing.assert_close(global_similarity(x, y), torch.tensor([16 / 25]))


def test_greedy_similarity_is_equations_2_and_3_written_as_loops() -> None:
    b, c = 3, 4
    query, gallery = _regions(b, c, 4), _regions(b, c, 5)
    for n in range(b):
        total = 0.0
        for cells in _scales():
            for i in cells:
                similar = [
                    float(query[n, i] @ gallery[n, j] / (query[n, i].norm() * gallery[n, j].norm())) for j in cells
                ]
                best = similar.index(max(similar))  # w_ij = 1 here, 0 elsewhere
                total += similar[best]
        actual = float(greedy_similarity(query, gallery, grids=GRIDS)[n])
        assert actual == pytest.approx(total / REGIONS, abs=1e-6)


def test_greedy_similarity_across_is_greedy_similarity_of_every_pair() -> None:
    b, n, c = 2, 3, 5
    query, gallery = torch.randn(b, 1 + 2 + 4, c), torch.randn(n, 1 + 2 + 4, c)
    grids = ((1, 1), (1, 2), (2, 2))
    actual = greedy_similarity_across(query, gallery, grids=grids)
    for i in range(b):
        for j in range(n):
            expected = greedy_similarity(query[i : i + 1], gallery[j : j + 1], grids=grids)
            torch.testing.assert_close(actual[i, j], expected[0])
