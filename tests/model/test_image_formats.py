"""What phones and broken servers send: the picture where there is one, else the file called by its name."""

from __future__ import annotations

import gzip
import importlib.util
import io

import numpy as np
import pytest
from PIL import Image

from threadmatch.model.errors import InvalidImageError
from threadmatch.model.image_formats import jpeg_scans, sniff_format
from threadmatch.model.images import ImageLimits, decode_image

HEIC_HEAD = b"\0\0\0\x1cftyp%s\0\0\0\0mif1miaf%s"


def noisy(format_: str = "JPEG", size: tuple[int, int] = (90, 70), **options: object) -> bytes:
    pixels = np.random.default_rng(3).integers(0, 256, (size[1], size[0], 3), np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, format_, **options)
        return file.getvalue()


def reason(data: bytes) -> tuple[str, str]:
    with pytest.raises(InvalidImageError) as caught:
        decode_image(data)
    return caught.value.reason, str(caught.value)


@pytest.mark.parametrize("progressive", [True, False])
def test_what_a_phone_puts_behind_the_picture_is_no_part_of_it(progressive: bool) -> None:
    jpeg = noisy(progressive=progressive)
    video = b"\0\0\0\x18ftypmp42" + b"\xff\xda\0\x08" * 5000
    scans, ends = jpeg_scans(jpeg + video)
    assert ends
    assert scans == (jpeg.count(b"\xff\xda\0") if progressive else 1)
    np.testing.assert_array_equal(decode_image(jpeg + video).pixels, decode_image(jpeg).pixels)


def test_scans_before_the_end_are_counted_whatever_stands_between_them() -> None:
    jpeg = noisy()
    at = jpeg.index(b"\xff\xda")
    many = jpeg[:at] + (jpeg[at:-2] + b"garbage\xff\xff\xfe\0\x04hi") * 100 + jpeg[-2:]
    assert jpeg_scans(many) == (100, True)
    assert reason(many)[0] == "too_complex"


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 30}, {"subsampling": 0}])
@pytest.mark.parametrize("lost", [1, 2])
def test_a_jpeg_that_lacks_the_mark_of_its_end_alone_is_whole(options: dict[str, object], lost: int) -> None:
    jpeg = noisy(exif=_exif_with_thumbnail(), **options)
    np.testing.assert_array_equal(decode_image(jpeg[:-lost]).pixels, decode_image(jpeg).pixels)


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
@pytest.mark.parametrize("lost", [4, 40, 400])
def test_a_jpeg_that_lacks_more_than_that_is_truncated(options: dict[str, object], lost: int) -> None:
    assert reason(noisy(**options)[:-lost])[0] == "truncated"


def _exif_with_thumbnail() -> bytes:
    return b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + noisy(size=(16, 16))


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"<!doctype html><p>not found", "an HTML page"),
        (b"\xef\xbb\xbf\n  <HTML lang='en'>", "an HTML page"),
        (b"<?xml version='1.0'?>\n<!DOCTYPE html><html>", "an HTML page"),
        (b"<!-- cache --><html>", "an HTML page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML document"),
        (b"<Error><Code>NoSuchKey</Code></Error>", "XML document"),
        (b"<?xml version='1.0'?>\n<!-- made by -->\n<svg xmlns='x'/>", "an SVG drawing"),
        (b'{"message": "Forbidden"}', "JSON"),
        (b' [{"error": 1}]', "JSON"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\xff\x0a\xfa", "JPEG XL"),
        (gzip.compress(b"x", mtime=0), "gzip"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "a video"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "a video"),
        (b"RIFF\0\0\0\0AVI LIST", "a video"),
    ],
)
def test_strangers_are_called_what_they_are(data: bytes, named: str) -> None:
    said, message = reason(data)
    assert said == "unsupported_format"
    assert named in message


@pytest.mark.parametrize("head", [HEIC_HEAD % (b"heic", b"heic"), HEIC_HEAD % (b"mif1", b"heix")])
def test_a_heic_photo_is_called_one_whatever_brand_comes_first(head: bytes) -> None:
    if importlib.util.find_spec("pillow_heif") is not None:
        assert sniff_format(head) == "HEIF"
        return
    said, message = reason(head)
    assert said == "unsupported_format"
    assert "HEIC" in message
    assert "threadmatch[heic]" in message


def test_a_still_picture_of_another_coding_is_avif() -> None:
    assert sniff_format(HEIC_HEAD % (b"mif1", b"avif")) == "AVIF"
    assert sniff_format(noisy("AVIF")) == "AVIF"


def test_a_heic_photo_is_read_and_upright_where_the_extra_is_installed() -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra `heic` is not installed")
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, :30] = (220, 30, 30)
    turned = Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter to see it upright
    with io.BytesIO() as file:
        pillow_heif.from_pillow(turned).save(file, exif=exif.tobytes())
        image = decode_image(file.getvalue())
    assert (image.width, image.height) == (60, 40)
    assert image.pixels[20, 5, 0] > 150
    assert image.pixels[20, 55, 0] < 60


def test_a_photo_of_48_megapixels_is_within_the_limits() -> None:
    assert ImageLimits().max_pixels >= 8064 * 6048
    data = _large()
    assert len(data) <= ImageLimits().max_bytes
    image = decode_image(data, long_side_hint_px=512)
    assert (image.width, image.height) == (8064, 6048)


def _large() -> bytes:
    with io.BytesIO() as file:
        Image.radial_gradient("L").resize((8064, 6048)).convert("RGB").save(file, "JPEG", quality=90)
        return file.getvalue()
