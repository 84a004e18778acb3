"""Shop images of drawn garments."""

from __future__ import annotations

import numpy as np

from threadmatch.model.synthetic.drawn.shop_image import SHOP_IMAGE_PX, draw_shop_image
from threadmatch.model.synthetic.garments.garment import garment


def test_the_same_garment_gives_the_same_pixels() -> None:
    before = draw_shop_image(garment(3, 41))
    for index in range(3):
        draw_shop_image(garment(3, index))
    np.testing.assert_array_equal(draw_shop_image(garment(3, 41)), before)
    assert (draw_shop_image(garment(4, 41)) != before).any()


def test_a_shop_image_has_the_size_asked_for() -> None:
    picture = draw_shop_image(garment(3, 1))
    assert picture.shape == (SHOP_IMAGE_PX[1], SHOP_IMAGE_PX[0], 3)
    assert picture.dtype == np.uint8
    assert draw_shop_image(garment(3, 1), size_px=(160, 120)).shape == (120, 160, 3)


def test_a_garment_lies_whole_on_near_white() -> None:
    for index in range(40):
        picture = draw_shop_image(garment(9, index), size_px=(96, 120))
        edges = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
        assert edges.min() > 225
        inside = np.abs(picture.astype(np.int16) - edges.mean(axis=0)).max(axis=2) > 8
        assert 0.08 < inside.mean() < 0.8


def test_cloth_is_shaded_not_flat() -> None:
    item = next(g for g in (garment(6, i) for i in range(99)) if g.look.pattern == "plain" and g.category == "sweater")
    picture = draw_shop_image(item)
    chest = picture[150:230, 110:180].astype(np.float32)
    assert chest.std(axis=(0, 1)).max() > 2
