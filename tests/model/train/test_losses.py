"""Every loss of training is its formula written as loops; and what a setting weighs is what is brought down."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from threadmatch.model.train.losses import (
    LOSSES,
    METRIC,
    Aligned,
    Compared,
    Targets,
    Vectors,
    both_ways,
    disagreement,
    losses_of,
    overlap,
    own_item,
    pairs,
    same_or_different,
)
from threadmatch.model.train.phases.alignment_fit import AlignmentSettings
from threadmatch.model.train.phases.end_to_end import EndToEndSettings
from threadmatch.model.train.phases.finetune import FinetuneSettings
from threadmatch.model.train.phases.head import HeadSettings

Q, N, E, C = 3, 5, 7, 4
GRIDS = [(1, 1), (1, 2)]
R, P = 3, 4


@pytest.fixture
def targets() -> Targets:
    """The first query's product is shown by two more items than its match, the second's by none, the third's by one."""
    same = torch.tensor(
        [[1, 0, 1, 0, 1], [0, 0, 0, 1, 0], [0, 1, 1, 0, 0]],
        dtype=torch.bool,
    )
    return Targets(torch.tensor([2, 3, 1]), same)


def _softplus(value: float) -> float:
    return math.log1p(math.exp(value))


def test_own_item_is_a_softmax_over_all_but_other_views_written_as_loops(targets: Targets) -> None:
    torch.manual_seed(0)
    similar, temperature = torch.randn(Q, N, dtype=torch.float64), 0.3
    expected = 0.0
    for q in range(Q):
        own = int(targets.own[q])
        total = 0.0
        for n in range(N):
            if n == own or not targets.same[q, n]:
                total += math.exp(float(similar[q, n]) / temperature)
        expected -= math.log(math.exp(float(similar[q, own]) / temperature) / total) / Q
    assert float(own_item(similar, targets, temperature)) == pytest.approx(expected)


def test_what_other_views_score_moves_nothing(targets: Targets) -> None:
    similar = torch.randn(Q, N)
    other = similar.clone()
    other[0, 0], other[0, 4], other[2, 2] = 50.0, -50.0, 9.0
    assert torch.equal(own_item(similar, targets), own_item(other, targets))
    other[0, 1] = 50.0  # another product
    assert own_item(other, targets) > own_item(similar, targets)


def test_pairs_is_the_weighted_cross_entropy_of_two_answers_written_as_loops(targets: Targets) -> None:
    torch.manual_seed(1)
    score = torch.randn(Q, N)
    expected = 0.0
    for q in range(Q):
        for n in range(N):
            value = float(score[q, n])
            expected += 3.0 * _softplus(-value) if targets.same[q, n] else 0.25 * _softplus(value)
    assert float(pairs(score, targets, match_weight=3.0, other_weight=0.25)) == pytest.approx(expected / (Q * N))


def test_same_or_different_weighs_matches_and_others_alike_written_as_loops(targets: Targets) -> None:
    torch.manual_seed(2)
    heads = 2
    logits = torch.randn(heads, Q * N, 2)
    found: dict[bool, list[float]] = {True: [], False: []}
    for head in range(heads):
        for q in range(Q):
            for n in range(N):
                different, same = (float(one) for one in logits[head, q * N + n])
                right = bool(targets.same[q, n])
                wanted = same if right else different
                found[right].append(math.log(math.exp(different) + math.exp(same)) - wanted)
    expected = sum(sum(one) / len(one) for one in found.values())
    assert float(same_or_different(logits, targets)) == pytest.approx(expected, rel=1e-5)


def _compared(targets: Targets) -> Compared:
    torch.manual_seed(3)

    def side(count: int) -> Vectors:
        return Vectors(
            torch.nn.functional.normalize(torch.randn(count, E), dim=1),
            torch.randn(count, R, C),
            torch.randn(count, P, C),
        )

    return Compared(
        targets=targets, score=torch.randn(Q, N), queries=side(Q), items=side(N), grids=GRIDS, temperature=0.5,
        match_weight=2.0, other_weight=0.5,
    )  # fmt: skip


def test_the_metric_losses_are_of_the_cosine_and_of_greedy_matching_written_as_loops(targets: Targets) -> None:
    step = _compared(targets)
    assert step.queries is not None
    assert step.items is not None
    cosine, local = torch.zeros(Q, N), torch.zeros(Q, N)
    for q in range(Q):
        for n in range(N):
            cosine[q, n] = sum(step.queries.embedding[q, e] * step.items.embedding[n, e] for e in range(E))
            for start, end in ((0, 1), (1, 3)):
                for i in range(start, end):
                    one = step.queries.regions[q, i]
                    others = [step.items.regions[n, j] for j in range(start, end)]
                    local[q, n] += max(float(one @ other / one.norm() / other.norm()) for other in others) / R
    for name, similar in zip(METRIC, (cosine, local), strict=True):
        torch.testing.assert_close(LOSSES[name](step), own_item(similar, targets, 0.5))


def test_the_loss_over_cells_is_of_each_cells_best_partner_written_as_loops(targets: Targets) -> None:
    step = _compared(targets)
    assert step.queries is not None
    assert step.items is not None
    assert step.queries.cells is not None
    assert step.items.cells is not None
    dense = torch.zeros(Q, N)
    for q in range(Q):
        for n in range(N):
            for one in step.queries.cells[q]:
                dense[q, n] += max(float(one @ other / one.norm() / other.norm()) for other in step.items.cells[n]) / P
    torch.testing.assert_close(LOSSES["cells"](step), own_item(dense, targets, 0.5))


