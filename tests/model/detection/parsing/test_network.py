from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from threadmatch.model.detection.parsing.kinds import KINDS
from threadmatch.model.detection.parsing.network import STRIDE, Decoder, Encoder, kind_probabilities, lite0_parser

SIDES = (64, 96)


def tiny_encoder() -> Encoder:
    stages = [nn.Conv2d(3, 4, 3, 4, 1), nn.Conv2d(4, 5, 3, 2, 1), nn.Identity(), nn.Conv2d(5, 6, 3, 2, 1)]
    return Encoder(stages, (0, 1, 3), mean=torch.full((3, 1, 1), 100.0), std=torch.full((3, 1, 1), 50.0))


def test_the_encoder_gives_the_maps_of_its_levels_finest_first() -> None:
    maps = tiny_encoder()(torch.zeros(2, 3, *SIDES, dtype=torch.uint8))
    assert [tuple(one.shape[1:]) for one in maps] == [(4, 16, 24), (5, 8, 12), (6, 4, 6)]


def test_the_encoder_scales_pixels() -> None:
    encoder = Encoder([nn.Identity()], (0,), mean=torch.full((3, 1, 1), 100.0), std=torch.full((3, 1, 1), 50.0))
    (scaled,) = encoder(torch.full((1, 3, 2, 2), 200, dtype=torch.uint8))
    torch.testing.assert_close(scaled, torch.full((1, 3, 2, 2), 2.0))


def test_the_decoder_answers_at_the_finest_map() -> None:
    decoder = Decoder((4, 5, 6), (7, 8, 9), kinds=10).eval()
    assert decoder(tiny_encoder()(torch.zeros(2, 3, *SIDES))).shape == (2, 10, 16, 24)


def test_a_closed_gate_shuts_the_deepest_map_out() -> None:
    decoder = Decoder((4, 5, 6), (7, 8, 9), kinds=10).eval()
    nn.init.zeros_(decoder.gate.weight)
    assert decoder.gate.bias is not None
    nn.init.constant_(decoder.gate.bias, -1e4)
    maps = tiny_encoder()(torch.rand(1, 3, *SIDES) * 255)
    other = [*maps[:-1], maps[-1] + 3]
    torch.testing.assert_close(decoder(maps), decoder(other))


@pytest.mark.parametrize("sides", [(64, 96), (96, 64)])
def test_the_shipped_form_answers_at_a_quarter(sides: tuple[int, int]) -> None:
    logits = lite0_parser().eval()(torch.zeros(1, 3, *sides, dtype=torch.uint8))
    assert logits.shape == (1, len(KINDS), sides[0] // STRIDE, sides[1] // STRIDE)


def test_the_shipped_form_is_small_enough_for_its_six_megabytes() -> None:
    assert sum(value.numel() for value in lite0_parser().state_dict().values()) * 2 < 6e6


def test_probabilities_are_the_softmax_over_kinds_written_as_loops() -> None:
    b, k, h, w = 2, 4, 3, 5
    logits = torch.randn(b, k, h, w, generator=torch.Generator().manual_seed(0))
    actual = kind_probabilities(logits)
    for n, y, x in itertools.product(range(b), range(h), range(w)):
        powers = [float(logits[n, c, y, x].exp()) for c in range(k)]
        for c in range(k):
            assert float(actual[n, c, y, x]) == pytest.approx(powers[c] / sum(powers), abs=1e-6)
