"""What a catalogue of people in the street is worth, with its garments found and without."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np

from tests.support.street import passer_by
from threadmatch.service.bench.worn_catalogue import WAYS, measure


def test_every_way_is_measured_on_the_same_garments(tmp_path: Path) -> None:
    (tmp_path / "street.jpg").write_bytes(passer_by())
    pixels = cv2.imdecode(np.frombuffer(passer_by(), np.uint8), cv2.IMREAD_COLOR)
    cv2.imwrite(str(tmp_path / "coat.jpg"), pixels[30:300, 180:350])
    for name, rows in {
        "gallery.csv": [("image", "product_id", "category"), ("coat.jpg", "coat", "outerwear")],
        "queries.csv": [
            ("image", "box", "setup", "product_id", "category"),
            ("street.jpg", "1,1,50,50", "worn_cropped", "coat", "outerwear"),
            ("street.jpg", "180,30,350,300", "worn", "coat", "outerwear"),
        ],
    }.items():
        with (tmp_path / name).open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    (tmp_path / "work").mkdir()
    found = measure(tmp_path, tmp_path / "work")
    assert list(found) == list(WAYS)
    assert all(one.items == 1 and one.top1 == one.top5 == 100 for one in found.values())
