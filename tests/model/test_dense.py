"""Dense matching and the space of its cells against loops, every dimension another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.conftest import TINY_CONFIG
from threadmatch.model.coded import Coded, floats
from threadmatch.model.config import GRNetConfig
from threadmatch.model.dense import FULL, MOST_CHANNELS, DenseMatcher, dense_similarity, dense_similarity_coded
from threadmatch.model.features import FeatureSpec, FeatureType
from threadmatch.model.grnet import GRNet
from threadmatch.model.inference import Model
from threadmatch.model.matching import as_photo

DENSE = DenseMatcher(lambda: (2, 3))


def _cells(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _unit(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(_cells(*shape, seed=seed), dim=-1)


@pytest.mark.parametrize("photos", [1, 2])
def test_dense_similarity_is_its_equation_written_as_loops(photos: int) -> None:
    b, p, q, k = 2, 3, 5, 7
    query, items = _unit(photos, p, k), _unit(b, q, k, seed=1)
    actual = dense_similarity(query, items)
    for n in range(b):
        own = query[min(n, photos - 1)]
        total = sum(max(float(own[i] @ items[n, j]) for j in range(q)) for i in range(p))
        assert actual[n].item() == pytest.approx(total / p, abs=1e-6)


def test_a_photo_matches_itself_wherever_its_parts_stand() -> None:
    cells = _unit(1, 6, 4)
    assert dense_similarity(cells, cells[:, torch.randperm(6)]).item() == pytest.approx(1.0, abs=1e-6)


def test_each_of_several_photos_has_the_scores_of_itself_alone() -> None:
    photos = [{"cells": _unit(3, 7, seed=n).numpy()} for n in range(3)]
    items = [{"cells": _unit(count, 5, 7, seed=9 + count).numpy()} for count in (4, 0, 300)]
    together = DENSE.score_many(photos, items)
    assert [len(scores) for scores in together] == [4, 0, 300]
    for photo, block, scores in zip(photos, items, together, strict=True):
        [alone] = DENSE.score_many([photo], [block])
        np.testing.assert_allclose(scores, alone, atol=1e-6)


@pytest.mark.parametrize("in_bytes", [True, False])
@pytest.mark.parametrize("dtype", ["int4", "int8"])
def test_whole_numbers_as_a_gallery_keeps_them_are_multiplied_without_loss(dtype: FeatureType, in_bytes: bool) -> None:
    spec = FeatureSpec("cells", (5, 32), dtype)
    items = _unit(300, 5, 32, seed=1).numpy()
    items[7, 2] = 0
    stored = spec.stored([spec.pack(one) for one in items])
    assert isinstance(stored, Coded)
    photo = _unit(3, 32)
    photo[1] *= 1e-3  # each vector has a scale of its own
    photo[2] = 0
    expected = dense_similarity(photo[None], torch.from_numpy(stored.floats()))
    found = dense_similarity_coded(photo, stored, in_bytes=in_bytes)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def test_the_matcher_scores_what_is_coded_as_its_floats_on_every_processor() -> None:
    spec = FeatureSpec("cells", (5, 32), "int4")
    stored = [spec.stored([spec.pack(one) for one in _unit(n, 5, 32, seed=n).numpy()]) for n in (300, 2)]
    photos = [{"cells": _unit(3, 32, seed=n).numpy()} for n in range(2)]
    expected = DENSE.score_many(photos, [{"cells": floats(each)} for each in stored])
    for in_bytes in (None, False):
        found = DenseMatcher(lambda: (2, 3), in_bytes=in_bytes).score_many(photos, [{"cells": each} for each in stored])
        for scores, reference in zip(found, expected, strict=True):
            np.testing.assert_allclose(scores, reference, atol=2e-5)
    assert len(DENSE.score_many(photos[:1], [{"cells": spec.stored([])}])[0]) == 0


def test_the_largest_whole_numbers_of_the_widest_cells_do_not_run_over() -> None:
    scales = np.ones((1, 1), np.float32)
    lowest = Coded(np.full((1, 1, MOST_CHANNELS), -FULL, np.int8), scales)
    photo = torch.full((1, MOST_CHANNELS), 1 - 1 / (2.001 * FULL))
    photo[0, 0] = 1.0
    expected = -FULL * float(photo.sum())
    assert dense_similarity_coded(photo, lowest, in_bytes=True).item() == pytest.approx(expected, rel=1e-4)
    wide = Coded(np.ones((1, 1, MOST_CHANNELS + 2), np.int8), scales)
    [scores] = DENSE.score_many([{"cells": np.ones((1, MOST_CHANNELS + 2), np.float32)}], [{"cells": wide}])
    assert scores.tolist() == [MOST_CHANNELS + 2]


def test_what_is_coded_is_cut_as_an_array_is_and_is_one_for_numpy() -> None:
    spec = FeatureSpec("cells", (5, 4), "int4")
    stored = spec.stored([spec.pack(one) for one in _unit(6, 5, 4).numpy()])
    assert isinstance(stored, Coded)
    assert (len(stored), stored.shape) == (6, (6, 5, 4))
    for places in (slice(1, 3), [4, 0], np.array([5, 5])):
        np.testing.assert_array_equal(stored[places].floats(), stored.floats()[places])
    np.testing.assert_array_equal(np.asarray(stored, np.float32), stored.floats())
    np.testing.assert_array_equal(as_photo({"cells": stored}, 2)["cells"], stored.floats()[2])


def test_what_all_cells_contribute_is_the_score_and_the_map_shows_it_written_as_loops() -> None:
    query, items = _unit(6, 5, seed=1), _unit(3, 6, 5, seed=2)
    photo, shown = {"cells": query.numpy()}, {"cells": items.numpy()}
    [scores] = DENSE.score_many([photo], [shown])
    of_photo, of_item = DENSE.heat(photo, shown)
    assert of_photo.shape == of_item.shape == (3, 2, 3)
    for n, told in enumerate(DENSE.evidence(photo, shown, top=6)):
        assert sum(one.contribution for one in told.after) == pytest.approx(scores[n], abs=1e-6)
        best = [max((float(query[i] @ items[n, j]), j) for j in range(6)) for i in range(6)]
        least = min(cosine for cosine, _ in best)
        for one in told.after:
            cosine, partner = best[one.query_region]
            assert (one.scale, one.item_region) == ("2x3", partner)
            assert one.contribution == pytest.approx(cosine / 6, abs=1e-6)
            assert of_photo[n].flat[one.query_region] == pytest.approx((cosine - least) / 6, abs=1e-6)
            assert of_item[n].flat[partner] >= of_photo[n].flat[one.query_region] - 1e-6
    assert DENSE.evidence(photo, {"cells": np.empty((0, 6, 5), np.float32)}) == []
    assert DENSE.region_boxes().shape == (6, 4)


def test_a_model_with_cells_keeps_its_whole_map_as_unit_vectors() -> None:
    config = {**TINY_CONFIG.to_dict(), "features": ("embedding", "regions", "cells")}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Model(GRNet(GRNetConfig.from_dict(config)))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    made = model.encode(pixels)["cells"]
    rows, columns = model.map_grid
    assert made.shape == (2, rows * columns, 24) == (2, *model.feature("cells").shape)
    np.testing.assert_allclose(np.linalg.norm(made, axis=-1), 1, atol=1e-5)
    scales = model.with_scales(("1x1", f"{rows}x{columns}"))
    behind_the_neck = torch.from_numpy(scales.encode(pixels)["regions"][:, 1:])
    torch.testing.assert_close(torch.from_numpy(made), F.normalize(behind_the_neck, dim=-1), atol=1e-4, rtol=1e-3)
    [scores] = model.matchers["dense"].score_many([{"cells": made[1]}], [{"cells": made}])
    assert scores[1] == pytest.approx(1, abs=1e-5)
