"""Street queries: what they say about themselves is true, and the same seed makes the same picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.support.snapshots import shirt_photo
from threadmatch.model.data.setups import HARD_FRACTION, Setup
from threadmatch.model.synthetic.street.cutout import Cutout, cut_out
from threadmatch.model.synthetic.street.occluders import cover_up, over
from threadmatch.model.synthetic.street.relighting import photograph, relight
from threadmatch.model.synthetic.street.street_query import (
    EASY_LOST,
    LONG_SIDE_PX,
    MOST_LOST,
    _warp,
    make_background,
    street_query,
)

GROUND = np.full((200, 160, 3), (90, 120, 90), np.uint8)


@pytest.fixture(scope="module")
def shirts() -> list[Cutout]:
    return [cut_out(shirt_photo(seed), method="white") for seed in range(4)]


@pytest.mark.parametrize("setup", Setup)
def test_a_query_is_what_its_setup_says(setup: Setup, shirts: list[Cutout]) -> None:
    for seed in range(40):
        query = street_query(
            shirts[seed % 4], GROUND, setup=setup, rng=np.random.default_rng(seed), others=shirts[: seed % 4]
        )
        height, width = query.image.shape[:2]
        assert query.image.dtype == np.uint8
        assert LONG_SIDE_PX[0] <= max(height, width) < LONG_SIDE_PX[1]
        assert 0 <= query.box.x0 < query.box.x1 <= width
        assert 0 <= query.box.y0 < query.box.y1 <= height
        assert query.setup is setup
        hard_crop, hard_cover = setup is Setup.HARD_CROPPING, setup is Setup.HARD_OCCLUSION
        low, high = (HARD_FRACTION, MOST_LOST) if hard_crop else (-1e-9, EASY_LOST)
        assert low < query.cropped_fraction <= high + 1e-6
        low, high = (HARD_FRACTION, MOST_LOST) if hard_cover else (-1e-9, EASY_LOST)
        assert low < query.occluded_fraction <= high + 1e-6


def test_the_garment_is_inside_the_box_and_nowhere_else() -> None:
    red = np.zeros((120, 100, 4), np.uint8)
    red[..., 0], red[..., 3] = 255, 255
    for seed in range(20):
        query = street_query(Cutout(red, 0.5), GROUND, setup=Setup.EASY, rng=np.random.default_rng(seed))
        redness = query.image[..., 0].astype(int) - query.image[..., 1]
        found = cv2.boundingRect(cv2.medianBlur((redness > 60).astype(np.uint8), 5))
        x, y, w, h = found
        np.testing.assert_allclose(
            (query.box.x0, query.box.y0, query.box.x1, query.box.y1), (x, y, x + w, y + h), atol=12
        )


def test_the_same_seed_makes_the_same_query_and_another_does_not(shirts: list[Cutout]) -> None:
    def make(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        background = make_background(shirt_photo(9, ground="carpet"), rng)
        return street_query(shirts[0], background, setup=Setup.HARD_OCCLUSION, rng=rng, others=shirts).image

    np.testing.assert_array_equal(make(3), make(3))
    assert make(3).shape != make(4).shape or (make(3) != make(4)).any()


def test_making_a_query_changes_nothing_it_was_given(shirts: list[Cutout]) -> None:
    cutout, ground = shirts[0].rgba.copy(), GROUND.copy()
    for setup in Setup:
        street_query(shirts[0], ground, setup=setup, rng=np.random.default_rng(1), others=shirts, may_flip=True)
    np.testing.assert_array_equal(shirts[0].rgba, cutout)
    np.testing.assert_array_equal(ground, GROUND)


def test_rows_that_are_the_wearer_count_for_nothing(shirts: list[Cutout]) -> None:
    whole = shirts[0]
    lower = Cutout(whole.rgba, whole.coverage, garment_rows=(0.5, 1.0))
    for seed in range(8):
        of_all = street_query(whole, GROUND, setup=Setup.EASY, rng=np.random.default_rng(seed))
        of_lower = street_query(lower, GROUND, setup=Setup.EASY, rng=np.random.default_rng(seed))
        assert of_lower.box.height < of_all.box.height or of_lower.box.width < of_all.box.width


def test_a_warp_bends_and_does_not_tear(shirts: list[Cutout]) -> None:
    ramp = np.tile(np.linspace(0, 255, 160, dtype=np.uint8)[:, None, None], (1, 140, 4))
    ramp[..., 3] = 255
    for seed in range(12):
        layer = _warp(Cutout(ramp, 0.5), (360, 300), Setup.EASY, np.random.default_rng(seed), flip=False)
        inside = cv2.erode((layer.rgba[..., 3] == 255).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        steps = np.abs(np.diff(layer.rgba[..., 0].astype(int), axis=1))[inside[:, 1:] & inside[:, :-1]]
        assert steps.max() < 12, "neighbours in the cutout stay neighbours"


def test_relighting_keeps_the_outline_and_nearly_the_hue() -> None:
    rgba = np.zeros((60, 50, 4), np.uint8)
    rgba[..., :3], rgba[10:50, 10:40, 3] = (180, 60, 40), 255
    for seed in range(30):
        lit = relight(rgba, np.random.default_rng(seed))
        np.testing.assert_array_equal(lit[..., 3], rgba[..., 3])
        red, green, blue = lit[10:50, 10:40, :3].reshape(-1, 3).mean(axis=0)
        assert red > 1.4 * green
        assert red > 1.4 * blue


def test_the_camera_keeps_the_picture_recognisable() -> None:
    picture = shirt_photo(1, ground="carpet")
    for seed in range(30):
        shot = photograph(picture, np.random.default_rng(seed))
        assert shot.shape == picture.shape
        grey, before = (cv2.cvtColor(p, cv2.COLOR_RGB2GRAY).astype(float).ravel() for p in (shot, picture))
        assert np.corrcoef(grey, before)[0, 1] > 0.7


def test_what_stands_in_front_hides_as_much_as_asked(shirts: list[Cutout]) -> None:
    garment = np.zeros((300, 220), np.uint8)
    garment[60:240, 50:170] = 255
    for seed in range(30):
        cover = cover_up(garment, (0.32, 0.62), np.random.default_rng(seed), shirts)
        assert cover is not None
        hidden = float((cover[60:240, 50:170, 3] / 255).mean())
        assert 0.32 <= hidden <= 0.62 + 1e-6


def test_a_layer_lies_over_a_picture_as_alpha_says() -> None:
    rng = np.random.default_rng(0)
    picture, layer = rng.integers(0, 256, (20, 30, 3), np.uint8), rng.integers(0, 256, (20, 30, 4), np.uint8)
    layer[:5, :, 3] = 0
    share = layer[..., 3:].astype(float) / 255
    expected = layer[..., :3] * share + picture * (1 - share)
    np.testing.assert_allclose(over(picture, layer), expected, atol=1)


def test_backgrounds_are_pictures_of_many_kinds() -> None:
    photo = shirt_photo(5, ground="carpet")
    pictures = [make_background(photo, np.random.default_rng(seed)) for seed in range(30)]
    assert all(p.dtype == np.uint8 and p.ndim == 3 and min(p.shape[:2]) >= 256 for p in pictures)
    means = np.array([p.mean(axis=(0, 1)) for p in pictures])
    assert len(np.unique(means.round(), axis=0)) == 30


@pytest.mark.parametrize("size", [(8, 6), (9, 400), (600, 10)])
def test_tiny_and_thin_garments_are_no_trouble(size: tuple[int, int]) -> None:
    rgba = np.full((*size, 4), 255, np.uint8)
    for setup in Setup:
        for seed in range(4):
            street_query(Cutout(rgba, 0.3), GROUND[:9, :7], setup=setup, rng=np.random.default_rng(seed))