def test_both_ways_asks_items_for_their_queries_too_written_as_loops() -> None:
    torch.manual_seed(0)
    similar, t = torch.randn(Q, N, dtype=torch.float64), 0.3
    same = torch.zeros(Q, N, dtype=torch.bool)
    same[range(Q), range(Q)] = True
    same[0, 4] = same[2, 1] = True  # other views: of the first query among the others, of the third in another's place
    there = back = 0.0
    for q in range(Q):
        over_items = [n for n in range(N) if n == q or not same[q, n]]
        over_queries = [r for r in range(Q) if r == q or not same[r, q]]
        own = math.exp(float(similar[q, q]) / t)
        there -= math.log(own / sum(math.exp(float(similar[q, n]) / t) for n in over_items))
        back -= math.log(own / sum(math.exp(float(similar[r, q]) / t) for r in over_queries))
    found = both_ways(similar, Targets(torch.arange(Q), same), t)
    assert float(found) == pytest.approx((there + back) / Q / 2)


def test_overlap_is_the_distance_of_shared_looks_from_none_written_as_loops() -> None:
    attention, spans = torch.rand(2, 5, 6, dtype=torch.float64), [(0, 1), (1, 5)]
    total = 0.0
    for n, (start, end) in itertools.product(range(2), spans):
        for i, j in itertools.product(range(start, end), repeat=2):
            a, b = attention[n, i], attention[n, j]
            total += float(a @ b / (a.norm() * b.norm()) - float(i == j)) ** 2
    assert float(overlap(attention, spans)) == pytest.approx(total / 2 / 2)
    apart = torch.eye(5, 6)[None]
    assert float(overlap(apart, spans)) == pytest.approx(0, abs=1e-6)


def test_disagreement_is_a_divergence_that_moves_the_fast_score_alone_written_as_loops() -> None:
    fast, slow = (torch.randn(Q, N, dtype=torch.float64, requires_grad=True) for _ in range(2))
    expected = 0.0
    for q in range(Q):
        p, taught = (one[q].detach().div(0.5).exp() for one in (slow, fast))
        p, taught = p / p.sum(), taught / taught.sum()
        expected += sum(float(p[n] * (p[n] / taught[n]).log()) for n in range(N)) / Q
    found = disagreement(fast, slow, 0.5)
    assert float(found.detach()) == pytest.approx(expected)
    found.backward()
    assert fast.grad is not None
    assert slow.grad is None
    assert float(disagreement(slow, slow).detach()) == pytest.approx(0, abs=1e-12)


def test_the_losses_of_an_alignment_are_of_its_levels_its_score_and_its_vector() -> None:
    torch.manual_seed(0)
    levels, score, fused, attention = torch.randn(2, Q, N), torch.randn(Q, N), torch.randn(Q, N), torch.rand(4, 5, 6)
    targets, spans = Targets(torch.arange(Q), torch.eye(Q, N).bool()), [(0, 1), (1, 5)]
    step = Compared(targets=targets, aligned=Aligned(levels, score, fused, attention, spans), temperature=0.2)
    expected = {
        "levels": both_ways(levels[0], targets, 0.2) + both_ways(levels[1], targets, 0.2),
        "alignment": both_ways(score, targets, 0.2),
        "fused": both_ways(fused, targets, 0.2),
        "overlap": overlap(attention, spans),
        "disagreement": disagreement(fused, score, 0.2),
    }
    found = losses_of(step, dict.fromkeys(expected, 1.0))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_the_total_is_the_weighted_sum_and_what_weighs_nothing_is_not_computed(targets: Targets) -> None:
    step = _compared(targets)
    weights = {"pair": 0.1, "listwise": 0.0, "embedding": 2.0, "local": 1.0}
    found = losses_of(step, weights)
    assert set(found) == {"pair", "embedding", "local", "total"}
    torch.testing.assert_close(found["pair"], pairs(_score(step), targets, match_weight=2.0, other_weight=0.5))
    expected = sum(weights[name] * float(found[name]) for name in ("pair", "embedding", "local"))
    assert float(found["total"]) == pytest.approx(expected)
    without = Compared(targets=targets, score=step.score)
    assert set(losses_of(without, {"listwise": 1.0, "local": 0.0})) == {"listwise", "total"}
    with pytest.raises(AssertionError, match="hands no vectors on"):
        losses_of(without, {"local": 1.0})


def _score(step: Compared) -> Tensor:
    assert step.score is not None
    return step.score


def test_the_first_item_is_the_match_where_each_query_has_items_of_its_own() -> None:
    score = torch.randn(Q, N)
    listwise = own_item(score, Targets.first(Q, N))
    torch.testing.assert_close(listwise, -(score.log_softmax(dim=1)[:, 0].mean()))
    assert not Targets.first(Q, N).other_views().any()


def test_the_diagonal_is_the_match_where_queries_share_their_items() -> None:
    same = torch.eye(3, dtype=torch.bool)
    same[0, 1] = same[1, 0] = True
    targets = Targets.diagonal(same)
    assert targets.own.tolist() == [0, 1, 2]
    assert targets.other_views().nonzero().tolist() == [[0, 1], [1, 0]]
    assert same.diagonal().all(), "not changed in place"


def test_every_loss_is_weighed_by_a_setting_and_every_weight_is_of_a_loss() -> None:
    whole = EndToEndSettings(pair=2.0, listwise=3.0, metric=4.0).weights
    assert whole == {"pair": 2.0, "listwise": 3.0, "embedding": 4.0, "local": 4.0}
    aligned = AlignmentSettings(levels=2.0, overlap=3.0).weights
    assert (aligned["levels"], aligned["overlap"]) == (2.0, 3.0)
    assert set(whole) | set(FinetuneSettings().weights) | set(aligned) == set(LOSSES)
    for settings in (FinetuneSettings(), HeadSettings()):
        assert set(settings.weights) <= set(LOSSES)
