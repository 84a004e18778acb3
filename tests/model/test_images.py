"""Bytes to what the model sees: every colour form comes out right, everything else is refused with a reason."""

from __future__ import annotations

import contextlib
import io
import random
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from tests.support.hostile import QUARTERS, SIZE, HostileImage, encoded, hostile_images, picture, usual_files
from threadmatch.model.errors import InvalidImageError
from threadmatch.model.images import (
    DISPLAY_PHOTO_PX,
    Box,
    DecodedImage,
    ImageLimits,
    decode_image,
    display_photo,
    load_image,
    prepare_image,
)

# Pillow warns of odd metadata on its way to reading a photo all the same.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")

CASES = hostile_images()
GOOD = {name: case for name, case in CASES.items() if case.reason is None}
BOMB = "png bomb, 60000 x 60000 in its header"
BAD = {name: case for name, case in CASES.items() if case.reason is not None}


def quarters_of(pixels: np.ndarray) -> np.ndarray:
    """(4, 3): mean colour of the middle of each quarter."""
    height, width = pixels.shape[:2]
    middles = []
    for y, x in ((0, 0), (0, 1), (1, 0), (1, 1)):
        rows = slice(int(height * (0.125 + y / 2)), int(height * (0.375 + y / 2)))
        columns = slice(int(width * (0.125 + x / 2)), int(width * (0.375 + x / 2)))
        middles.append(pixels[rows, columns].reshape(-1, 3).mean(axis=0))
    return np.array(middles)


def read_or_refuse(data: bytes) -> None:
    """Fails with whatever is not an InvalidImageError."""
    with contextlib.suppress(InvalidImageError):
        prepared, _ = load_image(data, image_px=32, limits=ImageLimits(max_pixels=1_000_000))
        assert prepared.pixels.shape == (32, 32, 3)


def test_the_corpus_has_both_good_and_bad_files() -> None:
    assert len(GOOD) > 35
    assert len(BAD) > 25


@pytest.mark.parametrize("name", GOOD)
def test_every_colour_form_and_rotation_comes_out_upright_and_right(name: str) -> None:
    case: HostileImage = GOOD[name]
    image = decode_image(case.data)
    assert image.picture.mode == "RGB"
    assert image.picture.info == {}
    assert (image.width, image.height) == image.picture.size == case.size
    np.testing.assert_allclose(quarters_of(image.pixels), case.quarters, atol=case.tolerance)


@pytest.mark.parametrize("name", GOOD)
def test_the_prepared_image_shows_the_same_colours(name: str) -> None:
    case = GOOD[name]
    prepared, image = load_image(case.data, image_px=48)
    assert prepared.pixels.shape == (48, 48, 3)
    assert prepared.pixels.dtype == np.uint8
    assert prepared.box == Box(0, 0, image.width, image.height)
    np.testing.assert_allclose(quarters_of(prepared.pixels), case.quarters, atol=case.tolerance)


@pytest.mark.parametrize("name", BAD)
def test_every_bad_file_is_refused_for_its_reason(name: str) -> None:
    with pytest.raises(InvalidImageError) as caught:
        load_image(BAD[name].data, image_px=48)
    assert caught.value.reason == BAD[name].reason
    assert any(word in str(caught.value) for word in ("send", "save")), "the message says what to do"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(name=st.sampled_from(sorted(usual_files())), seed=st.integers(0, 2**32 - 1), changes=st.integers(1, 30))
def test_mutated_files_are_read_or_refused_and_never_anything_else(name: str, seed: int, changes: int) -> None:
    rng = random.Random(seed)
    data = bytearray(usual_files()[name])
    for _ in range(changes):
        at = rng.randrange(len(data))
        kind = rng.random()
        if kind < 0.7:
            data[at] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        elif kind < 0.85 and len(data) > 40:
            del data[at : at + rng.randrange(1, 20)]
        else:
            data[at:at] = rng.randbytes(rng.randrange(1, 20))
    read_or_refuse(bytes(data))


@settings(max_examples=150, deadline=None)
@given(start=st.sampled_from([data[:16] for data in usual_files().values()]), rest=st.binary(max_size=400))
def test_noise_behind_a_good_start_is_refused_and_never_anything_else(start: bytes, rest: bytes) -> None:
    read_or_refuse(start + rest)


def test_pillow_s_own_switches_stay_as_they_were() -> None:
    load_image(GOOD["jpeg"].data, image_px=48)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    assert Image.MAX_IMAGE_PIXELS is not None


def test_a_limit_above_pillow_s_own_is_refused_as_too_many_pixels() -> None:
    with pytest.raises(InvalidImageError) as caught:
        load_image(
            BAD["png bomb, 60000 x 60000 in its header"].data, image_px=32, limits=ImageLimits(max_pixels=10**12)
        )
    assert caught.value.reason == "too_many_pixels"


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("box", [None, Box(1800, 1300, 2200, 1700), Box(10, 20, 2990, 1990)])
def test_a_large_jpeg_decoded_smaller_equals_the_full_decoding(orientation: int, box: Box | None) -> None:
    rng = np.random.default_rng(3)
    smooth = Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).resize(
        (3000, 2000), Image.Resampling.BICUBIC
    )
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(smooth, "JPEG", quality=92, exif=exif.tobytes())
    if box is not None and orientation == 6:
        box = Box(box.y0, box.x0, box.y1, box.x1)
    prepared, image = load_image(data, image_px=64, box=box)
    whole = decode_image(data)
    assert (image.width, image.height) == (whole.width, whole.height) == whole.picture.size
    expected = prepare_image(whole, image_px=64, box=box)
    assert prepared.box == expected.box
    difference = np.abs(prepared.pixels.astype(int) - expected.pixels)
    assert difference.mean() < 1.5
    assert difference.max() <= 12


