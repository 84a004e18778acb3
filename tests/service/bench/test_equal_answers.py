"""Two ways to compute are compared match by match."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.conftest import TINY_CONFIG
from tests.support.serving import build_gallery, photo
from threadmatch.model.checkpoint import save_checkpoint
from threadmatch.model.config import GRNetConfig
from threadmatch.model.grnet import GRNet
from threadmatch.model.inference import load_model
from threadmatch.service.bench.equal_answers import SEARCHES, Equal, compare, match_ms, measure


def test_what_changes_places_tells_how_far_apart_it_stood() -> None:
    one = [[("a", 3.0), ("b", 2.0), ("c", 1.5)], [("a", 1.0)]]
    assert compare(one, one) == Equal(2, 2, 2, 0.0, 0.0)
    other = [[("a", 3.25), ("c", 1.75), ("d", 1.0)], [("b", 1.0)]]
    assert compare(one, other) == Equal(2, 1, 0, 0.5, 0.25)


def test_torch_the_engine_and_whole_numbers_answer_alike(tmp_path: Path) -> None:
    config = GRNetConfig.from_dict({**TINY_CONFIG.to_dict(), "features": ("embedding", "regions", "cells")})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_checkpoint(GRNet(config), tmp_path / "tiny")
    folder = build_gallery(tmp_path / "work", load_model(tmp_path / "tiny", device="cpu"), ["a", "b", "c", "d"])
    photos = []
    for number in range(3):
        photos.append(tmp_path / f"{number}.jpg")
        photos[-1].write_bytes(photo(number + 1))
    found = measure(folder, photos, model=str(tmp_path / "tiny"))
    assert list(found) == ["openvino, floats", "openvino, whole numbers"]
    for by_search in found.values():
        assert list(by_search) == list(SEARCHES)
        for one in by_search.values():
            assert one.photos == one.first_equal == 3
            assert one.apart_at_most == pytest.approx(0, abs=1e-3)
            assert 0 <= one.scores_apart_at_most < 1e-2
    for taken in match_ms(folder, rounds=3).values():
        assert 0 < taken["best"] <= taken["median"]
