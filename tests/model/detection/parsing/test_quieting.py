from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from PIL import Image

from threadmatch.model.detection.parsing import quieting
from threadmatch.model.detection.parsing.garments import Choice, Garment
from threadmatch.model.detection.parsing.quieting import (
    MARGIN,
    garment_of_box,
    mask_of_crop,
    quiet,
    quiet_pixels,
    searched_box,
)
from threadmatch.model.images import Box, DecodedImage, prepare_image

S = 64
H, W = 40, 30


def _noise(height: int = S, width: int = S) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def _mask(height: int, width: int, box: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    y0, y1, x0, x1 = box
    mask[y0:y1, x0:x1] = 255
    return mask


def _garment(box: tuple[int, int, int, int], *, score: float = 0.9) -> Garment:
    mask = _mask(H, W, box)
    y0, y1, x0, x1 = box
    return Garment("top", Box(x0 / W, y0 / H, x1 / W, y1 / H), score, score, float((mask > 0).mean()), mask)


def test_the_garment_stays_and_the_ground_becomes_quiet() -> None:
    pixels, mask = _noise(), _mask(S, S, (16, 48, 16, 48))
    done = quiet_pixels(pixels, mask)
    np.testing.assert_array_equal(done[18:46, 18:46], pixels[18:46, 18:46])
    corner = np.s_[:10, :10]
    assert done[corner].std() < 0.3 * pixels[corner].std()


def test_a_mask_of_everything_changes_nothing() -> None:
    pixels = _noise()
    np.testing.assert_array_equal(quiet_pixels(pixels, np.full((S, S), 255, np.uint8)), pixels)


def test_a_mask_of_nothing_with_a_full_fade_leaves_one_colour() -> None:
    pixels = _noise()
    done = quiet_pixels(pixels, np.zeros((S, S), np.uint8), fade=1.0)
    assert np.ptp(done.reshape(-1, 3), axis=0).max() == 0
    np.testing.assert_allclose(done[0, 0], pixels.mean(axis=(0, 1)), atol=1)


def test_the_garments_colour_does_not_run_into_the_ground() -> None:
    pixels = np.full((S, S, 3), 255, np.uint8)
    pixels[20:44, 20:44] = (255, 0, 0)
    done = quiet_pixels(pixels, _mask(S, S, (19, 45, 19, 45)), fade=0.0)
    assert done[32, 10].tolist() == [255, 255, 255]


def test_a_wide_blur_on_half_the_rows_and_columns_stays_within_three_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    side = 224
    smooth = cv2.GaussianBlur(_noise(side, side).astype(np.float32), (0, 0), 6)
    pixels = np.clip((smooth - 128) * 12 + 128, 0, 255).astype(np.uint8)
    for box in ((40, 190, 60, 160), (0, 224, 14, 224), (0, 5, 0, 5)):
        mask = _mask(side, side, box)
        halved = quiet_pixels(pixels, mask).astype(int)
        with monkeypatch.context() as patch:
            patch.setattr(quieting, "COARSE_FROM_PX", np.inf)
            apart = np.abs(halved - quiet_pixels(pixels, mask))
        assert apart.max() <= 3
        assert 0 < apart.mean() < 0.5


def test_quieting_is_its_equation_written_as_loops() -> None:
    """Far from the mask's soft edge m is 0, and the blurs are plain sums with Gaussian weights."""
    pixels, mask = _noise(), _mask(S, S, (0, 64, 0, 12))
    done = quiet_pixels(pixels, mask, blur=2 / S, fade=0.25)
    outside = (1 - _kept(mask))[..., None]
    mean = (pixels * outside).sum(axis=(0, 1)) / outside.sum()
    y, x, reach = 32, 50, 8
    total, weight = np.zeros(3), 0.0
    for dy, dx in itertools.product(range(-reach, reach + 1), repeat=2):
        share = np.exp(-(dy * dy + dx * dx) / (2 * 2.0**2)) * float(outside[y + dy, x + dx, 0])
        total += share * pixels[y + dy, x + dx]
        weight += share
    np.testing.assert_allclose(done[y, x], 0.75 * total / weight + 0.25 * mean, atol=2)


def _kept(mask: np.ndarray) -> np.ndarray:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    return cv2.GaussianBlur(cv2.dilate(mask, kernel), (0, 0), 1) / 255.0


def test_a_mask_is_cut_as_the_photo_is() -> None:
    image = DecodedImage(Image.fromarray(_noise(200, 150)), 150, 200)
    mask = _mask(H, W, (10, 20, 6, 12))
    prepared = prepare_image(image, image_px=S, box=Box(30, 50, 60, 100))
    assert mask_of_crop(mask, prepared)[8:-8, 8:-8].min() == 255
    below = prepare_image(image, image_px=S, box=Box(30, 110, 60, 160))
    assert mask_of_crop(mask, below)[4:].max() == 0
    assert quiet(prepared, mask).box == prepared.box


def test_a_box_means_the_garment_that_fills_it() -> None:
    top, skirt = _garment((5, 20, 8, 22)), _garment((20, 36, 8, 22))
    assert garment_of_box([top, skirt], Box(8 / W, 19 / H, 22 / W, 37 / H)) is skirt


@pytest.mark.parametrize("box", [Box(0.0, 0.0, 0.2, 0.1), Box(8 / W, 5 / H, 12 / W, 9 / H)])
def test_a_box_that_means_something_else_leaves_the_photo_alone(box: Box) -> None:
    assert garment_of_box([_garment((5, 20, 8, 22))], box) is None


def test_an_unsure_garment_is_not_meant() -> None:
    assert garment_of_box([_garment((5, 20, 8, 22), score=0.5)], Box(8 / W, 5 / H, 22 / W, 20 / H)) is None


def test_the_searched_box_is_a_little_wider_and_inside_the_photo() -> None:
    garment = _garment((0, 20, 10, 20))
    box = searched_box(Choice(garment, False, "garment"), 300, 400)
    assert box is not None
    assert box.y0 == 0
    assert box.x0 == pytest.approx(100 - MARGIN * 100)
    assert box.y1 == pytest.approx(200 + MARGIN * 200)


def test_without_a_sure_garment_or_with_one_alone_the_whole_photo_is_searched() -> None:
    garment = _garment((0, 20, 10, 20))
    assert searched_box(Choice(None, False, "unsure"), 300, 400) is None
    assert searched_box(Choice(garment, True, "one_garment"), 300, 400) is None
