"""Street queries from any photos: answers known, photos that can't be used passed over, the same from the same seed."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from threadmatch.model.data.setups import Setup
from threadmatch.model.images import Box
from threadmatch.model.synthetic.drawn.shop_image import draw_shop_image
from threadmatch.model.synthetic.garments.garment import garment
from threadmatch.model.synthetic.street.streetify import SourcePhoto, make_street_queries


def photo_of(folder: Path, number: int) -> SourcePhoto:
    path = folder / f"{number}.png"
    Image.fromarray(draw_shop_image(garment(5, number))).save(path)
    return SourcePhoto(path, f"item-{number}", f"product-{number // 2}", f"owner-{number}")


def test_queries_carry_their_answer_and_take_turns(tmp_path: Path) -> None:
    photos = [photo_of(tmp_path, number) for number in range(12)]
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    photos += [SourcePhoto(tmp_path / name, name, name, name) for name in ("broken.png", "missing.png")]
    rows = make_street_queries(photos, tmp_path / "out", count=5, seed=1)
    assert [row.setup for row in rows] == [*Setup, Setup.EASY]
    assert len({row.product_id for row in rows}) == 5, "one a product"
    known = {photo.id: photo.product_id for photo in photos}
    with (tmp_path / "out" / "queries.csv").open() as file:
        for row, written in zip(rows, csv.DictReader(file), strict=True):
            assert known[row.id] == row.product_id == written["product_id"]
            with Image.open(tmp_path / "out" / row.image) as picture:
                Box.parse(row.box).clipped(*picture.size)


def test_the_same_seed_makes_the_same_pictures_and_old_ones_go(tmp_path: Path) -> None:
    photos = [photo_of(tmp_path, number) for number in range(6)]
    out = tmp_path / "out"

    def pictures() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (out / "queries").iterdir()}

    make_street_queries(photos, out, count=3, seed=2)
    first = pictures()
    make_street_queries(photos[::-1], out, count=3, seed=2)
    assert pictures() == first, "whatever order the photos come in"
    assert len(make_street_queries(photos, out, count=1, seed=3)) == len(pictures()) == 1


def test_photos_without_a_garment_to_be_found_are_taken_whole(tmp_path: Path) -> None:
    flat = np.full((90, 70, 3), 130, np.uint8)
    Image.fromarray(flat).save(tmp_path / "flat.png")
    only = SourcePhoto(tmp_path / "flat.png", "flat", "flat", "flat")
    assert [row.id for row in make_street_queries([only], tmp_path / "out", count=2)] == ["flat"]
    assert make_street_queries([], tmp_path / "out", count=2) == []
