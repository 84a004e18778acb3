"""Encoders of others: what threadmatch computes is what their own library computes, also after a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.encoders import MEAN, STD, write_open_clip, write_timm, write_transformers
from threadmatch.model.backbone import Backbone
from threadmatch.model.checkpoint import save_checkpoint
from threadmatch.model.config import GRNetConfig
from threadmatch.model.encoders import library
from threadmatch.model.encoders.building import open_trained
from threadmatch.model.encoders.library import Wanted, needed
from threadmatch.model.errors import CheckpointError, ConfigError
from threadmatch.model.features import CELLS, EMBEDDING
from threadmatch.model.framing import Framing
from threadmatch.model.grnet import GRNet, load_checkpoint

Said = tuple[Tensor, Tensor]
"""What the library itself says of normalised images: tokens of places (B, N, C), pooled (B, E)."""

AGREES = {"atol": 1e-4, "rtol": 1e-4}


def images(side: int) -> Tensor:
    return torch.randint(0, 256, (2, 3, side, side), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def normalised(side: int) -> Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (images(side) / 255 - mean) / std


def kept_and_read(backbone: Backbone, trained: library.Trained, folder: Path) -> Backbone:
    """The backbone after a checkpoint was written and read."""
    config = GRNetConfig(
        backbone=trained.name, encoder=trained.encoder, image_px=trained.image_px, features=(EMBEDDING, CELLS)
    )
    save_checkpoint(GRNet(config, backbone=backbone), folder, half=False)
    return load_checkpoint(folder).backbone


def check(trained: library.Trained, said: Said, tmp_path: Path) -> None:
    tokens, pooled = said
    for backbone in (trained.backbone, kept_and_read(trained.backbone, trained, tmp_path / "kept")):
        with torch.inference_mode():
            looked = backbone.look(images(trained.image_px))
        torch.testing.assert_close(looked.feature_map.flatten(2).transpose(1, 2), tokens, **AGREES)
        assert looked.pooled is not None
        torch.testing.assert_close(looked.pooled, pooled, **AGREES)


@pytest.mark.parametrize("name", ["test_vit", "test_vit2", "test_vit3"])  # pooled by class token, mean and attention
@pytest.mark.parametrize("side", [160, 64])
def test_a_transformer_of_timm_says_what_timm_says(name: str, side: int, tmp_path: Path) -> None:
    folder, network = write_timm(tmp_path / "own", name)
    trained = open_trained(Wanted(f"timm:{folder}", side))
    assert (trained.name, trained.encoder.mean, trained.encoder.std) == (f"timm:{name}", MEAN, STD)
    assert trained.encoder.framing == Framing("crop", {160: 177, 64: 71}[side], "bicubic", (122, 115, 102))
    if side != 160:
        network.set_input_size(img_size=(side, side))
    with torch.inference_mode():
        seen = network.forward_features(normalised(side))
        said = seen[:, network.num_prefix_tokens :], network.forward_head(seen, pre_logits=True)
    check(trained, said, tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [
        {"class_token": False, "global_pool": "avg"},
        {"reg_tokens": 4, "patch_size": 14, "img_size": 56},
        {"class_token": False, "reg_tokens": 2, "global_pool": "map", "patch_size": 20},
    ],
    ids=["no class token", "registers, squares of 14", "registers alone, squares of 20"],
)
def test_registers_and_class_tokens_are_no_places(arguments: dict[str, Any]) -> None:
    from threadmatch.model.backbone import timm_backbone
    from threadmatch.model.timm_networks import create_network

    torch.manual_seed(0)
    network = create_network("test_vit", **arguments).eval()
    side = arguments.get("img_size", 160)
    backbone = timm_backbone(network, mean=MEAN, std=STD, image_px=side)
    with torch.inference_mode():
        looked, seen = backbone.look(images(side)), network.forward_features(normalised(side))
        pooled = network(normalised(side))
    places = (side // arguments.get("patch_size", 16)) ** 2
    assert seen.shape[1] == places + arguments.get("reg_tokens", 0) + arguments.get("class_token", True)
    torch.testing.assert_close(looked.feature_map.flatten(2).transpose(1, 2), seen[:, -places:], **AGREES)
    torch.testing.assert_close(looked.pooled, pooled, **AGREES)


SIDES_OF_CLIP: dict[str, dict[str, Any]] = {
    "transformer": {},
    "resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
    "timm": {"image_size": 160, "timm_model_name": "test_vit3", "timm_pool": "map", "timm_proj": "none"},
}


@pytest.mark.parametrize("kind", SIDES_OF_CLIP)
def test_a_clip_of_open_clip_says_what_open_clip_says(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("open_clip", reason="the extra `open_clip` is not installed")
    folder, model = write_open_clip(tmp_path / "own", **SIDES_OF_CLIP[kind])
    trained = open_trained(Wanted(f"open_clip:{folder}"))
    assert (trained.name, trained.encoder.mean, trained.encoder.framing) == ("open_clip:own", MEAN, Framing())
    pixels = normalised(trained.image_px)
    with torch.inference_mode():
        pooled = model.encode_image(pixels)
        said = model.visual.forward_intermediates(pixels, indices=1, normalize_intermediates=True)
    tokens = said["image_intermediates"][-1].flatten(2).transpose(1, 2)
    check(trained, (tokens, pooled), tmp_path)


def test_a_clip_sees_photos_of_another_size_by_resized_positions(tmp_path: Path) -> None:
    open_clip = pytest.importorskip("open_clip", reason="the extra `open_clip` is not installed")
    folder, _ = write_open_clip(tmp_path / "own")
    trained = open_trained(Wanted(f"open_clip:{folder}", 48))
    own = open_clip.create_model(f"local-dir:{folder}", force_image_size=48).eval()
    with torch.inference_mode():
        pooled = own.encode_image(normalised(48))
        looked = trained.backbone.look(images(48))
    assert looked.feature_map.shape[2:] == (6, 6)
    torch.testing.assert_close(looked.pooled, pooled, **AGREES)


@pytest.mark.parametrize("side", [32, 48])
@pytest.mark.parametrize("kind", ["clip", "siglip", "dinov2", "vit"])
def test_a_model_of_transformers_says_what_transformers_says(kind: str, side: int, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the extra `hf` is not installed")
    folder, model = write_transformers(tmp_path / "own", kind)
    trained = open_trained(Wanted(f"hf:{folder}", side))
    assert trained.name == "hf:own"
    squashed, cropped = Framing("squash"), Framing("crop", {32: 36, 48: 54}[side])
    assert trained.encoder.framing == (squashed if kind == "siglip" else cropped)
    more = {} if side == 32 or kind == "dinov2" else {"interpolate_pos_encoding": True}
    with torch.inference_mode():
        said = getattr(model, "vision_model", model)(pixel_values=normalised(side), **more)
        hidden = said.last_hidden_state
        pooled = hidden[:, 0] if kind == "vit" else said.pooler_output
        if kind == "clip":
            pooled = model.get_image_features(pixel_values=normalised(side), **more).pooler_output
    check(trained, (hidden[:, -((side // 8) ** 2) :], pooled), tmp_path)


def _no_weights(folder: Path) -> str:
    (write_timm(folder)[0] / "model.safetensors").unlink()
    return f"timm:{folder}"


def _torn(folder: Path) -> str:
    write_timm(folder)
    (folder / "model.safetensors").write_bytes(b"no tensors")
    return f"timm:{folder}"


def _of_another(folder: Path) -> str:
    write_timm(folder)
    (folder / "config.json").write_text('{"architecture": "test_vit4"}')
    return f"timm:{folder}"


def _no_folder_of_timm(folder: Path) -> str:
    folder.mkdir()
    return f"timm:{folder}"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_no_weights, "no readable file of weights"),
        (_torn, "no readable file of weights"),
        (_of_another, "does not fit this network"),
        (_no_folder_of_timm, "is no folder of timm"),
        (lambda _: "timm:no_such_network", "timm knows no model"),
        (lambda _: "onnx:something", "is unknown, expected timm:NAME, open_clip:NAME, hf:NAME"),
    ],
)
def test_what_is_no_encoder_is_refused_in_words(make: Callable[[Path], str], said: str, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, CheckpointError), match=said):
        open_trained(Wanted(make(tmp_path / "odd")))


def test_a_pickle_in_place_of_weights_is_not_unpickled(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "harm",))

    folder, _ = write_timm(tmp_path / "own")
    torch.save({"state_dict": Harm()}, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match="holds more than tensors"):
        open_trained(Wanted(f"timm:{folder}", weights=tmp_path / "weights.pth"))
    assert not (tmp_path / "harm").exists()


def test_a_library_that_is_not_installed_is_named_with_its_extra() -> None:
    with pytest.raises(ConfigError, match=r"pip install 'threadmatch\[odd\]'"):
        needed("no_such_library", "odd")


def test_a_checkpoint_of_an_encoder_is_another_when_its_photos_are_framed_otherwise(tmp_path: Path) -> None:
    from threadmatch.model.checkpoint import fingerprints

    folder, _ = write_timm(tmp_path / "own")
    trained = open_trained(Wanted(f"timm:{folder}"))
    cropped = GRNetConfig(backbone=trained.name, encoder=trained.encoder, image_px=160)
    padded = replace(cropped, encoder=replace(trained.encoder, framing=Framing("pad")))
    one, other = (fingerprints(GRNet(config, backbone=trained.backbone)).features for config in (cropped, padded))
    assert one != other
    assert GRNetConfig.from_dict(cropped.to_dict()) == cropped
    with pytest.raises(ConfigError, match="fit is 'stretch'"):
        GRNetConfig.from_dict(
            {**cropped.to_dict(), "encoder": {**trained.encoder.to_dict(), "framing": {"fit": "stretch"}}}
        )
