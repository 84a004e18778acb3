"""Drawn and street sets come with a manifest that says what their tables say."""

from __future__ import annotations

from pathlib import Path

import pytest

from threadmatch.model.data.manifest.check import CheckSettings, check_manifest
from threadmatch.model.data.manifest.join import write_joined_manifest
from threadmatch.model.data.manifest.rows import Domain, Manifest, ManifestRow, Split
from threadmatch.model.data.tables.labelled import open_table
from threadmatch.model.errors import DataError
from threadmatch.model.synthetic.drawn.drawn_shop import write_drawn_set

LOST = {"hard_cropping": "cropped_percent", "hard_occlusion": "occluded_percent"}


def rows_of(path: Path) -> list[ManifestRow]:
    return [row for _, row in Manifest(path).rows()]


def test_a_drawn_shop_is_shared_out_and_checks_clean(tmp_path: Path) -> None:
    write_drawn_set(tmp_path, items=30, queries=8, seed=3, workers=1)
    rows = rows_of(tmp_path / "manifest.csv")
    assert [row.domain for row in rows] == [Domain.SHOP] * 30 + [Domain.CUSTOMER] * 8
    found = check_manifest(tmp_path / "manifest.csv", CheckSettings(workers=1))
    assert (found["errors"], set(found["problems"]) - {"missing_split"}) == (0, set())
    for row, (_, cells) in zip(rows[30:], open_table(tmp_path / "queries.csv"), strict=True):
        assert isinstance(cells, dict)
        others = dict(row.others)
        for name in ("cropped", "occluded"):
            assert float(others[f"{name}_percent"]) == pytest.approx(100 * float(cells[f"{name}_fraction"]), abs=0.01)
        if row.setup in LOST:
            assert float(others[LOST[row.setup]]) > 30


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_garments_that_differ_in_a_detail_stay_in_one_split(tmp_path: Path) -> None:
    shop = [f"s{n}.jpg,p{n},i{n},{f'f{n // 4}' if n % 8 < 4 else ''}" for n in range(400)]
    gallery = write(tmp_path / "g.csv", "image,product_id,id,family", *shop)
    queries = write(tmp_path / "q.csv", "image,product_id,setup", *[f"q{n}.jpg,p{n},easy" for n in range(400)])
    assert write_joined_manifest(gallery, queries, tmp_path / "m.csv") == 800
    rows = rows_of(tmp_path / "m.csv")
    split = {row.product_id: row.split for row in rows if row.domain is Domain.SHOP}
    assert all(split[row.product_id] is row.split for row in rows)
    for family in {f"f{n // 4}" for n in range(400) if n % 8 < 4}:
        first = 4 * int(family[1:])
        assert len({split[f"p{n}"] for n in range(first, first + 4)}) == 1
    counts = {part: list(split.values()).count(part) for part in Split}
    assert counts[Split.TRAIN] > 250
    assert min(counts.values()) > 10


def test_a_set_of_one_split_says_so_in_every_row(tmp_path: Path) -> None:
    gallery = write(tmp_path / "g.csv", "image,product_id,name", "a.jpg,p,Shirt")
    queries = write(tmp_path / "q.csv", "image,product_id,box,occluded", 'b.jpg,p,"1,2,3,4",0.3125')
    write_joined_manifest(gallery, queries, tmp_path / "m.csv", split=Split.TEST)
    shop, street = rows_of(tmp_path / "m.csv")
    assert (shop.split, street.split) == (Split.TEST, Split.TEST)
    assert dict(shop.others)["name"] == "Shirt"
    assert dict(street.others)["occluded_percent"] == "31.25"
    with pytest.raises(DataError, match="line 2"):
        write_joined_manifest(write(tmp_path / "g.csv", "image,product_id", "a,b,c"), queries, tmp_path / "m.csv")
