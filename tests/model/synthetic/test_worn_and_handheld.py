"""Queries from garments worn in the street, and from the second maker."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from threadmatch.model.data.setups import HARD_FRACTION, Setup
from threadmatch.model.errors import DataError
from threadmatch.model.synthetic.handheld.bent_cloth import bent_sheet, plate
from threadmatch.model.synthetic.handheld.handheld_query import handheld_query
from threadmatch.model.synthetic.street.cutout import Cutout, Pixels
from threadmatch.model.synthetic.worn.worn_set import build_worn_set, garments_of, loose_box, on_white

LABELS = {0: "background", 1: "shirt", 2: "t-shirt", 3: "skirt", 4: "bag"}


def _mask() -> Pixels:
    mask = np.zeros((80, 60), np.uint8)
    mask[10:25, 15:45], mask[25:35, 15:45] = 1, 2  # two labels of one kind
    mask[40:70, 20:40] = 3
    mask[0:2, 0:2] = 4  # too small to be asked for
    mask[78, 58] = 3  # a crumb
    return mask


def _photo() -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (80, 60, 3)).astype(np.uint8)


def test_a_garment_is_all_of_its_kind_without_crumbs() -> None:
    found = {garment.kind: garment for garment in garments_of(_mask(), LABELS)}
    assert found.keys() == {"top", "skirt"}
    assert found["top"].box == (15, 10, 45, 35)
    assert found["skirt"].box == (20, 40, 40, 70)


def test_on_white_shows_the_garment_and_nothing_else() -> None:
    item = on_white(np.zeros((80, 60, 3), np.uint8), garments_of(_mask(), LABELS)[0])
    assert item[0, 0].tolist() == [255, 255, 255]
    assert item[item.shape[0] // 2, item.shape[1] // 2].tolist() == [0, 0, 0]


def test_a_cropped_box_keeps_a_part_and_a_loose_one_all_but_a_rim() -> None:
    garment, rng = garments_of(_mask(), LABELS)[1], np.random.default_rng(0)
    for _ in range(50):
        cropped, loose = loose_box(garment, rng, cropped=True), loose_box(garment, rng, cropped=False)
        assert cropped.width * cropped.height < 0.9 * 20 * 30
        assert loose.width > 0.94 * 20
        assert loose.height > 0.94 * 30


def _folder(root: Path) -> Path:
    Image.fromarray(_photo()).save(root / "a.jpg")
    Image.fromarray(_mask()).save(root / "a.png")
    for name, columns, rows in (
        ("items.csv", "image,mask,id,garments,split", ["a.jpg,a.png,one,,train"]),
        ("labels.csv", "value,label", [f"{value},{label}" for value, label in LABELS.items()]),
    ):
        (root / name).write_text("\n".join([columns, *rows]) + "\n")
    return root


def test_a_worn_set_names_each_garment_once_and_asks_for_it_as_often_as_told(tmp_path: Path) -> None:
    counts = build_worn_set(_folder(tmp_path), tmp_path / "out", split="train", per_item=3)
    assert counts == {"gallery": 2, "queries": 6}
    with (tmp_path / "out" / "queries.csv").open(newline="") as file:
        assert {row["product_id"] for row in csv.DictReader(file)} == {"one-top", "one-skirt"}


def test_shares_part_photos_without_overlap(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    halves = [
        build_worn_set(folder, tmp_path / n, split="train", share=s) for n, s in (("a", (0, 0.5)), ("b", (0.5, 1)))
    ]
    assert sum(half["gallery"] for half in halves) == 2
    assert 0 in {half["gallery"] for half in halves}


def test_a_folder_without_masks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder of photos with masks"):
        build_worn_set(tmp_path, tmp_path / "out", split="train")


def test_a_plate_goes_through_its_points_and_is_a_plane_where_they_are() -> None:
    rng = np.random.default_rng(0)
    controls, at = rng.random((7, 2)), rng.random((5, 2))
    plane = np.array([[1.0, -2.0], [0.5, 3.0]])
    np.testing.assert_allclose(plate(controls, controls @ plane, at), at @ plane, atol=1e-6)
    values = rng.normal(size=(7, 3)) * 0.01
    np.testing.assert_allclose(plate(controls, values, controls), values, atol=2e-3)


def test_a_bent_sheet_keeps_its_size_and_is_another_picture() -> None:
    sheet = np.dstack([_photo(), np.full((80, 60), 255, np.uint8)])
    bent = bent_sheet(sheet, np.random.default_rng(1), strength=0.03, folds=2)
    assert bent.shape == sheet.shape
    assert (bent != sheet).any()


def _cutout() -> Cutout:
    rgba = np.dstack([_photo(), np.full((80, 60), 255, np.uint8)])
    return Cutout(rgba, 0.5)


@pytest.mark.parametrize(("setup", "seed"), list(itertools.product(Setup, range(4))))
def test_a_handheld_query_is_as_hard_as_its_setup_says(setup: Setup, seed: int) -> None:
    rng = np.random.default_rng(seed)
    query = handheld_query(_cutout(), setup=setup, rng=rng, photos=[_photo()], others=[_cutout()])
    assert query.image.dtype == np.uint8
    assert query.box.width >= 1
    if setup is Setup.HARD_CROPPING:
        assert query.cropped_fraction > HARD_FRACTION
    else:
        assert query.cropped_fraction < HARD_FRACTION
    if setup is Setup.HARD_OCCLUSION:
        assert query.occluded_fraction > HARD_FRACTION * 0.8
    else:
        assert query.occluded_fraction < HARD_FRACTION


def test_the_same_seed_gives_the_same_query() -> None:
    one, two = (
        handheld_query(_cutout(), setup=Setup.HARD_VIEW, rng=np.random.default_rng(3), photos=[], others=[]).image
        for _ in range(2)
    )
    np.testing.assert_array_equal(one, two)
