"""Data sets of attributes in their own layouts become manifests with a column an attribute; another form is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support import layouts
from threadmatch.model.data.attribute_labels import read_attributes
from threadmatch.model.data.layouts.importing import ImportSettings, Layout, import_layout
from threadmatch.model.data.manifest.rows import Manifest, ManifestRow, Split
from threadmatch.model.data.triplet_table import read_triplets
from threadmatch.model.errors import DataError


def imported(layout: Layout, root: Path) -> tuple[list[ManifestRow], dict[str, Any]]:
    result = import_layout(layout, root, root / "m.csv", settings=ImportSettings())
    return [row for _, row in Manifest(root / "m.csv").rows()], result


def test_fashionai_asks_with_its_queries_and_answers_with_its_candidates(tmp_path: Path) -> None:
    rows, result = imported("asen", layouts.fashionai(tmp_path))
    assert result["counts"] == {
        "train": {"customer": 0, "shop": 4},
        "val": {"customer": 1, "shop": 2},
        "test": {"customer": 1, "shop": 2},
    }
    by_image = {Path(row.image).name: dict(row.others) for row in rows}
    assert by_image["train0.jpg"] == {"neckline_design": "V Neck", "sleeve_length": ""}
    assert by_image["train1.jpg"] == {"neckline_design": "Square Neckline", "sleeve_length": "0"}, "no words: a number"
    assert by_image["train2.jpg"]["neckline_design"] == "V Neck|Square Neckline"
    assert by_image["test2.jpg"] == {"neckline_design": "V Neck", "sleeve_length": "1"}, "two lines, one photo"
    assert result["notes"] == {}
    test = read_attributes([tmp_path / "FashionAI/m.csv"], Split.TEST)
    assert sorted(test.values) == ["neckline_design", "sleeve_length"]
    assert test.asks == [False, False, True]


def test_photos_that_were_not_unpacked_are_left_out_and_counted(tmp_path: Path) -> None:
    root = layouts.fashionai(tmp_path)
    (root / "Images/neckline_design_labels/train3.jpg").unlink()
    rows, result = imported("asen", root)
    assert len(rows) == 9
    assert result["notes"]["photo missing"]["count"] == 1


def test_a_data_set_of_its_own_may_have_its_meta_file_in_its_folder(tmp_path: Path) -> None:
    root = layouts.fashionai(tmp_path)
    (tmp_path / "meta.json").unlink()
    (root / "meta.json").write_text('{"ATTRIBUTES": ["texture-related", "part-related"]}')
    rows, _ = imported("asen", root)
    assert dict(rows[0].others) == {"texture_related": "1", "part_related": ""}


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("../meta.json", None, "nor .*meta.json is there"),
        ("../meta.json", "[]", "is not of the form"),
        ("../meta.json", '{"DARN": {}}', "is not of the form"),
        ("label_train.txt", None, "label_train.txt is missing"),
        ("label_train.txt", "0 0\n", "expected a photo, an attribute and a value"),
        ("query_test.txt", "0 0 1 1 1\n", "expected a photo, an attribute and a value"),
        ("label_train.txt", "4 0 1\n", "photo 4, but there are 4 names"),
        ("label_train.txt", "0 2 1\n", "attribute 2, meta.json has 2"),
        ("candidate_valid.txt", "zero 0 1\n", "expected whole numbers"),
    ],
)
def test_a_tree_in_another_form_says_where(tmp_path: Path, file: str, text: str | None, says: str) -> None:
    root = layouts.fashionai(tmp_path)
    if text is None:
        (root / file).unlink()
    else:
        (root / file).write_text(text)
    with pytest.raises(DataError, match=says):
        imported("asen", root)


def test_zappos_has_its_triplets_in_a_table_with_the_close_photo_before_the_far_one(tmp_path: Path) -> None:
    rows, result = imported("zappos50k", layouts.zappos50k(tmp_path))
    assert result["triplets"] == 16
    splits = {row.id: row.split for row in rows}
    assert [splits[f"Shoes/{'Oxfords' if n % 2 else 'Boat Shoes'}/Bostonian/{n}.jpg"] for n in range(8)] == [
        Split.TRAIN, Split.TRAIN, Split.TRAIN, Split.VAL, Split.TEST, Split.VAL, Split.TEST, Split.TEST,
    ]  # fmt: skip
    assert result["notes"]["photo in two splits"]["count"] > 0
    assert (rows[0].category, dict(rows[0].others)) == ("Shoes", {"sub_category": "Boat Shoes", "brand": "Bostonian"})
    place = {row.id: n for n, row in enumerate(rows)}
    found = read_triplets(tmp_path / "m.triplets.csv", Split.TEST, place)
    assert sorted(found) == ["class", "closure", "gender", "heel"]
    anchor, near, far = (rows[n].id.rpartition("/")[2] for n in found["heel"][0])
    assert (anchor, near, far) == ("6.jpg", "4.jpg", "7.jpg"), "the list has 6 7 4: anchor, far, close"


def test_a_triplet_list_that_names_no_photo_says_where(tmp_path: Path) -> None:
    root = layouts.zappos50k(tmp_path)
    (root / "tripletlists/heel_tripletlist_val.txt").write_text("0 1 2\n0 1 8\n")
    with pytest.raises(DataError, match=r"heel_tripletlist_val.txt, line 2: '0 1 8'; expected three numbers below 8"):
        imported("zappos50k", root)


def test_triplets_of_photos_that_are_not_there_are_left_out(tmp_path: Path) -> None:
    root = layouts.zappos50k(tmp_path)
    (root / "ut-zap50k-images/Shoes/Boat Shoes/Bostonian/4.jpg").unlink()
    rows, result = imported("zappos50k", root)
    assert (len(rows), result["triplets"]) == (7, 8)
    with pytest.raises(DataError, match="no triplet of split val"):
        read_triplets(root / "m.triplets.csv", Split.VAL, {row.id: n for n, row in enumerate(rows)})
