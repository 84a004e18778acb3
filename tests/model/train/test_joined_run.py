"""Two models as one: what it sees, that nothing of either is lost, and which cannot be joined."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from threadmatch.model.checkpoint import save_checkpoint
from threadmatch.model.config import GRNetConfig
from threadmatch.model.data.pairs import LabelledImage, read_labelled
from threadmatch.model.data.photo_reading import decoded
from threadmatch.model.encoding import see
from threadmatch.model.errors import ConfigError
from threadmatch.model.features import CELLS, EMBEDDING, REGIONS
from threadmatch.model.fusing import fold_batch_norm
from threadmatch.model.grnet import GRNet, load_checkpoint
from threadmatch.model.neck import HypercolumnNeck
from threadmatch.model.train.joined_run import join_networks, main

TAPS = (3, 5)
CONFIG = GRNetConfig(
    backbone="timm:test_efficientnet", image_px=64, neck_channels=12, embedding_channels=16, hypercolumn=TAPS,
    similarity_channels=8, node_channels=6, scales=("1x1", "2x2"),
)  # fmt: skip


def _network(seed: int, **other: object) -> GRNet:
    torch.manual_seed(seed)
    return GRNet(replace(CONFIG, **other)).eval()  # type: ignore[arg-type]


def _photos(root: Path) -> list[LabelledImage]:
    return [*read_labelled(root / "train" / "gallery.csv"), *read_labelled(root / "train" / "queries.csv")]


def _pixels(count: int = 5) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 64, 64), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)


@torch.no_grad()
def test_a_cell_holds_both_networks_last_maps_as_they_were_trained_and_their_earlier_ones(photo_sets: Path) -> None:
    joined = join_networks(_network(1), _network(2), _photos(photo_sets), stages=(2, 3, 5))
    neck, backbone = joined.cell_neck, joined.backbone
    assert isinstance(neck, HypercolumnNeck)
    cells = backbone.look(_pixels()).whole.flatten(2).transpose(1, 2)
    channels = [backbone.channels, *backbone.tap_channels, *backbone.beside_channels]
    last, *taps = cells.split(channels, dim=-1)
    column = neck.column(neck.last(last), taps).unflatten(-1, (8, 12))  # 12 of each map: 4 maps of 2 networks
    for place, seed in ((0, 1), (4, 2)):
        alone = _network(seed)
        own = alone.backbone.look(_pixels()).feature_map[:, : alone.backbone.channels].flatten(2).transpose(1, 2)
        assert isinstance(alone.neck, HypercolumnNeck)
        torch.testing.assert_close(column[..., place, :], F.normalize(alone.neck.last(own), dim=-1))
    expected = F.normalize(column.flatten(-2) @ neck.join.weight.T, dim=-1)
    torch.testing.assert_close(see(joined, _pixels()).cells, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_regions_and_their_scores_are_the_first_networks(photo_sets: Path) -> None:
    alone = _network(1)
    regions, scores = see(alone, _pixels()).regions, alone(_pixels()[:2], _pixels()[2:4])
    joined = join_networks(_network(1), _network(2), _photos(photo_sets), stages=(2, 3, 5))
    torch.testing.assert_close(see(joined, _pixels()).regions, regions)
    torch.testing.assert_close(joined(_pixels()[:2], _pixels()[2:4]), scores)


@torch.no_grad()
def test_stage_one_turns_both_embeddings_which_count_alike_and_drops_the_lesser_directions(photo_sets: Path) -> None:
    photos = _photos(photo_sets)
    seen = torch.cat([torch.from_numpy(one) for one in decoded(photos, image_px=64)]).permute(0, 3, 1, 2)
    turns = []
    joined = join_networks(_network(1), _network(2), photos)
    own = joined.embedding
    assert own is not None
    halves = own.weight.split([_network(seed).backbone.channels for seed in (1, 2)], dim=1)
    for seed, half in zip((1, 2), halves, strict=True):
        network = _network(seed)
        layer = network.embedding
        assert layer is not None
        length = layer(network.pool(network.backbone.look(seen))[0]).norm(dim=1).mean()
        turns.append(half @ torch.linalg.pinv(layer.weight / length))
    turn = torch.cat(turns, dim=1)
    torch.testing.assert_close(turn @ turn.T, torch.eye(16), rtol=0, atol=1e-3)
    made = see(joined, _pixels()).embedding
    torch.testing.assert_close(made.norm(dim=1), torch.ones(5))


@torch.no_grad()
def test_it_is_written_read_and_folded_as_any_other(photo_sets: Path, tmp_path: Path) -> None:
    joined = join_networks(_network(1), _network(2), _photos(photo_sets))
    save_checkpoint(joined, tmp_path / "joined", half=False)
    loaded = load_checkpoint(tmp_path / "joined")
    assert loaded.config.companion == CONFIG.backbone
    assert loaded.config.features == (EMBEDDING, REGIONS, CELLS)
    torch.testing.assert_close(see(loaded, _pixels()).cells, see(joined, _pixels()).cells)
    folded = fold_batch_norm(loaded.backbone, image_px=64)
    assert folded is not loaded.backbone
    torch.testing.assert_close(folded(_pixels()), loaded.backbone(_pixels()), rtol=1e-3, atol=1e-4)


def test_the_stages_that_parts_read_are_the_first_networks(photo_sets: Path) -> None:
    alone = _network(1).backbone.look(_pixels(), [2]).stages[2]
    joined = join_networks(_network(1), _network(2), _photos(photo_sets))
    torch.testing.assert_close(joined.backbone.look(_pixels(), [2]).stages[2], alone)


def test_what_does_not_fit_is_refused(photo_sets: Path) -> None:
    photos = _photos(photo_sets)
    with pytest.raises(ConfigError, match="image_px is 64 of the first and 96 of the second"):
        join_networks(_network(1), _network(2, image_px=96), photos)
    with pytest.raises(ConfigError, match="rising numbers of 0 to 5"):
        join_networks(_network(1), _network(2), photos, stages=(3, 5, 9))
    with pytest.raises(ConfigError, match="each must be one network with a neck"):
        join_networks(_network(1, neck_channels=0), _network(2, neck_channels=0), photos)
    with pytest.raises(ConfigError, match="a neck and `embedding_channels`"):
        join_networks(_network(1, embedding_channels=0), _network(2, embedding_channels=0), photos)
    joined = join_networks(_network(1), _network(2), photos)
    with pytest.raises(ConfigError, match="each must be one network"):
        join_networks(joined, _network(3), photos)
    with pytest.raises(ConfigError, match="needs neck_channels"):
        replace(CONFIG, companion=CONFIG.backbone, cell_hypercolumn=TAPS, neck_channels=0)
    with pytest.raises(ConfigError, match=r"expected \(3, 5\) among them"):
        join_networks(_network(1), _network(2), photos, stages=(2, 3))


def test_the_command_writes_a_model(
    photo_sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        save_checkpoint(_network(seed), tmp_path / name)
    out = tmp_path / "out"
    given = ["joined_run", str(tmp_path / "a"), str(tmp_path / "b"), "--photos", str(photo_sets / "train")]
    monkeypatch.setattr("sys.argv", [*given, "--stages", "2", "3", "5", "--out", str(out)])
    main()
    made = load_checkpoint(out)
    assert (made.name, made.config.cell_hypercolumn) == ("out", (2, 3, 5))
    assert "features_fingerprint" in capsys.readouterr().out
