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
from threadmatch.model.encoding import see
from threadmatch.model.errors import ConfigError
from threadmatch.model.features import CELLS, EMBEDDING
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
def test_a_cell_holds_both_networks_columns(photo_sets: Path) -> None:
    joined = join_networks(_network(1), _network(2), _photos(photo_sets))
    columns = [_column(_network(seed)) for seed in (1, 2)]
    neck = joined.neck
    assert isinstance(neck, HypercolumnNeck)
    # the join keeps 12 of 72 directions of both columns side by side, and they are orthogonal
    torch.testing.assert_close(neck.join.weight @ neck.join.weight.T, torch.eye(12), rtol=0, atol=1e-5)
    expected = F.normalize(torch.cat(columns, dim=-1) @ neck.join.weight.T, dim=-1)
    torch.testing.assert_close(see(joined, _pixels()).cells, expected, rtol=1e-4, atol=1e-5)


def _column(network: GRNet) -> torch.Tensor:
    """(B, h * w, parts) of one network alone."""
    cells = network.backbone.look(_pixels()).feature_map.flatten(2).transpose(1, 2)
    last, *taps = cells.split([network.backbone.channels, *network.backbone.tap_channels], dim=-1)
    neck = network.neck
    assert isinstance(neck, HypercolumnNeck)
    return neck.column(neck.last(last), taps)


@torch.no_grad()
def test_stage_one_orders_by_both_embeddings(photo_sets: Path) -> None:
    first, second = _network(1), _network(2)
    alone = [one.embedding(one.pool(one.backbone.look(_pixels()))[0]) for one in (first, second)]  # type: ignore[misc]
    joined = join_networks(first, second, _photos(photo_sets))
    made = see(joined, _pixels()).embedding
    assert made.shape == (5, 16)
    torch.testing.assert_close(made.norm(dim=1), torch.ones(5))
    for own in alone:  # neither has the word alone
        assert not torch.allclose(made @ made.T, F.normalize(own, dim=1) @ F.normalize(own, dim=1).T, atol=1e-3)


@torch.no_grad()
def test_it_is_written_read_and_folded_as_any_other(photo_sets: Path, tmp_path: Path) -> None:
    joined = join_networks(_network(1), _network(2), _photos(photo_sets))
    save_checkpoint(joined, tmp_path / "joined", half=False)
    loaded = load_checkpoint(tmp_path / "joined")
    assert loaded.config.companion == CONFIG.backbone
    assert loaded.config.features == (EMBEDDING, CELLS)
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
    with pytest.raises(ConfigError, match="hypercolumn"):
        join_networks(_network(1, hypercolumn=()), _network(2, hypercolumn=()), photos)
    joined = join_networks(_network(1), _network(2), photos)
    with pytest.raises(ConfigError, match="each must be one network"):
        join_networks(joined, _network(3), photos)
    with pytest.raises(ConfigError, match="train each by itself"):
        joined.backbone.split(2)
    with pytest.raises(ConfigError, match="needs neck_channels"):
        replace(CONFIG, companion=CONFIG.backbone, neck_channels=0)


def test_the_command_writes_a_model(
    photo_sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        save_checkpoint(_network(seed), tmp_path / name)
    out = tmp_path / "out"
    given = ["joined_run", str(tmp_path / "a"), str(tmp_path / "b"), "--photos", str(photo_sets / "train")]
    monkeypatch.setattr("sys.argv", [*given, "--out", str(out)])
    main()
    assert load_checkpoint(out).name == "out"
    assert "features_fingerprint" in capsys.readouterr().out
