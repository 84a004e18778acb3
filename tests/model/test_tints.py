"""Colours of cells, against OpenCV's conversion of the means."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from threadmatch.model.config import GRNetConfig
from threadmatch.model.encoding import FeatureNetwork, feature_kinds
from threadmatch.model.features import CELLS, EMBEDDING, TINTS
from threadmatch.model.grnet import GRNet
from threadmatch.model.tints import tints_of

GRID = (4, 3)


def _photos(count: int = 3) -> np.ndarray:
    rng = np.random.default_rng(0)
    photos = rng.integers(0, 256, (count, 24, 18, 3), dtype=np.uint8)
    photos[0, :12] //= 40  # dark: the linear part of both curves
    return photos


def test_tints_are_l_a_b_of_the_mean_of_each_cell() -> None:
    photos = _photos()
    made = tints_of(torch.from_numpy(photos).permute(0, 3, 1, 2), GRID)
    assert made.shape == (3, 3, 12)
    means = photos.reshape(3, 4, 6, 3, 6, 3).mean((2, 4)).astype(np.float32) / 255
    expected = np.stack([cv2.cvtColor(one, cv2.COLOR_RGB2LAB) for one in means]).reshape(3, 12, 3).transpose(0, 2, 1)
    np.testing.assert_allclose(made.numpy(), expected, atol=0.4)  # OpenCV reads its cube roots off a table


@pytest.mark.parametrize(
    ("colour", "light", "a", "b"),
    [
        ((255, 255, 255), 100, 0, 0),
        ((0, 0, 0), 0, 0, 0),
        ((255, 0, 0), 53.24, 80.09, 67.20),
        ((119, 119, 119), 50.03, 0, 0),
    ],
)
def test_known_colours(colour: tuple[int, int, int], light: float, a: float, b: float) -> None:
    photo = torch.tensor(colour, dtype=torch.uint8)[None, :, None, None].expand(1, 3, 8, 8)
    made = tints_of(photo, (2, 2))
    torch.testing.assert_close(made[0, :, 0], torch.tensor([light, a, b], dtype=torch.float32), atol=0.05, rtol=0)


def test_a_model_that_is_asked_for_them_keeps_them_in_few_bytes() -> None:
    config = GRNetConfig(
        backbone="timm:test_efficientnet", image_px=64, neck_channels=12, features=(EMBEDDING, CELLS, TINTS)
    )
    network = GRNet(config).eval()
    spec = feature_kinds(network)[TINTS].spec(network)
    rows, columns = network.map_grid()
    assert spec.shape == (3, rows * columns)
    assert spec.size_bytes == 3 * rows * columns + 6
    photos = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    made = dict(zip(FeatureNetwork(network).names, FeatureNetwork(network)(torch.from_numpy(photos)), strict=True))
    expected = tints_of(torch.from_numpy(photos).permute(0, 3, 1, 2), (rows, columns))
    torch.testing.assert_close(made[TINTS], expected)
    kept = spec.unpack([spec.pack(one) for one in expected.numpy()])
    np.testing.assert_allclose(kept, expected.numpy(), atol=0.5)  # L* in steps of 100 / 127
