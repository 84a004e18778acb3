"""Garments cut out of photos: the mask is right, the edge is clean, what is no garment is refused."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.snapshots import Pixels, shirt_mask, shirt_photo
from threadmatch.model.errors import DataError
from threadmatch.model.synthetic.street.cutout import PLAUSIBLE, Cutout, Method, cut_out, worn


def overlap(cutout: Cutout, expected: np.ndarray) -> float:
    """Intersection over union of the cutout's mask with the shirt's, both cropped to their bounds."""
    rows, columns = np.flatnonzero(expected.any(axis=1)), np.flatnonzero(expected.any(axis=0))
    cropped = expected[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = cropped.shape
    found = np.asarray(Image.fromarray(cutout.rgba[..., 3]).resize((width, height))) > 127
    return float((found & cropped).sum() / (found | cropped).sum())


@pytest.mark.parametrize("method", ["auto", "white"])
@pytest.mark.parametrize("seed", range(4))
def test_a_garment_on_white_is_cut_out_exactly(seed: int, method: Method) -> None:
    cutout = cut_out(shirt_photo(seed), method=method)
    assert overlap(cutout, shirt_mask()) > 0.95
    assert abs(cutout.coverage - shirt_mask().mean()) < 0.02


@pytest.mark.parametrize("method", ["auto", "grabcut"])
@pytest.mark.parametrize("seed", range(4))
def test_a_garment_on_a_carpet_is_cut_out(seed: int, method: Method) -> None:
    assert overlap(cut_out(shirt_photo(seed, ground="carpet"), method=method), shirt_mask()) > 0.88


def test_no_seam_of_the_white_ground_is_cut_out_along() -> None:
    photo = shirt_photo(1, size=(480, 400))
    photo[~shirt_mask((480, 400))] = 255
    rgba = cut_out(photo, method="white").rgba
    assert rgba[rgba[..., 3] > 64][:, :3].min(axis=1).max() < 215


def test_white_between_an_arm_and_the_body_is_background_and_a_small_white_print_is_not() -> None:
    photo = shirt_photo(2, size=(480, 400))
    photo[200:250, 180:220] = 255
    photo[300:306, 180:220] = 255
    alpha = cut_out(photo, method="white").rgba[..., 3]
    rows, columns = (
        np.flatnonzero(shirt_mask((480, 400)).any(axis=1)),
        np.flatnonzero(shirt_mask((480, 400)).any(axis=0)),
    )
    top, left = rows[0], columns[0]
    assert alpha[225 - top, 200 - left] == 0
    assert alpha[303 - top, 200 - left] == 255


@pytest.mark.parametrize(
    "photo",
    [np.full((90, 80, 3), 255, np.uint8), np.zeros((90, 80, 3), np.uint8)],
    ids=["nothing but white", "nothing but cloth"],
)
def test_a_mask_that_cannot_be_is_refused(photo: Pixels) -> None:
    with pytest.raises(DataError, match="no garment"):
        cut_out(photo, method="white")


def test_the_same_photo_gives_the_same_cutout() -> None:
    photo = shirt_photo(3, ground="carpet")
    np.testing.assert_array_equal(cut_out(photo).rgba, cut_out(photo).rgba)


def test_a_wearer_s_head_is_not_the_garment() -> None:
    alpha = np.zeros((300, 160), np.uint8)
    alpha[0:60, 60:100] = 255  # head
    alpha[60:75, 72:88] = 255  # neck
    alpha[75:, 10:150] = 255
    cutout = Cutout(np.dstack([np.zeros((300, 160, 3), np.uint8), alpha]), 0.5)
    first, last = worn(cutout, where="top").garment_rows
    assert 58 <= first * 300 <= 75
    assert last == 1.0
    assert worn(Cutout(cutout.rgba[75:], 0.5), where="top").garment_rows == (0.0, 1.0)
    assert worn(cutout, where="bottom").garment_rows[1] < 1.0


def test_real_photos_give_plausible_masks(shared_data: Path) -> None:
    with (shared_data / "clothing" / "items.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["label"] in ("T-Shirt", "Dress", "Pants")][:24]
    found = 0
    for row in rows:
        photo = np.asarray(Image.open(shared_data / "clothing" / row["image"]).convert("RGB"))
        try:
            cutout = cut_out(photo)
        except DataError:
            continue
        found += 1
        assert PLAUSIBLE[0] <= cutout.coverage <= PLAUSIBLE[1]
        middle = cutout.rgba[cutout.rgba.shape[0] // 3 : 2 * cutout.rgba.shape[0] // 3, ..., 3]
        assert (middle > 127).mean() > 0.3
    assert found >= 20
