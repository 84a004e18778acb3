"""Equations 5, 6 and 8 written as loops; which edges Table 5's ablations keep."""

from __future__ import annotations

import math

import torch

from threadmatch.model.reasoning import edge_mask, edge_weights, propagate

B, N, D, C = 2, 5, 4, 3


def _draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_edge_weights_are_equation_5_written_as_loops() -> None:
    nodes, t_out, t_in = _draw(B, N, D, seed=0), _draw(D, D, seed=1), _draw(D, D, seed=2)
    actual = edge_weights(nodes, t_out, t_in)
    for n in range(B):
        for a in range(N):
            raw = [math.exp(float((t_out @ nodes[n, a]) @ (t_in @ nodes[n, b]))) for b in range(N)]
            for b in range(N):
                torch.testing.assert_close(actual[n, a, b], torch.tensor(raw[b] / sum(raw)))


def test_a_masked_edge_weighs_nothing_and_the_rest_sum_to_one() -> None:
    mask = edge_mask(torch.tensor([0, 1, 1, 2, 2]), intra=False, inter=True)
    weights = edge_weights(_draw(B, N, D, seed=0), _draw(D, D, seed=1), _draw(D, D, seed=2), mask)
    assert (weights[:, ~mask] == 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(B, N))


def test_propagation_is_equations_6_and_8_written_as_loops() -> None:
    nodes, edges, w = _draw(B, N, D, seed=0), _draw(B, N, N, seed=1).softmax(-1), _draw(C, D, seed=2)
    actual = propagate(nodes, edges, w)
    for n in range(B):
        for a in range(N):
            message = torch.zeros(D)
            for b in range(N):
                message = message + edges[n, a, b] * nodes[n, b]
            torch.testing.assert_close(actual[n, a], (w @ message).clamp(min=0))


def test_the_mask_keeps_what_the_ablation_says() -> None:
    scale = torch.tensor([0, 1, 1, 2])
    for intra in (False, True):
        for inter in (False, True):
            mask = edge_mask(scale, intra=intra, inter=inter)
            for a in range(4):
                for b in range(4):
                    same = scale[a] == scale[b]
                    expected = a == 0 or a == b or (bool(same) and intra) or (not bool(same) and inter)
                    assert bool(mask[a, b]) == expected, (intra, inter, a, b)
