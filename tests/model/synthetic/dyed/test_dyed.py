"""Garments dyed in other colours: how far the colour goes, what stays, and the set that they make."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from tests.support.snapshots import photo_folders
from threadmatch.model.data.manifest.rows import Split
from threadmatch.model.data.sets import read_sets
from threadmatch.model.errors import DataError
from threadmatch.model.images import decode_image
from threadmatch.model.synthetic.dyed.dyed_set import build_dyed_set
from threadmatch.model.synthetic.dyed.dyeing import LEAST_APART, LEAST_LEFT, Floats, cloth_of, dye
from threadmatch.model.synthetic.street.cutout import Pixels
from threadmatch.service.cli import app

INSIDE = (slice(60, 340), slice(70, 230))


def _photo(*, colourful: bool = False) -> Pixels:
    """Cloth with folds on a grey carpet."""
    random = np.random.default_rng(3)
    photo = np.clip(random.normal(128, 12, (400, 300, 3)), 0, 255)
    folds = 150 + 40 * np.sin(np.arange(400) / 9)[:, None, None]
    photo[INSIDE] = (folds * np.array([0.9, 0.6, 0.5]))[60:340]
    if colourful:
        photo[INSIDE][::20] = photo[INSIDE][::20, :, ::-1]
        photo[INSIDE][1::20] = (20, 160, 40)
        photo[INSIDE][2::20] = (20, 40, 160)
        photo[INSIDE][3::20] = (170, 20, 160)
    return photo.astype(np.uint8)


def _cloth() -> Floats:
    cloth = np.zeros((400, 300), np.float32)
    cloth[INSIDE] = 1
    return cloth


def _lab(photo: Pixels) -> NDArray[np.float32]:
    return np.asarray(cv2.cvtColor(photo.astype(np.float32) / 255, cv2.COLOR_RGB2LAB))[INSIDE]


def _bare(photo: Pixels) -> Floats:
    return np.zeros((50, 40), np.float32)


@pytest.mark.parametrize("seed", range(8))
def test_each_variant_is_another_colour_and_nothing_but_the_cloth_changes(seed: int) -> None:
    photo, rng = _photo(), np.random.default_rng(seed)
    first = dye(photo, _cloth(), taken=[], rng=rng)
    assert first is not None
    second = dye(photo, _cloth(), taken=[first.colour], rng=rng)
    assert second is not None
    means = [_lab(one).mean(axis=(0, 1)) for one in (photo, first.photo, second.photo)]
    apart = [np.linalg.norm(means[a] - means[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert min(apart) >= LEAST_LEFT - 0.5  # which is less than was aimed at
    assert LEAST_LEFT < LEAST_APART
    ground = _cloth() == 0
    for one in (first, second):
        assert np.array_equal(one.photo[ground], photo[ground])
        folds = np.corrcoef(_lab(photo)[..., 0].mean(axis=1), _lab(one.photo)[..., 0].mean(axis=1))[0, 1]
        assert folds > 0.9


@pytest.mark.parametrize("seed", range(6))
def test_a_cloth_of_many_colours_keeps_its_pattern(seed: int) -> None:
    photo = _photo(colourful=True)
    made = dye(photo, _cloth(), taken=[], rng=np.random.default_rng(seed))
    assert made is not None
    before, after = _lab(photo), _lab(made.photo)
    assert np.linalg.norm(after - before, axis=2).mean() >= LEAST_LEFT - 0.5
    rows = after.mean(axis=1)  # each stripe is still another colour than the cloth beside it
    assert np.linalg.norm(rows[1] - rows[10]) > 10
    assert np.linalg.norm(rows[3] - rows[1]) > 10


def test_the_same_choices_dye_alike_and_others_do_not() -> None:
    def dyed(seed: int) -> Pixels:
        made = dye(_photo(), _cloth(), taken=[], rng=np.random.default_rng(seed))
        assert made is not None
        return made.photo

    assert np.array_equal(dyed(1), dyed(1))
    assert not np.array_equal(dyed(1), dyed(2))


def test_too_little_cloth_is_not_dyed() -> None:
    cloth = np.zeros((400, 300), np.float32)
    cloth[:10, :10] = 1
    assert dye(_photo(), cloth, taken=[], rng=np.random.default_rng(0)) is None


def test_the_cloth_is_found_and_skin_is_none_of_it() -> None:
    def arm(photo: Pixels) -> Floats:
        skin = np.zeros((50, 40), np.float32)
        skin[:, :20] = 1
        return skin

    found = cloth_of(_photo(), _bare)
    assert found[INSIDE].mean() > 0.9
    assert found[:40].mean() < 0.1
    without = cloth_of(_photo(), arm)
    assert without[:, :140].max() == 0
    assert np.allclose(without[:, 160:], found[:, 160:])


def test_a_photo_without_a_garment_says_so() -> None:
    with pytest.raises(DataError, match="no garment"):
        cloth_of(np.full((200, 200, 3), 255, np.uint8), _bare)


def test_the_command_makes_a_set_of_variants_that_training_joins_with_others(tmp_path: Path) -> None:
    folders, made = photo_folders(tmp_path / "given"), tmp_path / "made"
    ran = CliRunner().invoke(
        app, ["data", "dye", str(folders), "--out", str(made), "--sources", "clothing,shop", "--workers", "1"]
    )
    assert ran.exit_code == 0, ran.output
    given = read_sets([made], Split.TRAIN)
    assert f"dyed {len(given.gallery)} garments" in ran.output
    variants = [image.product_id for image in given.gallery]
    assert len(set(variants)) == len(variants)
    assert {name.rpartition("/")[2] for name in variants} == {"dyed-0", "dyed-1"}
    assert {image.product_id for image in given.queries} <= set(variants)
    assert len(given.queries) == len(variants)
    by_garment: dict[str, list[NDArray[np.float64]]] = {}
    for image in given.gallery:
        pixels = decode_image(image.path.read_bytes()).pixels
        height, width = pixels.shape[:2]
        middle = pixels[height // 3 : height // 2, width * 2 // 5 : width * 3 // 5].mean(axis=(0, 1))
        by_garment.setdefault(image.product_id.rpartition("/")[0], []).append(middle)
    assert all(np.abs(one - other).max() > 5 for one, other in (each for each in by_garment.values() if len(each) == 2))


def test_a_set_made_again_leaves_nothing_of_the_one_before_and_the_same_seed_makes_it_alike(tmp_path: Path) -> None:
    folders, made = photo_folders(tmp_path / "given", photographers=4, skus=2), tmp_path / "made"
    photos: list[dict[str, bytes]] = []
    for colours, workers in ((2, 1), (1, 2), (2, 2)):
        build_dyed_set(folders, made, sources=("clothing",), colours=colours, seed=5, workers=workers)
        photos.append({path.name: path.read_bytes() for path in (made / "photos").iterdir()})
    assert photos[0] == photos[2]
    assert 0 < len(photos[1]) < len(photos[0])
    assert photos[1].items() <= photos[0].items()


def test_nothing_to_dye_is_said(tmp_path: Path) -> None:
    folders = photo_folders(tmp_path / "given")
    for photo in (folders / "clothing" / "images").iterdir():
        photo.write_bytes(b"no photo")
    with pytest.raises(DataError, match="could be dyed"):
        build_dyed_set(folders, tmp_path / "made", sources=("clothing",), workers=1)
