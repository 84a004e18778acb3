"""Maps of earlier stages: what they add to a region, and what they leave as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from threadmatch.model.backbone import Backbone, build_backbone
from threadmatch.model.checkpoint import save_checkpoint
from threadmatch.model.config import GRNetConfig
from threadmatch.model.errors import ConfigError
from threadmatch.model.fusing import fold_batch_norm
from threadmatch.model.grnet import GRNet, load_checkpoint
from threadmatch.model.inference import Model
from threadmatch.model.neck import HypercolumnNeck
from threadmatch.model.pyramid import pool_regions

NAME = "timm:test_efficientnet"
TAPS = (3, 5)
PLAIN = GRNetConfig(
    backbone=NAME, image_px=64, neck_channels=12, region_norm="l2", similarity_channels=8, node_channels=6,
    scales=("1x1", "2x2"),
)  # fmt: skip
CONFIG = replace(PLAIN, hypercolumn=TAPS)


def _pixels(count: int = 2) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@torch.no_grad()
def test_maps_of_earlier_stages_follow_the_last_at_its_grid() -> None:
    torch.manual_seed(0)
    backbone = build_backbone(NAME).eval()
    last = backbone(_pixels())
    whole = backbone.tap(TAPS)(_pixels())
    assert whole.shape == (2, backbone.map_channels, *last.shape[2:])
    torch.testing.assert_close(whole[:, : backbone.channels], last)
    start = backbone.channels
    for tap, channels in zip(TAPS, backbone.tap_channels, strict=True):
        expected = F.interpolate(_after(backbone, tap + 1), size=tuple(last.shape[2:]), mode="area")
        torch.testing.assert_close(whole[:, start : start + channels], expected)
        start += channels
    assert start == whole.shape[1]


def _after(backbone: Backbone, stages: int) -> torch.Tensor:
    """What comes out of the first `stages` of an untapped backbone of the same weights."""
    plain = build_backbone(NAME).eval()
    plain.load_state_dict(backbone.state_dict())
    front, _ = plain.split(stages)
    after: torch.Tensor = front(_pixels())
    return after


@torch.no_grad()
def test_tapped_parts_of_a_split_are_the_whole_and_fold_alike() -> None:
    torch.manual_seed(0)
    backbone = build_backbone(NAME).eval().tap(TAPS)
    for stage in range(TAPS[0] + 1):
        front, rest = backbone.split(stage)
        torch.testing.assert_close(rest(front(_pixels())), backbone(_pixels()))
    with pytest.raises(ConfigError, match="stages from 3 on"):
        backbone.split(TAPS[0] + 1)
    folded = fold_batch_norm(backbone, image_px=64)
    assert folded is not backbone
    torch.testing.assert_close(folded(_pixels()), backbone(_pixels()), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("stages", [(3, 2), (2, 2), (-1,), (6,), (99,)])
def test_stages_that_are_not_there_are_refused(stages: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="rising numbers of 0 to 5"):
        GRNet(replace(CONFIG, hypercolumn=stages))


def test_a_backbone_that_is_no_chain_of_stages_has_its_last_map_alone() -> None:
    with pytest.raises(ConfigError, match="last map alone"):
        GRNet(replace(CONFIG, backbone="timm:test_convnext"))


def test_a_probe_leaves_batch_norm_as_it_was() -> None:
    backbone = build_backbone(NAME).train()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    backbone.tap(TAPS)
    assert backbone.training
    for name, value in backbone.state_dict().items():
        assert torch.equal(before[name], value), name


@torch.no_grad()
def test_a_region_is_its_parts_at_unit_length_reduced() -> None:
    torch.manual_seed(0)
    network = GRNet(CONFIG).eval()
    neck = network.neck
    assert isinstance(neck, HypercolumnNeck)
    feature_map = network.backbone(_pixels())
    last, *taps = feature_map.split([network.backbone.channels, *network.backbone.tap_channels], dim=1)
    parts = [F.normalize(neck.last(pool_regions(last, CONFIG.grids, "max")), dim=-1)]
    parts += [
        F.normalize(layer(pool_regions(tap, CONFIG.grids, "avg")), dim=-1)
        for layer, tap in zip(neck.components, taps, strict=True)
    ]
    expected = F.normalize(neck.join(torch.cat(parts, dim=-1)), dim=-1)
    embedding, regions = network.features(_pixels())
    torch.testing.assert_close(regions, expected)
    assert regions.shape == (2, CONFIG.regions, 12)
    torch.testing.assert_close(embedding, F.normalize(last.mean((2, 3)), dim=-1))  # stage one reads the last map alone


@torch.no_grad()
def test_without_a_neck_a_region_has_all_channels_side_by_side() -> None:
    torch.manual_seed(0)
    network = GRNet(replace(CONFIG, neck_channels=0, region_norm="none")).eval()
    feature_map = network.backbone(_pixels())
    _, regions = network.features(_pixels())
    assert regions.shape[2] == network.region_channels == feature_map.shape[1]
    channels = network.backbone.channels
    torch.testing.assert_close(regions[:, 0, :channels], feature_map[:, :channels].amax((2, 3)))
    torch.testing.assert_close(regions[:, 0, channels:], feature_map[:, channels:].mean((2, 3)))


def test_a_checkpoint_keeps_them_and_older_ones_keep_their_names(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = GRNet(CONFIG).eval()
    save_checkpoint(network, tmp_path / "new", half=False)
    loaded = load_checkpoint(tmp_path / "new")
    assert loaded.config.hypercolumn == TAPS
    with torch.no_grad():
        torch.testing.assert_close(loaded.features(_pixels())[1], network.features(_pixels())[1])
    assert "hypercolumn" not in PLAIN.to_dict()
    other = GRNet(CONFIG).eval()
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        other.neck.join.weight.mul_(-1)  # type: ignore[union-attr]
    assert Model(other).features_fingerprint != Model(network).features_fingerprint


def test_a_backbone_of_other_maps_is_refused() -> None:
    with pytest.raises(ConfigError, match="hypercolumn"):
        GRNet(CONFIG, backbone=build_backbone(NAME))


def test_scores_and_other_grids_read_them() -> None:
    torch.manual_seed(0)
    model = Model(GRNet(CONFIG).eval())
    pixels = _pixels().permute(0, 2, 3, 1).numpy()
    regions = model.encode(pixels)["regions"]
    assert np.isfinite(model.score({"regions": regions[0]}, {"regions": regions})).all()
    mapped = model.with_scales(("1x1", "2x2"))
    np.testing.assert_allclose(mapped.encode(pixels)["regions"], regions, rtol=1e-4, atol=1e-5)
