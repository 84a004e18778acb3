"""The engines that encode: the same features from each, for every kind of network that ships or is trained."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.checkout import ROOT
from threadmatch.model import encoding
from threadmatch.model.compiling.network import BFLOAT16_ENGINE, has_bfloat16
from threadmatch.model.config import GRNetConfig
from threadmatch.model.detection.parsing.detector import load_parser_detector
from threadmatch.model.encoding import ENGINES, OpenVinoEngine, TorchEngine
from threadmatch.model.errors import CheckpointError
from threadmatch.model.features import CELLS, EMBEDDING, Features
from threadmatch.model.grnet import GRNet
from threadmatch.model.images import load_image
from threadmatch.model.inference import Model, load_model
from threadmatch.service.config import Settings

PHOTOS = sorted((ROOT / "service" / "demo" / "photos" / "clothing" / "images").glob("*.jpg"))
CONFIG = {"image_px": 64, "neck_channels": 24, "similarity_channels": 16, "node_channels": 8}


def check_alike(expected: Features, found: Features) -> None:
    """Each vector within 1e-3 of unit length."""
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        assert found[name].shape == values.shape
        assert found[name].dtype == np.float32
        assert np.linalg.norm(found[name] - values, axis=-1).max() < 1e-3


def test_the_shipped_model_ranks_real_photos_alike_with_each_engine() -> None:
    by_torch, by_openvino = (load_model(device="cpu", engine=engine) for engine in ("torch", "openvino"))
    assert by_torch.features_fingerprint == by_openvino.features_fingerprint
    assert (by_torch.engine, by_openvino.engine) == ("torch", "openvino")
    pixels = np.stack([load_image(path.read_bytes(), image_px=by_torch.image_px)[0].pixels for path in PHOTOS[:24]])
    expected, found = by_torch.encode(pixels), by_openvino.encode(pixels)
    check_alike(expected, found)
    theirs, ours = (each[EMBEDDING] @ each[EMBEDDING].T for each in (expected, found))
    for query in range(len(pixels)):
        order = np.argsort(-theirs[query], kind="stable")
        steps = -np.diff(ours[query][order])  # rising where the two orders differ
        assert (steps > -1e-5).all(), "but for ties"
        by_both = [
            np.argsort(-model.score({n: v[query] for n, v in one.items()}, one), kind="stable")[:5]
            for model, one in ((by_torch, expected), (by_openvino, found))
        ]
        assert by_both[0].tolist() == by_both[1].tolist()


WITH_BFLOAT16 = pytest.mark.skipif(not has_bfloat16(), reason="this processor has no bfloat16")
HERE = [pytest.param(name, marks=[WITH_BFLOAT16] if name == BFLOAT16_ENGINE else []) for name in ENGINES]


@WITH_BFLOAT16
def test_bfloat16_is_the_same_model_to_a_hundredth_and_finds_the_same_garments() -> None:
    exact, coarse = (load_model(device="cpu", engine=engine) for engine in ("openvino", "openvino-bfloat16"))
    assert coarse.engine == "openvino-bfloat16"
    assert coarse.features_fingerprint == exact.features_fingerprint, "galleries of one are the other's"
    pixels = np.stack([load_image(path.read_bytes(), image_px=exact.image_px)[0].pixels for path in PHOTOS[:24]])
    kept, asked = exact.encode(pixels), coarse.encode(pixels)
    for name in (EMBEDDING, CELLS):
        cosines = (kept[name] * asked[name]).sum(axis=-1)
        assert cosines.min() > 0.98, name
        assert cosines.max() < 1 - 1e-6, "it does compute in bfloat16"
    assert (asked[EMBEDDING] @ kept[EMBEDDING].T).argmax(axis=1).tolist() == list(range(len(pixels)))


def test_bfloat16_is_refused_where_the_processor_would_not_compute_in_it(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "has_bfloat16", lambda: False)
    with pytest.raises(CheckpointError, match=r"openvino-bfloat16 cannot run .*this processor has no instructions"):
        load_model(tiny_model_folder, device="cpu", engine="openvino-bfloat16")


NETWORKS = {
    "the tests' small one": {"backbone": "timm:test_efficientnet"},
    "without neck and embedding": {"backbone": "timm:test_efficientnet", "neck_channels": 0, "embedding_channels": 0},
    "another side": {"backbone": "timm:test_efficientnet", "image_px": 96},
    "earlier maps, cells": {
        "backbone": "efficientnet_lite0",
        "hypercolumn": (5, 6),
        "features": ("embedding", "cells"),
        "embedding_channels": 32,
    },
    "torchvision's GoogLeNet": {"backbone": "googlenet"},
    "the paper's GoogLeNet": {"backbone": "googlenet_original"},
    "a residual network": {"backbone": "timm:test_resnet"},
    "layer norm, GELU": {"backbone": "timm:test_convnext"},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_convolutional_backbone_converts(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    network = GRNet(GRNetConfig(**{**CONFIG, **NETWORKS[name]})).eval().requires_grad_(False)  # type: ignore[arg-type]
    side = network.config.image_px
    pixels = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), dtype=np.uint8)
    found = OpenVinoEngine(network, tmp_path).encode(pixels)
    check_alike(TorchEngine(network, "cpu").encode(pixels), found)


@pytest.mark.parametrize("engine", HERE)
def test_some_features_alone_are_what_they_are_beside_the_others(tiny_model_folder: Path, engine: str) -> None:
    model = load_model(tiny_model_folder, device="cpu", engine=engine)
    pixels = np.random.default_rng(0).integers(0, 256, (3, model.image_px, model.image_px, 3), dtype=np.uint8)
    whole = model.encode(pixels)
    names = {EMBEDDING}
    assert names < whole.keys()
    model.make_ready(names)
    alone = model.encode(pixels, names)
    assert alone.keys() == names, "the others are not computed, or not handed out"
    np.testing.assert_array_equal(alone[EMBEDDING], whole[EMBEDDING])
    everything = model.encode(pixels, set(whole))
    assert everything.keys() == whole.keys(), "what the smaller network lacks comes from the whole one"


def test_a_network_that_cannot_be_converted_stays_with_torch(caplog: pytest.LogCaptureFixture) -> None:
    network = GRNet(GRNetConfig(backbone="timm:test_efficientnet", **CONFIG))  # type: ignore[arg-type]

    class Spectral(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return (
                torch.linalg.eigvals(images[..., :2, :2]).abs()[:, :1, None].repeat(1, network.backbone.channels, 1, 1)
            )

    network.backbone.body = Spectral()
    with pytest.raises(CheckpointError, match=r"openvino cannot run .*convert this network"):
        Model(network, engine="openvino")
    model = Model(network, engine="auto")
    assert model.engine == "torch"
    [said] = [record for record in caplog.records if record.levelno == logging.WARNING and "encodes" in record.message]
    assert said.message == "torch encodes"
    assert "convert" in said.__dict__["reason"]


@pytest.mark.parametrize("engine", HERE)
def test_pixels_of_another_shape_are_refused_by_each_engine(tiny_model_folder: Path, engine: str) -> None:
    model = load_model(tiny_model_folder, device="cpu", engine=engine)
    side = model.image_px
    for wrong in (np.zeros((1, side, side + 1, 3), np.uint8), np.zeros((1, side, side, 3), np.float32)):
        with pytest.raises(ValueError, match="expected uint8"):
            model.encode(wrong)  # type: ignore[arg-type]


def test_an_unknown_engine_is_refused_by_name(tiny_model_folder: Path) -> None:
    for load in (
        lambda: load_model(tiny_model_folder, engine="tensorrt"),
        lambda: load_parser_detector(engine="tensorrt"),
    ):
        with pytest.raises(CheckpointError, match=r"'tensorrt' is unknown.*openvino"):
            load()


def test_the_setting_knows_every_engine() -> None:
    annotation = Settings.model_fields["engine"].annotation
    assert set(getattr(annotation, "__args__", ())) == {"auto", *ENGINES}


def test_the_parser_finds_the_same_kinds_with_each_engine() -> None:
    by_torch, by_openvino = (load_parser_detector(engine=engine) for engine in ("torch", "openvino"))
    assert (by_torch.engine, by_openvino.engine) == ("torch", "openvino")
    photos = [load_image(path.read_bytes(), image_px=224)[1].pixels for path in PHOTOS[:3]]
    photos.append(np.ascontiguousarray(photos[0].transpose(1, 0, 2)))  # lying
    sized = [by_torch.sized(photo) for photo in photos]
    together = by_openvino.probabilities_many(sized)
    for photo, expected, found in zip(photos, by_torch.probabilities_many(sized), together, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-3)
        np.testing.assert_allclose(by_openvino.probabilities(photo), found, atol=1e-5)
        assert (found.argmax(axis=0) == expected.argmax(axis=0)).mean() > 0.999
