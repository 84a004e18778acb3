"""The dense kernel, in Triton's interpreter, gives torch's scores from every form in which a gallery keeps cells."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from threadmatch.model.coded import Coded, Stored, floats
from threadmatch.model.dense import DenseMatcher, dense_similarity
from threadmatch.model.errors import CompileError
from threadmatch.model.features import FeatureSpec, FeatureType
from threadmatch.model.gpu.dense_engine import DenseEngine
from threadmatch.model.gpu.head_packing import Precision

P, Q, K = 5, 19, 132
"""None is a power of two, and K is more than one tile, in nibbles too."""


def _unit(*shape: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def _stored(count: int, dtype: FeatureType) -> Stored:
    spec = FeatureSpec("cells", (Q, K), dtype)
    items = _unit(count, Q, K, seed=count).numpy()
    if count:
        items[0, 3] = 0
    return spec.stored([spec.pack(one) for one in items])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("dtype", ["int4", "int8", "float16", "float32"])
def test_each_form_of_cells_gives_torchs_scores(dtype: FeatureType, precision: Precision) -> None:
    """In two bfloat16 a number of the photo loses 2^-17 of itself; a mean cosine of 5 cells, less than 1e-5."""
    photos, items = [_unit(P, K, seed=n) for n in range(3)], [_stored(count, dtype) for count in (3, 0, 1)]
    found = DenseEngine(device="cpu", precision=precision).score_many(photos, items)
    assert [len(scores) for scores in found] == [3, 0, 1]
    for photo, each, scores in zip(photos, items, found, strict=True):
        if not len(each):
            continue
        expected = dense_similarity(photo[None], torch.from_numpy(floats(each).astype(np.float32)))
        torch.testing.assert_close(scores, expected, rtol=0, atol=1e-6 if precision == "float32" else 1e-5)


def test_forms_that_differ_meet_in_one_that_all_have() -> None:
    photos = [_unit(P, K, seed=n) for n in range(2)]
    nibbles, whole = _stored(2, "int4"), _stored(3, "int8")
    assert isinstance(nibbles, Coded)
    assert nibbles.nibbles is not None
    engine = DenseEngine(device="cpu")
    for other in (whole, floats(whole)):
        for photo, each, scores in zip(
            photos, (nibbles, other), engine.score_many(photos, [nibbles, other]), strict=True
        ):
            expected = dense_similarity(photo[None], torch.from_numpy(floats(each)))
            torch.testing.assert_close(scores, expected, rtol=0, atol=1e-5)


def test_the_matcher_scores_by_the_engine_that_it_is_given() -> None:
    photos = [{"cells": _unit(P, K, seed=n).numpy()} for n in range(2)]
    items = [{"cells": _stored(count, "int4")} for count in (3, 2)]
    plain, kernel = DenseMatcher(lambda: (1, P)), DenseMatcher(lambda: (1, P), engine=DenseEngine(device="cpu"))
    for one, other in zip(plain.score_many(photos, items), kernel.score_many(photos, items), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_more_cells_than_a_program_holds_are_refused() -> None:
    items = np.zeros((1, 129, 4), np.float32)
    with pytest.raises(CompileError, match="129 cells are more than the 128"):
        DenseEngine(device="cpu").score_many([_unit(P, 4, seed=0)], [items])
