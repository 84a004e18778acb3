"""Cells of another size for a joined model: more numbers of two bits, of the same parts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.model.train.test_joined_run import _network, _photos, _pixels
from threadmatch.model.checkpoint import save_checkpoint
from threadmatch.model.coded import Coded
from threadmatch.model.components import rotate, turn
from threadmatch.model.encoding import see
from threadmatch.model.errors import ConfigError
from threadmatch.model.features import CELLS
from threadmatch.model.grnet import GRNet, load_checkpoint
from threadmatch.model.inference import Model
from threadmatch.model.neck import HypercolumnNeck
from threadmatch.model.train import cells_run
from threadmatch.model.train.joined_run import join_networks
from threadmatch.model.train.phases.joined_cells import with_cells_of

STAGES = (2, 3, 5)


def _joined(photo_sets: Path, cell_channels: int = 0) -> GRNet:
    return join_networks(_network(1), _network(2), _photos(photo_sets), stages=STAGES, cell_channels=cell_channels)


def test_turned_numbers_are_alike_in_size_and_their_products_stay() -> None:
    generator = torch.Generator().manual_seed(0)
    sizes = 0.9 ** torch.arange(64)
    vectors = torch.randn(500, 64, generator=generator) * sizes
    layer = nn.Linear(64, 64, bias=False).requires_grad_(False)
    rotate(layer, F.normalize(vectors, dim=1))
    before = layer(vectors)
    turn(layer)
    after = layer(vectors)
    torch.testing.assert_close(after @ after.T, before @ before.T, rtol=1e-3, atol=1e-3)
    apart = [one.square().mean(0).sqrt() for one in (before, after)]
    assert apart[0].max() / apart[0].min() > 100
    assert apart[1].max() / apart[1].min() < 3


def test_a_direction_is_divided_by_what_it_holds_to_the_power() -> None:
    vectors = F.normalize(
        torch.randn(400, 8, generator=torch.Generator().manual_seed(1)) * 0.5 ** torch.arange(8), dim=1
    )
    plain, lifted = (nn.Linear(8, 5, bias=False).requires_grad_(False) for _ in range(2))
    share = rotate(plain, vectors)
    assert rotate(lifted, vectors, power=0.5) == share
    held = plain(vectors).square().mean(0).sqrt()
    torch.testing.assert_close(lifted.weight, plain.weight * (held[0] / held).sqrt()[:, None], rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_cells_of_two_bits_hold_more_of_the_same_parts_and_all_else_stays(photo_sets: Path) -> None:
    joined = _joined(photo_sets)
    regions, former = see(joined, _pixels()).regions, see(joined, _pixels()).cells
    made = with_cells_of(joined, _photos(photo_sets), cell_channels=48)
    assert isinstance(joined.cell_neck, HypercolumnNeck)
    assert isinstance(made.cell_neck, HypercolumnNeck)
    seen = see(made, _pixels())
    torch.testing.assert_close(seen.regions, regions)
    torch.testing.assert_close(see(joined, _pixels()).cells, former)  # the first model is as it was
    assert seen.cells.shape == (*former.shape[:2], 48)
    assert made.chain[-1].matcher == "dense"
    last, *taps = made.backbone.look(_pixels()).whole.flatten(2).transpose(1, 2).split(made.backbone.cell_parts, dim=-1)
    for neck in (joined.cell_neck, made.cell_neck):
        torch.testing.assert_close(
            neck.column(neck.last(last), taps), joined.cell_neck.column(joined.cell_neck.last(last), taps)
        )


def test_a_gallery_keeps_them_four_numbers_a_byte(photo_sets: Path) -> None:
    model = Model(_joined(photo_sets, cell_channels=48), device="cpu", engine="torch")
    spec = model.feature(CELLS)
    assert (spec.dtype, spec.shape[1]) == ("int2", 48)
    assert spec.size_bytes == spec.shape[0] * (48 // 4 + 2)
    cells = model.encode(_pixels().permute(0, 2, 3, 1).numpy())[CELLS]
    stored = spec.stored([spec.pack(one) for one in cells])
    assert isinstance(stored, Coded)
    cosines = (F.normalize(torch.from_numpy(stored.floats()), dim=-1) * torch.from_numpy(cells)).sum(-1)
    assert 0.85 < cosines.mean() < 0.97, "two bits are coarse, the mean over a photo's cells is not"


def test_the_command_writes_a_model_and_refuses_one_network(
    photo_sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_checkpoint(_joined(photo_sets), tmp_path / "joined", half=False)
    arguments = ["--photos", str(photo_sets / "train"), "--cells", "48", "--out", str(tmp_path / "cells")]
    monkeypatch.setattr(sys, "argv", ["cells_run", str(tmp_path / "joined"), *arguments])
    cells_run.main()
    said = json.loads(capsys.readouterr().out)
    loaded = load_checkpoint(tmp_path / "cells")
    assert loaded.config.cell_channels == 48
    assert said["features_fingerprint"] != Model(load_checkpoint(tmp_path / "joined")).features_fingerprint
    with pytest.raises(ConfigError, match="is one network"):
        with_cells_of(_network(1), _photos(photo_sets), cell_channels=48)


def test_cells_without_a_companion_or_that_share_no_byte_are_refused() -> None:
    for wrong in ({"cell_channels": 48}, {"cell_channels": -4}):
        with pytest.raises(ConfigError, match="cell_channels"):
            _network(1, **wrong)
