"""Each loss against its sentence in METHODS, written as loops."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from threadmatch.model.errors import DataError
from threadmatch.model.train.attributes.attribute_losses import (
    LEAST_LOG_VARIANCE,
    Weighing,
    attribute_loss,
    shared_triplet_loss,
    triplet_loss,
    value_loss,
)
from threadmatch.model.train.attributes.triplets import TripletSampler

RNG = torch.Generator().manual_seed(4)


def units(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=RNG), dim=-1)


def test_the_triplet_loss_is_a_hinge_of_two_cosines() -> None:
    anchor, positive, negative = units(3, 6, 5)
    hinges = [max(0.0, (a @ n - a @ p + 0.2).item()) for a, p, n in zip(anchor, positive, negative, strict=True)]
    assert 0 < sum(h > 0 for h in hinges) < 6  # both sides of the hinge are there
    assert triplet_loss(anchor, positive, negative).item() == pytest.approx(sum(hinges) / 6, rel=1e-5)


def test_the_shared_loss_takes_every_triplet_of_known_values_and_averages_those_that_push() -> None:
    embeddings = units(6, 2, 4)
    marks = [
        torch.tensor([[1, 0], [1, 0], [0, 1], [0, 1], [0, 0], [1, 1]], dtype=torch.bool),  # 4 unknown, 5 is both
        torch.tensor([[1], [1], [1], [0], [0], [0]], dtype=torch.bool),  # nobody is known to differ: no triplet
    ]
    pushed = []
    for a, p, n in itertools.permutations(range(6), 3):
        own = marks[0]
        if (own[a] & own[p]).any() and own[n].any() and not (own[a] & own[n]).any():
            pushed.append((embeddings[a, 0] @ embeddings[n, 0] - embeddings[a, 0] @ embeddings[p, 0] + 0.2).item())
    wanted = [hinge for hinge in pushed if hinge > 0]
    assert 0 < len(wanted) < len(pushed)
    assert shared_triplet_loss(embeddings, marks).item() == pytest.approx(sum(wanted) / len(wanted), rel=1e-5)


def test_a_step_without_any_triplet_or_value_costs_nothing_and_still_has_a_gradient() -> None:
    embeddings = units(3, 1, 4).requires_grad_()
    unknown = [torch.zeros(3, 2, dtype=torch.bool)]
    total = shared_triplet_loss(embeddings, unknown) + value_loss(embeddings, [units(2, 4)], unknown, scale=3.0)
    total.backward()  # type: ignore[no-untyped-call]
    assert total.item() == 0.0
    assert embeddings.grad is not None


def test_the_attribute_loss_is_binary_cross_entropy_of_having_the_attribute() -> None:
    logits, has = torch.randn(3, 2, generator=RNG), torch.tensor([[1, 0], [0, 0], [1, 1]], dtype=torch.bool)
    total = 0.0
    for b, a in itertools.product(range(3), range(2)):
        likely = 1 / (1 + math.exp(-logits[b, a].item()))
        total -= math.log(likely if has[b, a] else 1 - likely)
    assert attribute_loss(logits, has).item() == pytest.approx(total / 6, rel=1e-5)


def test_the_value_loss_is_cross_entropy_of_cosines_where_values_are_known_shared_by_those_of_a_photo() -> None:
    embeddings, scale = units(3, 2, 4), 5.0
    directions = [2 * units(3, 4), units(2, 4)]
    marks = [
        torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 0]], dtype=torch.bool),
        torch.zeros(3, 2, dtype=torch.bool),
    ]
    total = 0.0
    for b in range(2):
        cosines = [(embeddings[b, 0] @ w / w.norm()).item() for w in directions[0]]
        norm = sum(math.exp(scale * c) for c in cosines)
        own = [v for v in range(3) if marks[0][b, v]]
        total -= sum(math.log(math.exp(scale * cosines[v]) / norm) for v in own) / len(own)
    assert value_loss(embeddings, directions, marks, scale=scale).item() == pytest.approx(total / 2, rel=1e-5)


def test_fixed_weights_are_a_weighted_sum() -> None:
    losses = {"triplet": torch.tensor(0.5), "attribute": torch.tensor(2.0)}
    assert Weighing({"triplet": 1.0, "attribute": 0.25})(losses).item() == pytest.approx(1.0)


def test_learned_weights_settle_where_the_variance_is_the_loss_and_stay_finite_for_a_loss_of_nothing() -> None:
    weighing = Weighing({"triplet": 1.0, "value": 1.0}, learned=True)
    optimiser = torch.optim.SGD(weighing.parameters(), lr=0.3)
    for _ in range(200):
        optimiser.zero_grad()
        weighing({"triplet": torch.tensor(0.5), "value": torch.tensor(0.0)}).backward()
        optimiser.step()
    found = {name: value.item() for name, value in weighing.log_variance.items()}
    assert found["triplet"] == pytest.approx(math.log(0.5), abs=1e-3)  # where exp(-s) L + s is least
    assert found["value"] >= LEAST_LOG_VARIANCE - 0.3  # the last step below it is where it stops


def test_triplets_are_drawn_by_attribute_then_by_value_then_by_photo() -> None:
    rare = np.zeros((40, 2), np.bool_)
    rare[:2, 0] = rare[2:, 1] = True  # two photos of one value, 38 of the other
    lonely = np.zeros((40, 2), np.bool_)
    lonely[0, 0] = lonely[1:20, 1] = True  # a value of one photo cannot be drawn; 20 and later are unknown
    sampler = TripletSampler([rare, np.zeros((40, 1), np.bool_), lonely], ["rare", "unknown", "lonely"])
    assert sampler.attributes == [0, 2]
    drawn = sampler.draw(2000, np.random.default_rng(0))
    of_rare = drawn.photos[drawn.attributes == 0]
    assert 0.45 < (drawn.attributes == 0).mean() < 0.55
    assert 0.45 < (of_rare[:, 0] < 2).mean() < 0.55, "values alike, however many photos have them"
    for attribute, (anchor, positive, negative) in zip(drawn.attributes, drawn.photos, strict=True):
        own = rare if attribute == 0 else lonely
        assert anchor != positive
        assert (own[anchor] & own[positive]).any()
        assert own[negative].any()
        assert not (own[anchor] & own[negative]).any()


def test_photos_that_all_share_their_values_teach_nothing() -> None:
    with pytest.raises(DataError, match="none of fit has a value that two photos share and another has not"):
        TripletSampler([np.ones((5, 1), np.bool_)], ["fit"])
