"""Fixtures that every room's tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.checkpoint import save_checkpoint
from model.config import GRNetConfig
from model.grnet import GRNet
from model.inference import Model, load_model

TINY_CONFIG = GRNetConfig(
    backbone="timm:test_efficientnet", image_px=64, neck_channels=24, similarity_channels=16, node_channels=8
)


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a real but small GRNet with fixed random weights; encodes in about a millisecond."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_checkpoint(GRNet(TINY_CONFIG), folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tiny_model_folder: Path) -> Model:
    """The same, loaded."""
    return load_model(tiny_model_folder, device="cpu")
