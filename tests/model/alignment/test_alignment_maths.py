"""Aggregation and alignment against loops, every dimension another."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from threadmatch.model.alignment.aggregator import FineGranularAggregator, centres
from threadmatch.model.alignment.config import AlignmentConfig
from threadmatch.model.alignment.part import AlignmentPart, fused_embedding
from threadmatch.model.alignment.token_alignment import EPSILON, TokenAlignment, finer_by_coarser
from threadmatch.model.errors import ConfigError

SMALL = AlignmentConfig(grid=(4, 5), channels=7, embedding_channels=6, slot_channels=8, sides=(1, 2, 3))


def random_part(config: AlignmentConfig = SMALL, seed: int = 0) -> AlignmentPart:
    """With every parameter away from where it begins."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        part = AlignmentPart(config)
        with torch.no_grad():
            for weight in part.parameters():
                weight.add_(0.3 * torch.randn_like(weight))
        part.aggregator.width.data.abs_().add_(0.1)
    return part.eval()


def unit_slots(count: int, config: AlignmentConfig = SMALL, seed: int = 1) -> Tensor:
    made = torch.randn(count, config.slots, config.slot_channels, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(made, dim=-1)


def looped_slots(module: FineGranularAggregator, cells: Tensor) -> tuple[Tensor, Tensor]:
    """A = softmax_p(F U + b), Z = LN(A F)(I + W) of unit length, written out."""
    config = module.config
    places = centres(config.grid)
    slots = torch.zeros(len(cells), config.slots, config.slot_channels)
    looks = torch.zeros(len(cells), config.slots, config.positions)
    for n, (level, (start, end)) in itertools.product(range(len(cells)), enumerate(config.spans)):
        for k in range(start, end):
            logits = []
            for p in range(config.positions):
                apart = ((places[p] - module.centre[k]) ** 2).sum()
                logits.append(cells[n, p] @ module.look[:, k] - apart / (2 * module.width[k] ** 2))
            weights = torch.stack(logits).exp()
            looks[n, k] = weights / weights.sum()
            pooled = sum(looks[n, k, p] * cells[n, p] for p in range(config.positions))
            assert isinstance(pooled, Tensor)
            normed = (pooled - pooled.mean()) / (pooled.var(unbiased=False) + 1e-5).sqrt()
            turned = normed @ (torch.eye(config.channels, config.slot_channels) + module.departure[level])
            slots[n, k] = turned / turned.norm()
    return slots, looks


def test_slots_are_the_aggregator_s_equations_written_as_loops() -> None:
    part = random_part()
    cells = torch.randn(3, SMALL.positions, SMALL.channels, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        slots, looks = part.aggregator(cells)
        expected = looped_slots(part.aggregator, cells)
    torch.testing.assert_close(slots, expected[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(looks, expected[1], atol=1e-6, rtol=1e-4)


def looped_levels(module: TokenAlignment, x: Tensor, y: Tensor) -> list[float]:
    """e_g of one pair, the item's slots written down as the photo asks them, and the other way round."""
    both: list[list[float]] = []
    for one, other in ((x, y), (y, x)):
        coarser: Tensor | None = None
        found = []
        for level, (start, end) in enumerate(module.config.spans):
            count = end - start
            matrix = torch.eye(module.config.slot_channels) + module.departure[level]
            aligned = torch.zeros(count, count)
            for i in range(count):
                logits = []
                for j in range(count):
                    a, b = one[start + i], other[start + j]
                    product = a @ matrix @ b
                    logit = module.log_scale[level].exp() * product
                    if coarser is not None:
                        belongs = finer_by_coarser(module.config.sides[level], module.config.sides[level - 1])
                        bias = sum(
                            belongs[i, s] * coarser[s, t] * belongs[j, t]
                            for s, t in itertools.product(range(len(coarser)), repeat=2)
                        )
                        assert isinstance(bias, Tensor)
                        logit = logit + module.binding[level] * (bias + EPSILON).log()
                    logits.append(logit)
                aligned[i] = torch.stack(logits).softmax(dim=0)
            terms = []
            for i in range(count):
                asked = torch.stack([aligned[i, j] * other[start + j] for j in range(count)]).sum(dim=0)
                terms.append(float(one[start + i] @ asked / (one[start + i].norm() * asked.norm())))
            found.append(sum(terms) / count)
            coarser = aligned
        both.append(found)
    return [(there + back) / 2 for there, back in zip(*both, strict=True)]


def test_levels_and_score_are_the_alignment_written_as_loops() -> None:
    align = random_part().alignment
    query, items = unit_slots(2), unit_slots(3, seed=5)
    cosine = torch.rand(2, 3)
    with torch.no_grad():
        levels = align.levels(query, items)
        score = align.score(levels, cosine)
        shares = align.shares(query, items)
        for q, n in itertools.product(range(2), range(3)):
            expected = looped_levels(align, query[q], items[n])
            torch.testing.assert_close(levels[:, q, n], torch.tensor(expected), atol=1e-5, rtol=1e-4)
            exponents = align.mixing.exp()
            weighed = sum(exponents[g] * expected[g] for g in range(3)) + exponents[3] * cosine[q, n]
            torch.testing.assert_close(score[q, n], weighed / exponents.sum(), atol=1e-5, rtol=1e-4)
    assert [share.shape for share in shares] == [(2, 3, 1, 1), (2, 3, 4, 4), (2, 3, 9, 9)]


def test_the_score_is_symmetric_and_untrained_a_photo_is_most_like_itself() -> None:
    align, slots = random_part().alignment, unit_slots(5)
    with torch.no_grad():
        levels = align.levels(slots, slots)
    torch.testing.assert_close(levels, levels.transpose(1, 2), atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        fresh = TokenAlignment(SMALL).levels(slots, slots)
    assert (fresh.argmax(dim=2) == torch.arange(5)).all()


def test_the_coarse_level_pulls_the_fine_one_to_where_it_points() -> None:
    """With equal slots the finer logits are flat: what is left of the attention is the coarser level's."""
    align = TokenAlignment(AlignmentConfig(sides=(2, 3), slot_channels=4))
    slots = torch.zeros(1, 13, 4)
    slots[:, :, 0] = 1  # the nine fine slots are all alike
    slots[0, :4] = torch.eye(4)
    turned = slots.clone()
    turned[0, :4] = torch.eye(4)[[3, 2, 1, 0]]  # the coarse parts stand the other way round
    with torch.no_grad():
        align.log_scale[0], align.binding[1] = math.log(40), 1.0
        straight, moved = (align.shares(slots, other)[1][0, 0] for other in (slots, turned))
    assert straight[0].argmax() == 0, "upper left with upper left"
    assert moved[0].argmax() == 8, "upper left with lower right"


@pytest.mark.parametrize(("fine", "coarse"), [(2, 1), (3, 2), (4, 2)])
def test_a_fine_slot_belongs_to_the_coarse_one_that_holds_it(fine: int, coarse: int) -> None:
    belongs = finer_by_coarser(fine, coarse)
    torch.testing.assert_close(belongs.sum(dim=1), torch.ones(fine**2))
    assert belongs[0].argmax() == 0
    assert belongs[-1].argmax() == coarse**2 - 1


def test_without_attention_each_slot_meets_the_one_at_its_place() -> None:
    config = AlignmentConfig(**{**SMALL.to_dict(), "grid": (4, 5), "sides": (1, 2, 3), "alignment": "same_slot"})
    part = random_part(config)
    query, items = unit_slots(2), unit_slots(3, seed=5)
    with torch.no_grad():
        levels = part.alignment.levels(query, items)
    for (g, (start, end)), q, n in itertools.product(enumerate(config.spans), range(2), range(3)):
        expected = sum(float(query[q, k] @ items[n, k]) for k in range(start, end)) / (end - start)
        assert levels[g, q, n].item() == pytest.approx(expected, abs=1e-5)


def test_a_pair_costs_less_than_a_million_operations_and_an_item_three_and_a_half_kilobytes() -> None:
    config = AlignmentConfig()
    part = AlignmentPart(config)
    assert config.slots == 14
    slots = part.specs[0]
    assert (slots.shape, slots.dtype) == ((14, 256), "int8")
    assert slots.size_bytes == 14 * (256 + 2) < 3.6 * 1024
    photo, counted = unit_slots(1, config), []
    for items in (unit_slots(10, config), unit_slots(110, config)):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            part.alignment.score(part.alignment.levels(photo, items), torch.zeros(1, len(items)))
        counted.append(counter.get_total_flops())
    a_pair = (counted[1] - counted[0]) / 100
    assert 100_000 < a_pair < 1_000_000


def test_the_one_vector_is_the_global_one_and_the_mean_slots_of_the_finer_levels() -> None:
    embedding, slots = torch.nn.functional.normalize(torch.randn(2, 6), dim=-1), unit_slots(2)
    fused = fused_embedding(embedding, slots, SMALL.spans)
    assert fused.shape == (2, 6 + 2 * 8)
    for n in range(2):
        parts = [embedding[n]] + [slots[n, start:end].mean(dim=0) for start, end in SMALL.spans[1:]]
        expected = torch.cat([part / part.norm() for part in parts]) / math.sqrt(3)
        torch.testing.assert_close(fused[n], expected)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sides": [2, 1]}, "rising numbers"),
        ({"sides": [1, 9]}, "of 1 to 7"),
        ({"sides": []}, "rising numbers"),
        ({"aggregation": "mean"}, "aggregation is 'mean'"),
        ({"alignment": "x"}, "alignment 'x'"),
        ({"channels": 0}, "at least 1"),
        ({"depth": 3}, "depth"),
    ],
)
def test_settings_that_cannot_be_built_are_refused(changes: dict[str, object], said: str) -> None:
    values = {**AlignmentConfig().to_dict(), **changes}
    with pytest.raises(ConfigError, match=said):
        AlignmentConfig.from_dict(values)
    assert AlignmentConfig.from_dict(AlignmentConfig().to_dict()) == AlignmentConfig()
