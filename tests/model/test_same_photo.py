"""One photo saved again is one photo; another colour, another detail or another garment is not."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.support.snapshots import shirt_photo
from threadmatch.model.same_photo import is_same_photo, lab_square


def shirt(seed: int = 0, *, noise: int = 4) -> Image.Image:
    """A striped shirt on white, with a grain as cameras make it."""
    pixels = shirt_photo(seed, size=(480, 400)).astype(np.int16)
    grain = np.random.default_rng([seed, 1]).normal(0, noise, pixels.shape)
    return Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))


def saved(picture: Image.Image, quality: int = 85) -> bytes:
    with io.BytesIO() as file:
        picture.save(file, "JPEG", quality=quality)
        return file.getvalue()


def same(first: Image.Image, second: Image.Image, *, quality: int = 85) -> bool:
    one, other = lab_square(saved(first)), lab_square(saved(second, quality))
    verdict = is_same_photo(one, other)
    assert is_same_photo(other, one) == verdict, "whichever is asked first"
    return verdict


def cropped(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    return picture.crop((int(0.03 * width), int(0.01 * height), int(0.98 * width), int(0.97 * height)))


def recolored(picture: Image.Image) -> Image.Image:
    """The shirt a little warmer; what is white stays white."""
    pixels = np.asarray(picture).astype(np.int16)
    cloth = pixels.min(axis=-1, keepdims=True) < 235
    return Image.fromarray(np.clip(pixels + cloth * np.array([14, 0, -14]), 0, 255).astype(np.uint8))


def with_logo(picture: Image.Image) -> Image.Image:
    changed = picture.copy()
    ImageDraw.Draw(changed).ellipse((225, 150, 245, 170), fill="white", outline="black")
    return changed


@pytest.mark.parametrize("change", [
    lambda picture: picture,
    lambda picture: picture.resize((picture.width // 2, picture.height // 2)),
    lambda picture: picture.resize((picture.width * 3 // 2, picture.height * 3 // 2)),
    cropped,
])  # fmt: skip
def test_a_photo_saved_again_is_the_same(change: Callable[[Image.Image], Image.Image]) -> None:
    for seed in range(2):
        assert same(shirt(seed), change(shirt(seed)), quality=70)


@pytest.mark.parametrize("change", [recolored, with_logo])
def test_a_recolour_or_another_detail_is_not(change: Callable[[Image.Image], Image.Image]) -> None:
    for seed in range(2):
        assert not same(shirt(seed), change(shirt(seed)))


def test_another_garment_is_not() -> None:
    assert not any(same(shirt(0), shirt(seed)) for seed in range(1, 4))


def test_photos_of_one_colour_are_told_by_their_colour() -> None:
    white, red = Image.new("RGB", (40, 60), "white"), Image.new("RGB", (40, 60), "red")
    assert same(white, white)
    assert same(white, white.resize((400, 300)))
    assert not same(white, red)
    assert not same(white, shirt())


def test_a_part_of_a_photo_is_compared_by_itself() -> None:
    pair = Image.new("RGB", (800, 480))
    pair.paste(shirt(1), (0, 0))
    pair.paste(shirt(2), (400, 0))
    left, right = (lab_square(saved(pair), area) for area in ((0, 0, 0.5, 1), (0.5, 0, 1, 1)))
    assert is_same_photo(left, lab_square(saved(shirt(1))))
    assert not is_same_photo(right, left)
