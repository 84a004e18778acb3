"""The picture of a whole street photo: put together from photos that ship, searched garment by garment."""

from __future__ import annotations

from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from threadmatch.model.errors import DataError
from threadmatch.model.synthetic.street.outfit import HEIGHT, TOPS, WIDTH, outfit
from threadmatch.model.synthetic.street.street_set import read_sources
from threadmatch.service.demo.outfit_picture import write_outfit_picture
from threadmatch.service.demo.sources import SHIPPED_PHOTOS


def test_an_outfit_is_a_top_trousers_and_a_hat_and_depends_on_its_seed_alone() -> None:
    photos = read_sources(SHIPPED_PHOTOS, ["clothing"])
    picture, worn = outfit(photos, seed=0)
    assert (picture.shape, picture.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
    top, *others = (dict(photo.row)["category"] for photo in worn)
    assert top in TOPS
    assert others == ["Pants", "Hat"]
    again, _ = outfit(photos, seed=0)
    assert np.array_equal(picture, again)
    with pytest.raises(DataError, match="no garment of Hat among"):
        outfit([photo for photo in photos if dict(photo.row)["category"] != "Hat"], seed=0)


def test_the_picture_shows_the_photo_beside_the_matches_of_each_garment(address: str, tmp_path: Path) -> None:
    with httpx.Client(base_url=address, timeout=60) as client:
        found = write_outfit_picture(tmp_path / "outfit.png", client, seed=0)
    with Image.open(tmp_path / "outfit.png") as picture:
        assert picture.width > picture.height
    assert not any(found), "this gallery holds drawn photos"
