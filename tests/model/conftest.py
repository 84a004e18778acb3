"""Two small sets of pictures, and a small backbone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.model.striped import draw_set
from tests.model.train.maps import CONFIG
from tests.support.threads import one_thread
from threadmatch.model.backbone import Backbone, build_backbone


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def photo_sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two small sets, train and val."""
    root = tmp_path_factory.mktemp("sets")
    draw_set(root / "train", range(16))
    draw_set(root / "val", range(50, 66))
    return root


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    """A small one at random weights, frozen."""
    torch.manual_seed(0)
    return build_backbone(CONFIG.backbone).eval()
