"""Weights come back as they were, and a wrong folder says what is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from threadmatch.model.checkpoint import fetch_checkpoint, save_checkpoint
from threadmatch.model.config import Calibration, GRNetConfig
from threadmatch.model.descriptions import CONFIG_FILE, WEIGHTS_FILE
from threadmatch.model.errors import CheckpointError
from threadmatch.model.grnet import GRNet, load_checkpoint
from threadmatch.model.inference import Model, load_model


@pytest.fixture
def folder(tiny_model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "copy"))


def test_from_pretrained_and_save_pretrained_are_inverse(folder: Path, tmp_path: Path) -> None:
    first = GRNet.from_pretrained(folder)
    first.save_pretrained(tmp_path / "again")
    second = GRNet.from_pretrained(tmp_path / "again")
    for name, value in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], value, rtol=0, atol=0)
    assert load_model(folder).fingerprint == load_model(tmp_path / "again").fingerprint
    assert not first.training
    modes = {(tmp_path / "again" / name).stat().st_mode for name in (CONFIG_FILE, WEIGHTS_FILE)}
    assert len(modes) == 1, "a service that runs as another user reads both or neither"


def test_shared_step_weights_survive(tmp_path: Path) -> None:
    config = GRNetConfig(
        backbone="timm:test_efficientnet", image_px=64, similarity_channels=8, node_channels=4, steps=4,
        step_weights="shared",
    )  # fmt: skip
    network = GRNet(config)
    save_checkpoint(network, tmp_path / "shared", half=False)
    loaded = load_checkpoint(tmp_path / "shared")
    torch.testing.assert_close(loaded.head.steps[3].w, network.head.steps[1].w)


def test_the_fingerprint_follows_weights_settings_and_calibration(tiny_model_folder: Path) -> None:
    network = load_checkpoint(tiny_model_folder)
    before = Model(load_checkpoint(tiny_model_folder))
    network.calibration = Calibration(scale=2.0)
    calibrated = Model(network)
    assert calibrated.fingerprint != before.fingerprint
    assert calibrated.features_fingerprint == before.features_fingerprint, "a gallery outlives a new calibration"
    changed = load_checkpoint(tiny_model_folder)
    with torch.no_grad():
        changed.neck.weight.add_(1)  # type: ignore[union-attr]
    assert Model(changed).features_fingerprint != before.features_fingerprint


def _drop(name: str) -> Any:
    return lambda folder: (folder / name).unlink()


def _write(name: str, data: bytes) -> Any:
    return lambda folder: (folder / name).write_bytes(data)


def _edit_config(**changes: Any) -> Any:
    def edit(folder: Path) -> None:
        path = folder / CONFIG_FILE
        described = json.loads(path.read_text())
        described["model"].update(changes)
        path.write_text(json.dumps(described))

    return edit


def _swap_weights(folder: Path) -> None:
    tensors = {name: value + 1 for name, value in load_file(folder / WEIGHTS_FILE).items()}
    save_file(tensors, folder / WEIGHTS_FILE)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_drop(CONFIG_FILE), CONFIG_FILE),
        (_drop(WEIGHTS_FILE), "torn"),
        (_write(CONFIG_FILE, b"{"), "not a description"),
        (_write(WEIGHTS_FILE, b"PK\x03\x04 a pickle in a zip"), "safetensors"),
        (_edit_config(backbone="efficientnet_lite9"), "efficientnet_lite9"),
        (_edit_config(step=3), "steps"),
        (_edit_config(node_channels=9), "other shape"),
        (_edit_config(position_code=True), "missing"),
        (_swap_weights, "fingerprint"),
    ],
)
def test_a_damaged_checkpoint_says_what_is_wrong(folder: Path, damage: Any, says: str) -> None:
    damage(folder)
    with pytest.raises(CheckpointError, match=says):
        load_model(folder)


def test_a_model_that_is_nowhere_says_what_was_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match=r"no such folder here.*hub"):
        fetch_checkpoint("nobody/nothing", local_files_only=True, cache_dir=tmp_path)
    with pytest.raises(CheckpointError, match="no such folder"):
        fetch_checkpoint(str(tmp_path / "missing"), local_files_only=True)


def test_an_image_encodes_alike_alone_and_in_a_batch(tiny_model: Model) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    together = tiny_model.encode(pixels)
    for n in range(5):
        alone = tiny_model.encode(pixels[n : n + 1])
        np.testing.assert_allclose(alone["embedding"][0], together["embedding"][n], atol=1e-5)
        np.testing.assert_allclose(alone["regions"][0], together["regions"][n], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together["embedding"], axis=1), 1, atol=1e-5)


def test_pixels_of_another_shape_are_refused(tiny_model: Model) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        tiny_model.encode(np.zeros((1, 32, 64, 3), np.uint8))
