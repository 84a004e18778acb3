"""Labelled tables are read, and a wrong row is named by its line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from threadmatch.model.data.pairs import LabelledImage, read_labelled, unanswerable, with_photos
from threadmatch.model.errors import DataError
from threadmatch.model.images import Box


def test_a_table_is_read(tmp_path: Path) -> None:
    table = tmp_path / "queries.csv"
    table.write_text('\ufeffimage,product_id,box,setup\na/b.jpg,p1,"1,2,30,40",hard_view\nc.jpg,p2,,\n')
    first, second = read_labelled(table)
    assert (first.path, first.id, first.product_id, first.setup) == (tmp_path / "a/b.jpg", "a/b.jpg", "p1", "hard_view")
    assert first.box == Box(1, 2, 30, 40)
    assert (second.box, second.setup) == (None, "")
    assert read_labelled(table, images=tmp_path / "x")[1].path == tmp_path / "x" / "c.jpg"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("image,product\na,b\n", "product_id"),
        ("image,product_id\na,p\n,p\n", "line 3"),
        ('image,product_id,box\na,p,"1,2,3"\n', "line 2"),
        ("image,product_id\n", "no rows"),
    ],
)
def test_a_wrong_table_says_where(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=says):
        read_labelled(tmp_path / "t.csv")


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv"):
        read_labelled(tmp_path / "none.csv")


ROWS = [{"image": "a.jpg", "product_id": "1"}, {"image": "b.jpg", "product_id": "2"}]


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.jsonl.gz", "t.parquet", "parts"])
def test_every_table_that_ingestion_reads_is_read(tmp_path: Path, name: str) -> None:
    table = tmp_path / name
    if name == "parts":
        table.mkdir()
        for number, row in enumerate(ROWS):
            pq.write_table(pa.Table.from_pylist([row]), table / f"part-{number}.parquet")
    elif name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(ROWS), table)
    elif "jsonl" in name:
        text = "\n".join(json.dumps(row) for row in ROWS).encode()
        table.write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    else:
        mark = "\t" if name.endswith("tsv") else ";"
        table.write_text(f"image{mark}product_id\na.jpg{mark} 1 \nb.jpg{mark}2\n")
    assert [(row.id, row.product_id) for row in read_labelled(table)] == [("a.jpg", "1"), ("b.jpg", "2")]


def test_photos_that_a_table_holds_itself_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    table = pa.table(
        {"image": [{"bytes": b"one", "path": "a.jpg"}, {"bytes": b"two", "path": None}], "product_id": [1, 2]}
    )
    pq.write_table(table, tmp_path / "t.parquet")
    rows = read_labelled(tmp_path / "t.parquet")
    assert [(row.id, row.path.read_bytes()) for row in rows] == [("a.jpg", b"one"), ("t.parquet#2", b"two")]
    assert with_photos(rows) == rows


def test_all_rows_that_cannot_be_used_are_listed_at_once_or_left_out(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("image,product_id\na.jpg,nan\nb.jpg,2\n,3\nc.jpg,NULL\n")
    with pytest.raises(DataError, match=r"3 rows.*(?s:.)*line 2.*(?s:.)*line 4.*(?s:.)*line 5.*(?s:.)*--skip-bad-rows"):
        read_labelled(table)
    assert [row.product_id for row in read_labelled(table, skip_bad=True)] == ["2"]


def test_all_missing_photos_are_listed_with_their_rows_or_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "t.csv").write_text("image,product_id\ngone.jpg,1\na.jpg,2\nhttps://x.example/b.jpg,3\n")
    rows = read_labelled(tmp_path / "t.csv")
    with pytest.raises(DataError) as caught:
        with_photos(rows)
    message = str(caught.value)
    assert "line 2: there is no file" in message
    assert "line 4" in message
    assert "is an address" in message
    assert [row.product_id for row in with_photos(rows, skip_missing=True)] == ["2"]


def test_it_is_said_when_queries_have_no_answer(tmp_path: Path) -> None:
    def side(*products: str) -> list[LabelledImage]:
        return [LabelledImage(tmp_path, product, product, None, "", "") for product in products]

    assert not unanswerable(side("1", "2"), side("1"))
    assert "no query can be answered" in unanswerable(side("1"), side("2", "3"))
    assert "1 of 2 queries" in unanswerable(side("1"), side("1", "3"))
