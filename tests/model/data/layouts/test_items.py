"""A shop's own table becomes a manifest of attributes in the words one wants; worn garments get boxes from masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.layouts import picture
from threadmatch.model.data.layouts.importing import ImportSettings, import_layout
from threadmatch.model.data.layouts.items import ItemSettings
from threadmatch.model.data.manifest.rows import Manifest, ManifestRow
from threadmatch.model.errors import DataError
from threadmatch.model.images import Box

WORDS = """column,value,attribute,word
category,Women/Tops/Tees,category,t-shirt
style,Sleeveless,sleeves,none
style,Sleeveless,style,sleeveless
style,Basic,style,
garments,dress,category,dress
"""


def imported(folder: Path, **settings: object) -> list[ManifestRow]:
    out = folder / "m.csv"
    import_layout("items", folder / "items.csv", out, settings=ImportSettings(items=ItemSettings(**settings)))  # type: ignore[arg-type]
    return [row for _, row in Manifest(out).rows()]


def shop(folder: Path, count: int = 3) -> Path:
    rows = ["image,id,sku,category,style,width"]
    for n in range(count):
        picture(folder / f"images/{n}.jpg", n)
        rows.append(f"images/{n}.jpg,item-{n},sku-{n // 2},Women/Tops/Tees,Sleeveless|Basic|Odd,60")
    (folder / "items.csv").write_text("\n".join(rows) + "\n")
    (folder / "words.csv").write_text(WORDS)
    return folder


def test_values_mean_what_the_words_say_and_others_are_left_out(tmp_path: Path) -> None:
    rows = imported(shop(tmp_path), words=tmp_path / "words.csv", product="sku")
    assert [(row.id, row.product_id, row.category) for row in rows] == [
        ("item-0", "sku-0", "t-shirt"), ("item-1", "sku-0", "t-shirt"), ("item-2", "sku-1", "t-shirt"),
    ]  # fmt: skip
    assert dict(rows[0].others) == {"sleeves": "none", "style": "sleeveless"}
    assert rows[0].split == rows[1].split, "photos of one garment stand in one split"


def test_without_words_columns_are_taken_as_they_are(tmp_path: Path) -> None:
    rows = imported(shop(tmp_path))
    assert rows[0].category == "Women/Tops/Tees"
    assert dict(rows[0].others) == {"style": "Sleeveless|Basic|Odd"}


def test_so_many_rows_of_each_split_are_taken_whatever_the_order_of_the_table(tmp_path: Path) -> None:
    folder = shop(tmp_path, 60)
    few = imported(folder, most=3)
    assert max(sum(row.split is split for row in few) for split in {row.split for row in few}) == 3
    head, *body = (folder / "items.csv").read_text().splitlines()
    (folder / "items.csv").write_text("\n".join([head, *reversed(body)]) + "\n")
    assert {row.id for row in imported(folder, most=3)} == {row.id for row in few}


def test_each_worn_garment_that_the_words_know_is_a_row_with_the_box_of_its_pixels(tmp_path: Path) -> None:
    picture(tmp_path / "images/1.jpg", 1)
    mask = np.zeros((80, 60), np.uint8)
    mask[10:50, 5:30] = 4
    mask[0, 0] = 7
    (tmp_path / "masks").mkdir()
    Image.fromarray(mask).save(tmp_path / "masks/1.png")
    (tmp_path / "labels.csv").write_text("value,label\n4,dress\n7,belt\n")
    (tmp_path / "items.csv").write_text(
        "image,mask,id,garments,split\nimages/1.jpg,masks/1.png,one,dress|belt|hat,val\n"
    )
    (tmp_path / "words.csv").write_text(WORDS + "garments,belt,category,belt\n")
    [row] = imported(tmp_path, words=tmp_path / "words.csv")
    assert (row.id, row.category, row.box, row.split.value) == ("one-dress", "dress", Box(5, 10, 30, 50), "val")


def test_a_table_of_words_or_items_without_a_column_names_it(tmp_path: Path) -> None:
    folder = shop(tmp_path)
    (folder / "words.csv").write_text("column,value,word\n")
    with pytest.raises(DataError, match="has no column attribute"):
        imported(folder, words=folder / "words.csv")
    (folder / "items.csv").write_text("photo,id\n1.jpg,a\n")
    with pytest.raises(DataError, match="has no column image"):
        imported(folder)
