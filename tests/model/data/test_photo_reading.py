"""Photos decoded in other processes are those decoded in this one; one that cannot be read is named from there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from threadmatch.model.data.pairs import NO_SETUP, LabelledImage
from threadmatch.model.data.photo_reading import CHUNK, decoded
from threadmatch.model.errors import DataError

COUNT = 2 * CHUNK + 3


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[LabelledImage]:
    folder = tmp_path_factory.mktemp("photos")
    images = []
    for n in range(COUNT):
        path = folder / f"{n}.png"
        Image.new("RGB", (12, 10), (n, 2 * n, 255 - n)).save(path)
        images.append(LabelledImage(path, path.name, f"p{n}", None, NO_SETUP, ""))
    return images


def test_they_come_in_order_wherever_they_are_decoded(images: list[LabelledImage]) -> None:
    there, here = ([*decoded(images, image_px=8, workers=workers)] for workers in (2, 3))
    assert [len(chunk) for chunk in there] == [CHUNK, CHUNK, 3]
    np.testing.assert_array_equal(np.concatenate(there), np.concatenate(here))
    assert [tuple(one[4, 4]) for one in np.concatenate(there)] == [(n, 2 * n, 255 - n) for n in range(COUNT)]


@pytest.mark.parametrize("workers", [2, 3])
def test_one_that_cannot_be_read_is_named(images: list[LabelledImage], tmp_path: Path, workers: int) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    last = LabelledImage(broken, "broken", "p", None, NO_SETUP, "")
    with pytest.raises(DataError, match=r"broken\.png"):
        list(decoded([*images[:-1], last], image_px=8, workers=workers))
