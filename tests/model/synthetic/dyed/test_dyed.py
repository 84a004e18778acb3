"""Garments in other colours: nothing but the cloth's colour differs, and each colour is a product of its own."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from tests.support.snapshots import photo_folders
from threadmatch.model.errors import DataError
from threadmatch.model.images import decode_image
from threadmatch.model.synthetic.dyed.dyed_photos import dye_sources
from threadmatch.model.synthetic.dyed.dyeing import APART, COUNTED, Colour, dye
from threadmatch.model.synthetic.street.street_set import read_sources
from threadmatch.service.cli import app

SIDE = 64


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photo_folders(tmp_path_factory.mktemp("photos"))


def _photo(colour: tuple[int, int, int], *, print_colour: tuple[int, int, int] | None = None) -> NDArray[np.uint8]:
    """A square of cloth with a fold in it, on grey."""
    photo = np.full((SIDE, SIDE, 3), 128, np.uint8)
    photo[16:48, 16:48] = colour
    if print_colour is not None:
        photo[16:48, 32:48] = print_colour
    photo[16:48, 30:32] = photo[16:48, 30:32] // 2
    return photo


def _mask() -> NDArray[np.float32]:
    mask = np.zeros((SIDE, SIDE), np.float32)
    mask[16:48, 16:48] = 1
    return mask


def _lab(photo: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(cv2.cvtColor(photo.astype(np.float32) / 255, cv2.COLOR_RGB2LAB))


@pytest.mark.parametrize("cloth", [(250, 250, 250), (200, 60, 60), (30, 40, 90), (12, 12, 12), (230, 200, 210)])
def test_the_colours_of_a_plain_garment_are_far_apart_and_the_ground_stays(cloth: tuple[int, int, int]) -> None:
    photo, mask = _photo(cloth), _mask()
    known: list[Colour] = [_lab(photo)[mask > 0].mean(axis=0).astype(np.float64)]
    for seed in range(4):
        dyed, colour = dye(photo, mask, np.random.default_rng(seed), others=known[1:])
        np.testing.assert_allclose(dyed[mask == 0], photo[mask == 0], atol=1)
        np.testing.assert_allclose(_lab(dyed)[mask > 0].mean(axis=0), colour, atol=1)
        # Half, since strong tints of light cloth are cut off where screens show no more.
        assert min(np.linalg.norm((colour - one) * COUNTED) for one in known) > APART / 2
        known.append(colour)


def test_folds_stay_folds() -> None:
    dyed, _ = dye(_photo((90, 120, 200)), _mask(), np.random.default_rng(1))
    light = _lab(dyed)[..., 0]
    assert (light[20:44, 30:32] < light[20:44, 18:20].min() - 10).all()


def test_the_colours_of_a_print_turn_together() -> None:
    photo, mask = _photo((200, 40, 40), print_colour=(40, 60, 200)), _mask()
    dyed, _ = dye(photo, mask, np.random.default_rng(2))
    before, after = _lab(photo)[..., 1:], _lab(dyed)[..., 1:]
    turns = [
        np.arctan2(*after[row, column, ::-1]) - np.arctan2(*before[row, column, ::-1])
        for row, column in ((20, 20), (20, 40))
    ]
    assert abs(np.angle(np.exp(1j * turns[0]))) > 0.4
    assert np.angle(np.exp(1j * (turns[0] - turns[1]))) == pytest.approx(0, abs=0.35)  # strong blues are cut off


def test_the_same_seed_dyes_alike_whatever_the_workers_and_streetify_reads_what_comes(
    folders: Path, tmp_path: Path
) -> None:
    counts = [
        dye_sources(folders, tmp_path / name, sources=("clothing", "shop"), split="train", seed=seed, workers=workers)
        for name, seed, workers in (("a", 1, 1), ("b", 1, 2), ("c", 2, 2))
    ]
    assert counts[0] == counts[1]
    made = read_sources(tmp_path / "a", ("clothing", "shop"))
    assert counts[0]["dyed"] == len(made) == 2 * (counts[0]["photos"] - counts[0]["failed"]) > 0
    assert {one.split for one in made} == {"train"}
    assert len({one.product_id for one in made}) == len({one.id for one in made}) == len(made)
    files = {name: sorted(one.path.relative_to(tmp_path / name) for one in
                          read_sources(tmp_path / name, ("clothing", "shop"))) for name in "abc"}  # fmt: skip
    contents = {name: [(tmp_path / name / path).read_bytes() for path in files[name]] for name in "abc"}
    assert files["a"] == files["b"]
    assert contents["a"] == contents["b"] != contents["c"]
    known = {one.id: one for one in read_sources(folders, ("clothing", "shop"))}
    for one in made[:4]:
        origin = known[one.id.rpartition("-")[0]]
        assert one.owner == origin.owner
        assert decode_image(one.path.read_bytes()).pixels.shape == decode_image(origin.path.read_bytes()).pixels.shape


def test_the_photos_themselves_are_never_written_over(folders: Path) -> None:
    before = (folders / "clothing" / "items.csv").read_bytes()
    with pytest.raises(DataError, match="holds the photos themselves"):
        dye_sources(folders, folders)
    assert (folders / "clothing" / "items.csv").read_bytes() == before


def test_the_command_says_what_it_made_and_what_comes_next(folders: Path, tmp_path: Path) -> None:
    said = CliRunner().invoke(app, ["data", "dye", str(folders), "--out", str(tmp_path / "dyed"), "--workers", "1"])
    assert said.exit_code == 0, said.output
    rows = list(csv.DictReader((tmp_path / "dyed" / "clothing" / "items.csv").open(encoding="utf-8")))
    assert f"made {len(rows)} photos of" in said.output
    assert f"threadmatch data streetify {tmp_path / 'dyed'} --sources clothing --split train" in said.output
    missing = CliRunner().invoke(app, ["data", "dye", str(tmp_path / "none"), "--out", str(tmp_path / "x")])
    assert missing.exit_code == 1
    assert "items.csv" in missing.output
