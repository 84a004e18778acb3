"""Which stages of a chain take one turn, and what is read for them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from threadmatch.model.chain import Stage
from threadmatch.model.features import CELLS, REGIONS, TINTS, FeatureSpec
from threadmatch.service.queues.served_model import ServedModel
from threadmatch.service.search.gathering import SMALL_BYTES, in_one_go

NEEDS = {"dense": {CELLS}, "sparse": {CELLS}, "tinted": {CELLS, TINTS}, "grnet": {REGIONS}}
MODEL = cast(
    "ServedModel",
    SimpleNamespace(
        matchers={name: SimpleNamespace(needs=frozenset(needs)) for name, needs in NEEDS.items()},
        features=(
            FeatureSpec(CELLS, (49, 256), "int4"),
            FeatureSpec(REGIONS, (24, 256)),
            FeatureSpec(TINTS, (3, 49), "int8"),
        ),
    ),
)


@pytest.mark.parametrize(
    ("stages", "together", "needs"),
    [
        ([("dense", 200), ("sparse", 16)], 2, {CELLS}),
        ([("dense", 200), ("tinted", 16)], 2, {CELLS, TINTS}),
        ([("dense", 200), ("grnet", 16)], 1, {CELLS}),
        ([("dense", 200), ("tinted", 16), ("grnet", 8)], 2, {CELLS, TINTS}),
        ([("dense", 16), ("tinted", 40)], 1, {CELLS}),
        ([("tinted", 16)], 1, {CELLS, TINTS}),
    ],
)
def test_stages_whose_further_features_are_small_take_one_turn(
    stages: list[tuple[str, int]], together: int, needs: set[str]
) -> None:
    chain = tuple(Stage(matcher, items) for matcher, items in stages)
    assert in_one_go(chain, 200, MODEL) == (chain[:together], frozenset(needs))
    assert FeatureSpec(TINTS, (3, 49), "int8").size_bytes <= SMALL_BYTES
