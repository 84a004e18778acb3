"""Probabilities mean what they say, in galleries of other sizes too, and "no match" errs as often as stated."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from threadmatch.model.config import Calibration, GRNetConfig
from threadmatch.model.data.sides import Sides
from threadmatch.model.errors import ConfigError, DataError
from threadmatch.model.evaluate.calibration import (
    BINS,
    ScoredQueries,
    calibrate,
    expected_calibration_error,
    fit_calibration,
    held_out_error,
    no_match_rates,
    reliability,
)
from threadmatch.model.grnet import GRNet
from threadmatch.model.inference import calibrated
from threadmatch.model.train.inputs.feature_sets import FeatureSet
from threadmatch.model.train.phases.calibration_scores import calibrate_network

RIGHT_MEAN, SPREAD = 3.0, 1.2


def _queries(count: int, *, items: int, seed: int, candidates: int = 200) -> ScoredQueries:
    """Right matches score around RIGHT_MEAN, each of the other items around zero, independently."""
    rng = np.random.default_rng(seed)
    scores, same = [], []
    for _ in range(count):
        own = rng.normal(0, SPREAD, items).astype(np.float32)
        own[0] = rng.normal(RIGHT_MEAN, SPREAD)
        order = np.argsort(-(own + rng.normal(0, 0.5, items)), kind="stable")[: candidates + 1]
        scores.append(own[order])
        same.append(order == 0)
    return ScoredQueries(scores, same, [f"p{n}" for n in range(count)], items, candidates)


def test_the_calibration_error_and_the_bins_are_the_sums_written_as_loops() -> None:
    rng = np.random.default_rng(0)
    probability = np.append(rng.random(500), [0.0, 1.0]).astype(np.float32)
    same = rng.random(502) < probability**2
    error, rows = 0.0, []
    for b in range(BINS):
        inside = [n for n, p in enumerate(probability) if min(int(p * BINS), BINS - 1) == b]
        stated = sum(float(probability[n]) for n in inside) / len(inside)
        found = sum(bool(same[n]) for n in inside) / len(inside)
        error += len(inside) / len(probability) * abs(stated - found)
        rows.append((len(inside), stated, found))
    assert expected_calibration_error(probability, same) == pytest.approx(error, rel=1e-5)
    for part, (count, stated, found) in zip(reliability(probability, same), rows, strict=True):
        assert part["matches"] == count
        assert (part["stated"], part["found"]) == (pytest.approx(stated, rel=1e-4), pytest.approx(found))


def test_a_probability_holds_on_queries_it_was_not_fitted_on() -> None:
    found = calibrate(_queries(600, items=300, seed=0))
    scores, same = _queries(600, items=300, seed=1).first_pages()
    assert expected_calibration_error(calibrated(found, scores), same) < 0.02
    assert held_out_error(_queries(600, items=300, seed=0)) < 0.02


def test_in_a_gallery_eight_times_as_large_the_size_correction_keeps_it_honest() -> None:
    found = calibrate(_queries(600, items=300, seed=0))
    assert -1.4 < found.size_slope < -0.6, "competitors spread evenly: the odds fall as the gallery grows"
    scores, same = _queries(400, items=2400, seed=2).first_pages()
    plain = expected_calibration_error(calibrated(found, scores), same)
    sized = expected_calibration_error(calibrated(found, scores, items=2400), same)
    assert sized < plain / 2


def test_no_match_errs_on_new_queries_as_often_as_the_calibration_says() -> None:
    found = calibrate(_queries(800, items=300, seed=0))
    assert found.false_accept is not None
    assert found.false_reject is not None
    fresh = no_match_rates(found, _queries(800, items=300, seed=1), items=300)
    assert fresh.false_accept == pytest.approx(found.false_accept, abs=0.05)
    assert fresh.false_reject == pytest.approx(found.false_reject, abs=0.05)
    assert found.false_accept + found.false_reject < 0.8, "better than always or never saying it"


def test_the_threshold_is_the_best_of_all_by_trying_each() -> None:
    queries = _queries(150, items=60, seed=3)
    found = calibrate(queries)
    best = min(
        sum(
            (lambda rates: (rates.false_accept, rates.false_reject))(
                no_match_rates(Calibration(**{**found.to_dict(), "no_match_below": t / 500}), queries, items=None)
            )
        )
        for t in range(501)
    )
    own = no_match_rates(found, queries, items=None)
    assert own.false_accept + own.false_reject <= best + 1e-9


def test_a_bound_on_false_rejects_is_kept_and_costs_false_accepts() -> None:
    queries = _queries(500, items=300, seed=0)
    balanced, careful = calibrate(queries), calibrate(queries, max_false_reject=0.02)
    rates = no_match_rates(careful, queries, items=None)
    assert rates.false_reject <= 0.02
    assert rates.false_accept > no_match_rates(balanced, queries, items=None).false_accept


def test_taking_the_product_out_brings_the_next_item_in() -> None:
    scores = [np.asarray([5.0, 1.0, 2.0], np.float32)]
    queries = ScoredQueries(scores, [np.asarray([True, False, False])], ["p"], 3, candidates=2)
    present, absent = queries.best_scores()
    assert present.tolist() == [5.0]
    assert absent.tolist() == [2.0], "the third item was no candidate while the first was there"


def test_a_query_whose_product_is_nowhere_counts_as_absent_only() -> None:
    nowhere = ScoredQueries([np.asarray([4.0], np.float32)], [np.asarray([False])], ["p"], 1, candidates=1)
    rates = no_match_rates(Calibration(no_match_below=0.5), nowhere, items=None)
    assert (rates.present, rates.absent, rates.false_accept) == (0, 1, 1.0)


def test_too_few_pairs_are_refused() -> None:
    with pytest.raises(DataError, match="needs at least"):
        calibrate(_queries(10, items=60, seed=0))


def test_a_calibration_without_new_fields_reads_and_writes_as_before() -> None:
    old = {"scale": 0.5, "offset": -3.0}
    assert Calibration.from_dict(old).to_dict() == old
    assert Calibration.from_dict(old).size_shift(10**6) == 0
    full = Calibration(scale=1.0, offset=0.0, gallery_items=100, size_slope=-0.5, no_match_below=0.3)
    assert Calibration.from_dict(full.to_dict()) == full
    assert full.size_shift(200) == pytest.approx(-0.5 * math.log(2))
    for wrong in ({"scale": math.nan}, {"no_match_below": 2}, {"ofset": 1}, {"scale": "1"}, {"gallery_items": 0}):
        with pytest.raises(ConfigError):
            Calibration.from_dict(wrong)


def test_one_sided_labels_do_not_break_the_fit() -> None:
    scores = np.linspace(-1, 1, 30, dtype=np.float32)
    for same in (np.zeros(30, bool), np.ones(30, bool)):
        found = fit_calibration(scores, same)
        assert math.isfinite(found.scale)
        assert math.isfinite(found.offset)


def test_a_trained_network_is_calibrated_on_features_and_few_pairs_give_the_logistic_alone() -> None:
    config = GRNetConfig(
        backbone="timm:test_efficientnet", neck_channels=12, similarity_channels=14, node_channels=10, blend=("greedy",)
    )
    torch.manual_seed(0)
    network = GRNet(config).eval()
    with torch.no_grad():
        network.head.classifier.weight.zero_()
        assert network.head.blend is not None
        network.head.blend.fill_(20)
    many, few = (_features(products, config.regions) for products in (60, 12))
    found, scored = calibrate_network(network, many)
    assert found.no_match_below is not None
    assert found.gallery_items == 60
    scores, same = scored.first_pages()
    assert same.any()
    assert expected_calibration_error(calibrated(found, scores), same) < 0.1
    n = 7  # one query by hand
    _, regions = network.project(many.gallery.pooled, many.gallery.regions.float())
    _, query = network.project(many.queries.pooled[n : n + 1], many.queries.regions[n : n + 1].float())
    every = network.head(query.expand(60, -1, -1), regions).detach().numpy()
    np.testing.assert_allclose(np.sort(scored.scores[n]), np.sort(every), atol=1e-3)
    assert scored.scores[n][scored.same[n]] == pytest.approx(every[n], abs=1e-3)
    assert calibrate_network(network, few)[0].no_match_below is None


def _features(products: int, regions: int) -> Sides[FeatureSet]:
    rng = np.random.default_rng(0)
    means = rng.normal(0, 1, (products, regions, 256))

    def view() -> FeatureSet:
        seen = torch.from_numpy((means + rng.normal(0, 2, means.shape)).astype(np.float32))
        return FeatureSet(
            torch.nn.functional.normalize(seen.mean(1), dim=1), seen.half(), [f"p{n}" for n in range(products)]
        )

    return Sides(view(), view())
