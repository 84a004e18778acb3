"""Photos unpacked in processes and in threads: the same result, small before large, work for nobody ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import numpy as np
import pytest

from tests.support.patience import PATIENCE_S, until
from tests.support.serving import photo
from threadmatch.model.errors import InvalidImageError
from threadmatch.model.images import Box, ImageLimits, decode_image, display_photo, load_image
from threadmatch.service.bench.hostile_files import MIB, float_tiff, large_png, picture
from threadmatch.service.queues.decoding import DecodeRules, Decoding

SIDE_PX = 48
LIMITS = ImageLimits()


@pytest.fixture(scope="module", params=["processes", "threads"])
def decoding(request: pytest.FixtureRequest) -> Iterator[Decoding]:
    one = Decoding(SIDE_PX, LIMITS, DecodeRules(where=request.param, large=1))
    one.warm()
    yield one
    one.close()


@pytest.mark.parametrize("box", [None, "10,20,100,900"])
async def test_both_ways_unpack_as_the_one_preprocessing_does(decoding: Decoding, box: str | None) -> None:
    data = photo(3, size=(300, 200))
    prepared, image = load_image(data, image_px=SIDE_PX, box=None if box is None else Box.parse(box))
    found = await decoding.photo(data, box=box, show="box")
    assert (found.prepared.pixels == prepared.pixels).all()
    assert (found.prepared.width, found.prepared.height, found.prepared.box) == (300, 200, prepared.box)
    assert found.shown == display_photo(image, prepared.box)
    assert (await decoding.photo(data, box=box, show="all")).shown == display_photo(image)
    assert (await decoding.photo(data, box=box)).shown == b""


async def test_a_whole_picture_comes_as_it_is_decoded(decoding: Decoding) -> None:
    data = photo(3, size=(700, 500))
    expected = decode_image(data, long_side_hint_px=200)
    found = await decoding.picture(data, long_side_px=200)
    assert (found.width, found.height, found.picture.size) == (700, 500, expected.picture.size)
    np.testing.assert_array_equal(found.pixels, expected.pixels)


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "empty"), (b"no image", "not_an_image"), (photo(1)[:300], "truncated"),
     (picture("PNG", (4, 4)), "too_small"), (bytes(33 * MIB), "too_many_bytes")],
)  # fmt: skip
async def test_bad_files_are_refused_for_the_same_reasons(decoding: Decoding, data: bytes, reason: str) -> None:
    with pytest.raises(InvalidImageError) as caught:
        await decoding.photo(data)
    assert caught.value.reason == reason


async def test_a_small_photo_does_not_wait_for_large_ones(decoding: Decoding) -> None:
    large = [asyncio.create_task(decoding.photo(large_png(4000))) for _ in range(3)]
    await until(lambda: decoding.large.running == 1)
    await decoding.photo(photo(1))
    assert not all(task.done() for task in large)
    await asyncio.gather(*large)


async def test_work_for_a_caller_that_left_is_ended(decoding: Decoding) -> None:
    tasks = [asyncio.create_task(decoding.photo(large_png(6000))) for _ in range(3)]
    await until(lambda: decoding.large.running == 1 and decoding.large.waiting == 2)
    for task in tasks:
        task.cancel()
    await until(lambda: decoding.large.running == 0 and decoding.large.waiting == 0)
    await decoding.photo(large_png(3000))


async def test_a_photo_that_needs_more_than_there_is_is_refused_by_its_header() -> None:
    one = Decoding(SIDE_PX, LIMITS, DecodeRules(small_bytes=4 * MIB, large_bytes=16 * MIB))
    with pytest.raises(InvalidImageError, match="at most 16 are there") as caught:
        await one.photo(float_tiff(2000))
    assert caught.value.reason == "too_many_pixels"
    one.close()


async def test_a_photo_that_takes_too_long_is_stopped_and_the_next_one_is_unpacked() -> None:
    one = Decoding(SIDE_PX, LIMITS, DecodeRules(where="processes", timeout_s=0.2, small=1))
    one.warm()
    with pytest.raises(InvalidImageError) as caught:
        await one.photo(large_png(7900))
    assert caught.value.reason == "too_slow"
    found = None
    async with asyncio.timeout(PATIENCE_S):
        while found is None:
            with contextlib.suppress(InvalidImageError):  # a fifth of a second is little on a busy machine
                found = await one.photo(photo(1))
    assert found.prepared.width == 120
    one.close()