def test_a_small_box_keeps_its_resolution_and_a_whole_photo_is_decoded_small() -> None:
    data = encoded(picture((4000, 3000)), "JPEG")
    _, whole = load_image(data, image_px=64)
    assert max(whole.picture.size) < 1100
    assert max(whole.picture.size) >= DISPLAY_PHOTO_PX
    _, small = load_image(data, image_px=64, box=Box(0, 0, 64, 64))
    assert small.picture.size == (4000, 3000)


def test_large_files_of_other_formats_are_kept_small_too() -> None:
    _, image = load_image(encoded(picture((3000, 2000)), "PNG"), image_px=64)
    assert DISPLAY_PHOTO_PX <= max(image.picture.size) < 1100
    assert (image.width, image.height) == (3000, 2000)


def test_a_box_is_cut_out_in_pixels_of_the_upright_original() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(picture().transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, exif=exif.tobytes())
    prepared, _ = load_image(data, image_px=32, box=Box(56, 4, 92, 28))  # inside the upper right quarter
    np.testing.assert_allclose(prepared.pixels[8:24, 8:24].reshape(-1, 3).mean(axis=0), QUARTERS[1], atol=6)


def test_the_crop_is_squashed_and_not_padded() -> None:
    striped = np.zeros((40, 80, 3), np.uint8)
    striped[:, 40:] = 255
    image = DecodedImage(Image.fromarray(striped), 80, 40)
    pixels = prepare_image(image, image_px=20).pixels
    assert pixels[:, :8].max() < 10
    assert pixels[:, 12:].min() > 245


def test_a_box_reads_as_it_prints() -> None:
    assert Box.parse("1,2.5, 30,40") == Box(1, 2.5, 30, 40) == Box.parse(str(Box(1, 2.5, 30, 40)))
    assert Box.parse("[1, 2, 3, 4]") == Box(1, 2, 3, 4)


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "nan,0,1,1", "0,0,inf,1", "5,0,5,9", "9,0,5,9"])
def test_a_box_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(InvalidImageError) as caught:
        Box.parse(text)
    assert caught.value.reason == "bad_box"


def test_a_box_is_clipped_to_the_image_and_refused_outside_of_it() -> None:
    assert Box(-5, -5, 20, 700).clipped(100, 50) == Box(0, 0, 20, 50)
    for box in (Box(100, 0, 120, 50), Box(-10, 0, 0.5, 50), Box(10, 10, 10.4, 20)):
        with pytest.raises(InvalidImageError) as caught:
            box.clipped(100, 50)
        assert caught.value.reason == "bad_box"


def test_the_display_photo_is_small_and_carries_nothing() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a secret"
    data = encoded(picture((1200, 700)), "JPEG", exif=exif.tobytes(), comment=b"a secret", icc_profile=b"a secret" * 50)
    shown = display_photo(load_image(data, image_px=64)[1])
    with Image.open(io.BytesIO(shown)) as photo:
        assert photo.format == "JPEG"
        assert photo.size == (512, 299)
        assert not photo.getexif()
        assert "icc_profile" not in photo.info
    assert b"a secret" not in shown
    np.testing.assert_allclose(quarters_of(decode_image(shown).pixels), QUARTERS, atol=6)


def test_the_display_photo_of_a_small_image_keeps_its_size() -> None:
    assert decode_image(display_photo(decode_image(GOOD["png"].data))).picture.size == SIZE


def test_many_threads_read_the_same_as_one() -> None:
    expected = {name: load_image(case.data, image_px=32)[0].pixels for name, case in GOOD.items()}
    failures: list[str] = []

    def read(offset: int) -> None:
        names = sorted(GOOD)
        for name in names[offset:] + names[:offset]:
            if not np.array_equal(load_image(GOOD[name].data, image_px=32)[0].pixels, expected[name]):
                failures.append(name)

    threads = [threading.Thread(target=read, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_real_photos_are_read(shared_data: Path) -> None:
    for photo in sorted((shared_data / "luma" / "images").iterdir())[:20]:
        prepared, image = load_image(photo.read_bytes(), image_px=64)
        with Image.open(photo) as original:
            assert original.size == (image.width, image.height)
        assert prepared.pixels.std() > 5


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_bomb_costs_no_memory() -> None:
    def peak_kib() -> int:
        return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

    before = peak_kib()
    for name in (BOMB, "gif bomb, 65535 x 65535", "png text bomb"):
        with pytest.raises(InvalidImageError):
            load_image(BAD[name].data, image_px=32)
    assert peak_kib() - before < 64 * 1024
