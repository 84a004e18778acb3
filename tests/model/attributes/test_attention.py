"""The equations of METHODS' section on the two networks, each written out as loops with every dimension different."""

import itertools
import math

import pytest
import torch

from threadmatch.model.attributes.attention import (
    channel_attention,
    first_masks,
    pooled,
    spatial_attention,
    spatial_gate,
    swish,
)

B, A, D, ROWS, COLUMNS = 2, 3, 5, 4, 7
P = ROWS * COLUMNS


@pytest.fixture
def draw() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_swish_is_a_number_times_its_sigmoid() -> None:
    for value in (-3.0, 0.0, 0.7, 20.0):
        assert swish(torch.tensor(value)).item() == pytest.approx(value / (1 + math.exp(-value)))


def test_spatial_attention_is_a_softmax_over_positions_written_as_loops(draw: torch.Generator) -> None:
    keys, guides = torch.randn(B, D, P, generator=draw), torch.randn(A, D, generator=draw)
    actual = spatial_attention(keys, guides)
    for b, a in itertools.product(range(B), range(A)):
        logits = [sum(guides[a, k] * keys[b, k, p] for k in range(D)) / math.sqrt(D) for p in range(P)]
        total = sum(math.exp(logit) for logit in logits)
        for p in range(P):
            assert actual[b, a, p].item() == pytest.approx(math.exp(logits[p]) / total, rel=1e-4)


def test_the_gate_is_a_convolution_over_mean_and_maximum_of_the_attended_map_written_as_loops(
    draw: torch.Generator,
) -> None:
    attention, values = torch.rand(B, A, P, generator=draw), torch.randn(B, D, P, generator=draw)
    kernel = torch.randn(1, 2, 3, 3, generator=draw)
    actual = spatial_gate(attention, values, kernel, (ROWS, COLUMNS))
    for b, a in itertools.product(range(B), range(A)):
        attended = torch.stack([attention[b, a] * values[b, k] for k in range(D)])  # X1, (D, P)
        seen = torch.stack([attended.mean(0), attended.max(0).values]).view(2, ROWS, COLUMNS)
        for row, column in itertools.product(range(ROWS), range(COLUMNS)):
            total = 0.0
            for c, i, j in itertools.product(range(2), range(3), range(3)):
                y, x = row + i - 1, column + j - 1
                if 0 <= y < ROWS and 0 <= x < COLUMNS:
                    total += kernel[0, c, i, j].item() * seen[c, y, x].item()
            found = actual[b, a, row * COLUMNS + column].item()
            assert found == pytest.approx(1 / (1 + math.exp(-total)), rel=1e-4)


def test_what_is_pooled_is_a_sum_over_positions_written_as_loops(draw: torch.Generator) -> None:
    attention, values = torch.rand(B, A, P, generator=draw), torch.randn(B, D, P, generator=draw)
    actual = pooled(attention, values)
    for b, a, k in itertools.product(range(B), range(A), range(D)):
        wanted = sum((attention[b, a, p] * values[b, k, p]).item() for p in range(P))
        assert actual[b, a, k].item() == pytest.approx(wanted, rel=1e-4, abs=1e-5)


def test_channel_attention_reads_what_was_seen_and_what_guides_side_by_side(draw: torch.Generator) -> None:
    hidden, guide = 4, 6
    v, r = torch.randn(B, A, D, generator=draw), torch.randn(A, guide, generator=draw)
    w1, b1 = torch.randn(hidden, D + guide, generator=draw), torch.randn(hidden, generator=draw)
    w2, b2 = torch.randn(D, hidden, generator=draw), torch.randn(D, generator=draw)
    actual = channel_attention(v, w1[:, :D], r @ w1[:, D:].T + b1, w2, b2)
    for b, a in itertools.product(range(B), range(A)):
        both = torch.cat([v[b, a], r[a]])
        inner = [max(0.0, (w1[k] @ both + b1[k]).item()) for k in range(hidden)]
        for k in range(D):
            total = sum(w2[k, n].item() * inner[n] for n in range(hidden)) + b2[k].item()
            assert actual[b, a, k].item() == pytest.approx(1 / (1 + math.exp(-total)), rel=1e-4)


def test_a_mask_begins_at_one_tenth_with_a_block_of_ones_of_its_own() -> None:
    masks = first_masks(3, 11)  # blocks of 3: two channels belong to nobody
    for attribute, channel in itertools.product(range(3), range(11)):
        own = attribute * 3 <= channel < (attribute + 1) * 3
        assert masks[attribute, channel].item() == pytest.approx(1.0 if own else 0.1)
