"""Labelled tables are read, and a wrong row is named by its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from threadmatch.model.data.pairs import read_labelled
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
