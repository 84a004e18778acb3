from __future__ import annotations

import numpy as np
import pytest

from threadmatch.model.evaluate.garments_found import TrueGarment, TruePhoto
from threadmatch.model.evaluate.garments_searched import on_white
from threadmatch.model.images import Box


def test_a_cut_out_garment_lies_on_white_with_a_margin() -> None:
    mask = np.zeros((100, 80), bool)
    mask[20:60, 10:50] = True
    garment = TrueGarment("top", "shirt", Box(10 / 80, 0.2, 50 / 80, 0.6), float(mask.mean()), mask)
    pixels = on_white(TruePhoto("one", np.full((100, 80, 3), 7, np.uint8), [garment]), garment).pixels
    assert pixels.shape[0] == pytest.approx(44, abs=1)
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[22, 22].tolist() == [7, 7, 7]
