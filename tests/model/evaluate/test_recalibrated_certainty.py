"""A chain's certainty fitted anew: what is told of it is of searches that the fit did not see."""

from __future__ import annotations

import numpy as np
import torch

from tests.conftest import TINY_CONFIG
from threadmatch.model.certainty import VALUES, Certainty
from threadmatch.model.evaluate.calibration import FOLDS
from threadmatch.model.evaluate.certainty_fit import KnownSearch, fit_certainty, how_often_said
from threadmatch.model.evaluate.ranking import JudgedQuery
from threadmatch.model.evaluate.recalibrate import _sure
from threadmatch.model.grnet import GRNet


def _search(rng: np.random.Generator, *, there: bool) -> KnownSearch:
    values, same = rng.normal(size=(5, len(VALUES))), np.zeros(5, bool)
    if there:
        same[0], values[0, 0] = rng.random() < 0.8, values[0, 0] + 3
    presence = rng.normal(0.6 if there else 0.4, 0.15, 5).clip(0, 1)
    return KnownSearch(values, same, presence=presence.astype(np.float32))


def test_how_often_no_match_is_said_is_measured_on_searches_that_the_fit_did_not_see() -> None:
    rng = np.random.default_rng(4)
    searches = [(_search(rng, there=True), _search(rng, there=False)) for _ in range(200)]
    stated = np.full(5, 0.5, np.float32)
    judged = [JudgedQuery(stated, there.same, True, False, False, there, gone) for there, gone in searches]
    with torch.random.fork_rng():
        network = GRNet(TINY_CONFIG)
    zeros = (0.0,) * len(VALUES)
    network.certainty = Certainty(weights=zeros, offset=0.0, low=zeros, high=zeros)
    told = _sure(network, judged, 0.07)["after"]
    held = []
    for fold in range(FOLDS):
        fitted = fit_certainty([s for n, (s, _) in enumerate(searches) if n % FOLDS != fold], wrongly_said=0.07)
        own = searches[fold::FOLDS]
        held.append(how_often_said(fitted, [there for there, _ in own], [gone for _, gone in own]))
    assert np.isclose(told["false_reject"], np.mean([one.present for one in held]))
    assert np.isclose(told["false_reject_right"], np.mean([one.right for one in held]))
    assert np.isclose(told["false_accept"], 1 - np.mean([one.absent for one in held]))
    seen = how_often_said(network.certainty, [there for there, _ in searches], [gone for _, gone in searches])
    rates = told["false_reject"], told["false_reject_right"], told["false_accept"]
    assert not np.allclose(rates, (seen.present, seen.right, 1 - seen.absent))
    assert told["no_match_below"] == network.certainty.presence_below
