"""Encoded sets: items as a gallery keeps them are what evaluation compares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.model.train.test_joined_run import _network
from threadmatch.model.coded import Coded
from threadmatch.model.data.encoded import EncodedSet
from threadmatch.model.data.pairs import LabelledImage, read_labelled
from threadmatch.model.evaluate import evaluation
from threadmatch.model.evaluate.evaluation import EvaluationSettings, Rankings, rank_encoded
from threadmatch.model.features import CELLS, EMBEDDING, FeatureSpec
from threadmatch.model.inference import Model
from threadmatch.model.train.joined_run import join_networks

SPECS = (FeatureSpec(EMBEDDING, (6,), "float32", indexed=True), FeatureSpec(CELLS, (4, 8), "int4"))


def _encoded() -> EncodedSet:
    rng = np.random.default_rng(0)
    images = [LabelledImage(Path(f"{n}.jpg"), str(n), f"p{n}", None, "", "") for n in range(5)]
    cells = rng.standard_normal((5, 4, 8)).astype(np.float16)
    return EncodedSet(images, {EMBEDDING: rng.standard_normal((5, 6)).astype(np.float32), CELLS: cells})


def test_what_loses_bits_on_disk_has_lost_them_and_the_rest_stays() -> None:
    encoded = _encoded()
    kept = encoded.as_kept(SPECS)
    assert kept.features[EMBEDDING] is encoded.features[EMBEDDING]
    cells, spec = kept.features[CELLS], SPECS[1]
    assert isinstance(cells, Coded)
    expected = spec.unpack([spec.pack(np.asarray(one)) for one in np.asarray(encoded.features[CELLS])])
    np.testing.assert_array_equal(cells.floats(), expected)
    np.testing.assert_array_equal(kept.photo(3)[CELLS], expected[3])
    some = kept.items(np.array([4, 1]), [CELLS])[CELLS]
    assert isinstance(some, Coded), "matchers multiply the whole numbers, as a search does"
    np.testing.assert_array_equal(some.floats(), expected[[4, 1]])


def test_evaluation_compares_items_as_they_are_kept(photo_sets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = read_labelled(photo_sets / "train" / "gallery.csv")
    joined = join_networks(_network(1), _network(2), photos, stages=(2, 3, 5))
    seen: list[EncodedSet] = []

    def noted(shop: EncodedSet, *rest: Any, **named: Any) -> Rankings:
        seen.append(shop)
        return rank_encoded(shop, *rest, **named)

    monkeypatch.setattr(evaluation, "rank_encoded", noted)
    gallery, queries = (read_labelled(photo_sets / "val" / f"{side}.csv") for side in ("gallery", "queries"))
    rankings = evaluation.rank(
        Model(joined, device="cpu", engine="torch"),
        gallery,
        queries,
        settings=EvaluationSettings(methods=("global", "dense")),
    )
    assert isinstance(seen[0].features[CELLS], Coded)
    assert len(rankings.ranks("dense")) == len(queries)
