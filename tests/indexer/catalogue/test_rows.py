from __future__ import annotations

import datetime
import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from threadmatch.indexer.catalogue.rows import Catalogue, CatalogueRow, Reject, id_from_image
from threadmatch.indexer.errors import CatalogueError


def rows(path: Path) -> list[CatalogueRow | Reject]:
    return list(Catalogue.open(path))


def written(folder: Path, text: str | bytes, name: str = "items.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def good(path: Path) -> list[CatalogueRow]:
    found = rows(path)
    assert all(isinstance(row, CatalogueRow) for row in found), found
    return [row for row in found if isinstance(row, CatalogueRow)]


def metadata(path: Path) -> list[dict[str, object]]:
    return [json.loads(row.metadata) for row in good(path)]


def test_a_column_is_numbers_only_where_each_cell_is(tmp_path: Path) -> None:
    text = "image,sku,price,stock,kids,mixed,none\na.jpg,007,10,1,True,1,\nb.jpg,12,10.5,,false,x,\n"
    assert metadata(written(tmp_path, text)) == [
        {"sku": "007", "price": 10, "stock": 1, "kids": True, "mixed": "1", "none": None},
        {"sku": "12", "price": 10.5, "stock": None, "kids": False, "mixed": "x", "none": None},
    ]


def test_ids_stay_as_written_and_come_from_the_path_where_missing(tmp_path: Path) -> None:
    found = good(written(tmp_path, "id,image,product_id\n007,a.jpg,0012\n,./tops//b.jpg,\n"))
    assert [(row.id, row.product_id) for row in found] == [("007", "0012"), ("tops/b.jpg", None)]
    assert id_from_image("https://x.example/a//b.jpg") == "https://x.example/a//b.jpg"


@pytest.mark.parametrize(
    ("text", "color"),
    [
        ("\ufeffimage,color\na.jpg,grün\n".encode(), "grün"),
        ("image,color\na.jpg,grün\n".encode("latin-1"), "grün"),
        ("image;color\na.jpg;grün\n".encode(), "grün"),
        ("image\tcolor\na.jpg\tgrün\n".encode(), "grün"),
        ("image,color\r\n\r\na.jpg,grün\r\n".encode(), "grün"),
        ("image,color\na.jpg,grün".encode("utf-16"), "grün"),
        ('image,color\na.jpg,"gr,ü\nn"\n'.encode(), "gr,ü\nn"),
        (b'image;"color"\na.jpg;"a;b,c"\n', "a;b,c"),
    ],
)
def test_csv_as_people_send_it(tmp_path: Path, text: bytes, color: str) -> None:
    assert metadata(written(tmp_path, text)) == [{"color": color}]


def test_a_row_with_too_many_cells_is_rejected_and_one_with_too_few_is_filled(tmp_path: Path) -> None:
    first, second, third = rows(written(tmp_path, "image,a\nx.jpg,1,2\ny.jpg\nz.jpg,3\n"))
    assert isinstance(first, Reject)
    assert (first.row, first.reason) == (1, "bad_row")
    assert isinstance(second, CatalogueRow)
    assert isinstance(third, CatalogueRow)
    assert third.number == 3


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("items.csv", "photo,id\na.jpg,1\n", "rename 'photo' to 'image'"),
        ("items.csv", "Images,id\na.jpg,1\n", "rename 'Images'"),
        ("items.csv", "image,id\n", "no rows"),
        ("items.csv", "", "is empty"),
        ("items.csv", "  \n ", "is empty"),
        ("items.csv", b"PAR1\x00\x00", "binary"),
        ("items.csv", "image,a,a\nx,1,2\n", "more than one column 'a'"),
        ("items.xlsx", "x", "ends in '.xlsx'"),
        ("items.jsonl", '[{"image": "a.jpg"}]', "JSON array"),
        ("items.jsonl", '{"img": "a.jpg"}', "rename 'img'"),
        ("items.parquet", "not parquet at all", "not a readable Parquet file"),
    ],
)
def test_a_catalogue_that_cannot_be_used_says_why(tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    with pytest.raises(CatalogueError, match=message.replace("[", r"\[")):
        rows(written(tmp_path, text, name))


def test_a_missing_catalogue_is_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"nowhere\.csv"):
        Catalogue.open(tmp_path / "nowhere.csv")


def test_json_lines_keep_their_types_and_bad_lines_are_rejects(tmp_path: Path) -> None:
    lines = [
        '{"image": "a.jpg", "id": 7, "tags": ["x", 1], "size": {"w": 1}, "ok": true, "n": NaN, "box": [1, 2, 3, 4]}',
        "{broken",
        '"text"',
        "",
        '{"id": "z"}',
        '{"image": 5}',
        '{"image": "b.jpg", "id": true}',
        '{"image": "c.jpg", "x": "\\ud800"}',
    ]
    first, *others = rows(written(tmp_path, "\n".join(lines), "items.jsonl"))
    assert isinstance(first, CatalogueRow)
    assert (first.id, first.box) == ("7", "1,2,3,4")
    assert json.loads(first.metadata) == {"tags": ["x", 1], "size": {"w": 1}, "ok": True, "n": None}
    bad = [reject for reject in others if isinstance(reject, Reject)]
    assert [reject.reason for reject in bad] == ["bad_row", "bad_row", "no_image", "bad_row", "bad_id", "bad_row"]
    assert [reject.row for reject in bad] == [2, 3, 4, 5, 6, 7]


def test_parquet_types_become_json(tmp_path: Path) -> None:
    table = pa.table(
        {
            "image": ["a.jpg"],
            "price": [Decimal("19.90")],
            "day": [datetime.date(2026, 1, 2)],
            "n": [float("nan")],
            "tags": [["a", "b"]],
            "raw": [b"\x00"],
        }
    )
    pq.write_table(table, tmp_path / "items.parquet")
    expected = {"price": 19.9, "day": "2026-01-02", "n": None, "tags": ["a", "b"]}
    assert metadata(tmp_path / "items.parquet") == [expected]


def test_too_much_metadata_is_a_reject(tmp_path: Path) -> None:
    (row,) = rows(written(tmp_path, f"image,text\na.jpg,{'x' * 70_000}\n"))
    assert isinstance(row, Reject)
    assert "bytes of metadata" in row.message
