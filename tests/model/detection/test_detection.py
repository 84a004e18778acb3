"""Detectors: what stands out without weights, and a torchvision network's weights read from a folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from torchvision.models import get_model

from threadmatch.model.detection.proposals import GrabCutDetector
from threadmatch.model.detection.torchvision_weights import TorchvisionDetector, load_detector
from threadmatch.model.errors import CheckpointError
from threadmatch.model.evaluate.garments_found import box_iou
from threadmatch.model.images import Box

ARCHITECTURE = "ssdlite320_mobilenet_v3_large"


def scene(box: tuple[int, int, int, int], size: tuple[int, int] = (300, 400)) -> NDArray[np.uint8]:
    """A red garment before a noisy grey-green wall."""
    noise = np.random.default_rng(0).integers(-25, 25, (size[1], size[0], 1))
    image = Image.fromarray((np.array((120, 140, 120)) + noise).astype(np.uint8))
    ImageDraw.Draw(image).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=(190, 30, 40))
    return np.asarray(image)


@pytest.mark.parametrize("edges", [(90, 100, 210, 300), (60, 150, 190, 340), (110, 60, 260, 260)])
def test_what_stands_out_is_found(edges: tuple[int, int, int, int]) -> None:
    photo = scene(edges)
    (found,) = GrabCutDetector().detect(photo)
    x0, y0, x1, y1 = edges
    assert box_iou(found.box, Box(x0 / 300, y0 / 400, x1 / 300, y1 / 400)) > 0.8
    assert 0.8 < found.score <= 1
    assert found.label is None
    assert GrabCutDetector().detect(photo) == [found], "the same photo gives the same box"


@pytest.mark.parametrize(
    "photo",
    [
        np.full((50, 40, 3), 128, np.uint8),
        np.zeros((1, 1, 3), np.uint8),
        np.full((3, 900, 3), 255, np.uint8),
        np.random.default_rng(1).integers(0, 256, (900, 3, 3), dtype=np.uint8),
    ],
)
def test_odd_photos_give_boxes_inside_or_none(photo: NDArray[np.uint8]) -> None:
    for proposal in GrabCutDetector().detect(photo):
        assert 0 <= proposal.box.x0 < proposal.box.x1 <= 1
        assert 0 <= proposal.box.y0 < proposal.box.y1 <= 1
        assert 0 <= proposal.score <= 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real network with random weights."""
    made = tmp_path_factory.mktemp("detector")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = get_model(ARCHITECTURE, weights=None, weights_backbone=None, num_classes=4)
    save_file(network.state_dict(), made / "model.safetensors")
    describe(made)
    return made


def describe(folder: Path, **changes: object) -> None:
    told = {"architecture": ARCHITECTURE, "labels": ["top", "skirt", "coat"], "least_score": 0.0, **changes}
    (folder / "detector.json").write_text(json.dumps(told))


def test_a_network_from_a_folder_proposes_labelled_boxes(folder: Path) -> None:
    detector = load_detector(folder, device="cpu")
    assert isinstance(detector, TorchvisionDetector)
    assert detector.on_model_thread
    found = detector.detect(scene((90, 100, 210, 300)))
    assert 0 < len(found) <= 20
    scores = [proposal.score for proposal in found]
    assert scores == sorted(scores, reverse=True)
    for proposal in found:
        assert proposal.label in ("top", "skirt", "coat")
        assert 0 <= proposal.box.x0 < proposal.box.x1 <= 1
        assert 0 <= proposal.box.y0 < proposal.box.y1 <= 1


def test_without_a_folder_nothing_is_read() -> None:
    assert isinstance(load_detector(""), GrabCutDetector)


def test_a_folder_that_cannot_be_used_says_why(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"detector\.json"):
        load_detector(tmp_path)
    describe(tmp_path, architecture="os.system")
    with pytest.raises(CheckpointError, match="expected one of"):
        load_detector(tmp_path)
    describe(tmp_path, labels=["top"])
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="does not fit"):
        load_detector(tmp_path)
    describe(tmp_path, labels=[])
    with pytest.raises(CheckpointError, match="labels"):
        load_detector(tmp_path)
