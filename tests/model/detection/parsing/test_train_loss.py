from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from threadmatch.model.train.parser.kind_loss import allowed_kinds, partial_cross_entropy

B, K, H, W = 2, 4, 3, 5


def _case() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(B, K, H, W, generator=generator)
    sets = torch.randint(1, 1 << K, (B, H, W), generator=generator)
    return logits, sets, torch.tensor([0.5, 1.0, 2.0, 3.0])


def test_bits_become_channels() -> None:
    allowed = allowed_kinds(torch.tensor([[[0b0101, 0b1000]]]), K)
    assert allowed[0, :, 0, 0].tolist() == [True, False, True, False]
    assert allowed[0, :, 0, 1].tolist() == [False, False, False, True]


def test_the_loss_is_its_equation_written_as_loops() -> None:
    logits, sets, weights = _case()
    total = weight_sum = 0.0
    for n, y, x in itertools.product(range(B), range(H), range(W)):
        chosen = [k for k in range(K) if int(sets[n, y, x]) >> k & 1]
        if len(chosen) == K:
            continue
        powers = [math.exp(float(logits[n, k, y, x])) for k in range(K)]
        weight = sum(float(weights[k]) for k in chosen) / len(chosen)
        total -= weight * math.log(sum(powers[k] for k in chosen) / sum(powers))
        weight_sum += weight
    assert float(partial_cross_entropy(logits, sets, weights)) == pytest.approx(total / weight_sum, rel=1e-5)


def test_with_one_kind_a_set_it_is_the_weighted_cross_entropy() -> None:
    logits, _, weights = _case()
    kinds = torch.randint(0, K, (B, H, W), generator=torch.Generator().manual_seed(1))
    expected = F.cross_entropy(logits, kinds, weights)
    torch.testing.assert_close(partial_cross_entropy(logits, 1 << kinds, weights), expected)


def test_pixels_of_which_nothing_is_known_teach_nothing() -> None:
    logits, _, weights = _case()
    logits.requires_grad_(True)
    loss = partial_cross_entropy(logits, torch.full((B, H, W), (1 << K) - 1), weights)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()
