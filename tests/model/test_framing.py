"""Photos are framed as each library frames them, and what a square shows is known in the photo's pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from timm.data.transforms_factory import transforms_imagenet_eval

from threadmatch.model.errors import ConfigError
from threadmatch.model.framing import SQUASHED, Framing
from threadmatch.model.images import DecodedImage, prepare_image

SIDE = 32
SIZES = [(60, 90), (90, 60), (41, 67), (40, 40), (33, 150)]
GREY = (128, 128, 128)


def picture(width: int, height: int) -> Image.Image:
    """Smooth colours with an edge: what interpolation shows in."""
    down, across = np.mgrid[:height, :width]
    channels = [np.sin(down / 5), np.cos(across / 7), np.where(across + down > width, 0.8, -0.8)]
    return Image.fromarray((127 + 120 * np.stack(channels, axis=-1)).astype(np.uint8))


def framed(image: Image.Image, framing: Framing) -> NDArray[np.int32]:
    decoded = DecodedImage(image, image.width, image.height)
    return prepare_image(decoded, image_px=SIDE, framing=framing).pixels.astype(np.int32)


def of_timm(mode: str, share: float) -> Callable[[Image.Image], Any]:
    return transforms_imagenet_eval(
        SIDE, crop_pct=share, crop_mode=mode, interpolation="bicubic", mean=(0.5,) * 3, std=(1.0,) * 3
    )  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("mode", "share", "framing"),
    [
        ("center", 0.875, Framing("crop", 36)),
        ("center", 1.0, Framing("crop")),
        ("squash", 1.0, Framing("squash")),
        ("squash", 0.8, Framing("squash", 40)),
        ("border", 1.0, Framing("pad", fill=GREY)),
        ("border", 0.9, Framing("pad", 35, fill=GREY)),
    ],
)
def test_a_photo_is_framed_as_timm_frames_it(mode: str, share: float, framing: Framing, size: tuple[int, int]) -> None:
    theirs = of_timm(mode, share)(picture(*size))
    apart = np.abs(framed(picture(*size), framing) - (theirs.permute(1, 2, 0).numpy() + 0.5) * 255)
    assert apart.max() <= 1.01, "another order of rounding, no other place"


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_a_photo_is_framed_as_open_clip_frames_it(mode: str) -> None:
    transform = pytest.importorskip("open_clip.transform", reason="the extra `open_clip` is not installed")
    fits = {"shortest": "crop", "longest": "pad", "squash": "squash"}
    for size in SIZES:
        theirs = transform.image_transform(SIDE, is_train=False, mean=(0.0,) * 3, std=(1.0,) * 3, resize_mode=mode)(
            picture(*size)
        )
        ours = framed(picture(*size), Framing.from_dict({"fit": fits[mode]}))
        assert np.abs(ours - 255 * theirs.permute(1, 2, 0).numpy()).max() <= 1.01, size


@pytest.mark.parametrize("framing", [SQUASHED, Framing("crop", 36), Framing("pad"), Framing("squash", 40)])
def test_what_a_square_shows_lies_where_it_is_said_to(framing: Framing) -> None:
    height, width = 80, 50
    box = (5.0, 10.0, 45.0, 70.0)
    spots = np.zeros((height, width, 3), np.uint8)
    spots[36:44, 20:30] = 255
    decoded = DecodedImage(Image.fromarray(spots).resize((100, 160)), width, height)  # decoded finer than asked
    x0, y0, x1, y1 = framing.shown(box, SIDE)
    pixels = framing.square(decoded.picture, box, SIDE, scale=(2, 2))[..., 0].astype(float)
    down, across = (np.arange(SIDE) + 0.5) / SIDE, (np.arange(SIDE) + 0.5) / SIDE
    middle = (pixels.sum(axis=0) @ across / pixels.sum(), pixels.sum(axis=1) @ down / pixels.sum())
    assert middle[0] * (x1 - x0) + x0 == pytest.approx(25, abs=0.6)
    assert middle[1] * (y1 - y0) + y0 == pytest.approx(40, abs=0.6)


def test_what_a_box_leaves_is_cropped_and_filled_within_the_box() -> None:
    image = picture(90, 60)
    inside = framed(image.crop((10, 5, 40, 55)), Framing("pad", fill=GREY))
    decoded = DecodedImage(image, 90, 60)
    square = Framing("pad", fill=GREY).square(decoded.picture, (10, 5, 40, 55), SIDE, scale=(1, 1)).astype(np.int32)
    filled = (inside == GREY).all(axis=(0, 2))
    assert filled.sum() == SIDE - round(SIDE * 30 / 50)
    assert (square[:, filled] == GREY).all()
    assert np.abs(square[:, ~filled] - inside[:, ~filled])[2:-2, 2:-2].max() <= 1


@pytest.mark.parametrize(
    "wrong", [{"fit": "stretch"}, {"interpolation": "magic"}, {"resize_px": -1}, {"fill": [0, 0, 300]}, {"odd": 1}]
)
def test_a_framing_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="framing"):
        Framing.from_dict(wrong)
