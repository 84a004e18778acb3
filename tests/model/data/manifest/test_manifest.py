"""A manifest is read a row at a time; what is wrong with a row is said with its number and a way out."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from threadmatch.model.data.manifest.rows import (
    COLUMNS,
    Domain,
    Manifest,
    ManifestRow,
    Selection,
    Split,
    image_cell,
    nearest,
    parse_row,
    read_manifest,
    read_pairs,
    write_manifest,
)
from threadmatch.model.data.setups import Setup
from threadmatch.model.errors import DataError
from threadmatch.model.images import Box

GOOD = {"image": "a.jpg", "product_id": "p1", "domain": "customer", "split": "test"}
ROWS = [
    ManifestRow("shop/a.jpg", "p1", Domain.SHOP, Split.TEST, id="a", category="tops"),
    ManifestRow("shop/b, c.jpg", "p2", Domain.SHOP, Split.VAL, category="skirts"),
    ManifestRow(
        "street/a.jpg", "p1", Domain.CUSTOMER, Split.TEST, box=Box(1, 2, 30.5, 40), category="tops",
        setup="hard_view+hard_occlusion", others=(("occluded_percent", "41.25"),),
    ),
    ManifestRow("street/ü.jpg", "p2", Domain.CUSTOMER, Split.VAL, setup="easy"),
]  # fmt: skip


@pytest.mark.parametrize("name", ["m.csv", "m.tsv", "m.parquet"])
def test_what_is_written_is_read_again(tmp_path: Path, name: str) -> None:
    assert write_manifest(tmp_path / name, ROWS, others=["occluded_percent"]) == 4
    read = [row for _, row in Manifest(tmp_path / name).rows()]
    assert [(r.image, r.product_id, r.domain, r.split, r.id, r.box, r.category, r.setup) for r in read] == [
        (r.image, r.product_id, r.domain, r.split, r.id, r.box, r.category, r.setup) for r in ROWS
    ]
    assert read[2].others == (("occluded_percent", "41.25"),)
    assert not list(tmp_path.glob(".*")), "nothing half-written is left"


def test_numbers_are_those_of_an_editor_in_csv_and_count_rows_in_parquet(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(
        'image,product_id,domain,split,note\na.jpg,p,shop,test,"two\nlines"\n\nb.jpg,p,customer,test,\n'
    )
    assert [(number, row.image) for number, row in Manifest(tmp_path / "m.csv").rows()] == [(3, "a.jpg"), (5, "b.jpg")]
    write_manifest(tmp_path / "m.parquet", ROWS)
    assert [number for number, _ in Manifest(tmp_path / "m.parquet").rows()] == [1, 2, 3, 4]


def test_parquet_may_hold_numbers_and_lists(tmp_path: Path) -> None:
    table = {name: [text] for name, text in GOOD.items()} | {
        "product_id": [17.0],
        "box": [[1, 2, 30, 40]],
        "id": [None],
    }
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "m.parquet")
    [(_, row)] = Manifest(tmp_path / "m.parquet").rows()
    assert (row.product_id, row.box, row.id) == ("17", Box(1, 2, 30, 40), "")


def test_one_split_is_taken_and_the_gallery_may_reach_over_others(tmp_path: Path) -> None:
    path = tmp_path / "sets" / "m.csv"
    write_manifest(path, ROWS)
    gallery, queries = read_manifest(path, Selection(Split.TEST))
    assert [image.id for image in gallery] == ["a"]
    assert [(image.path, image.id, image.setup) for image in queries] == [
        (tmp_path / "sets" / "street/a.jpg", "street/a.jpg", "hard_view+hard_occlusion")
    ]
    gallery, queries = read_manifest(path, Selection(Split.TEST, (Split.TEST, Split.VAL), images=tmp_path))
    assert [image.path for image in gallery] == [tmp_path / "shop/a.jpg", tmp_path / "shop/b, c.jpg"]
    gallery, queries = read_manifest(path, Selection(Split.TEST, tuple(Split), ("tops",)))
    assert ([image.product_id for image in gallery], len(queries)) == (["p1"], 1)


def test_a_split_without_rows_says_what_there_is(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.csv", ROWS)
    with pytest.raises(DataError, match=r"no shop and no customer rows in split train; found 1 test customer"):
        read_manifest(tmp_path / "m.csv", Selection(Split.TRAIN))
    with pytest.raises(DataError, match=r"split test of hats"):
        read_manifest(tmp_path / "m.csv", Selection(Split.TEST, (), ("hats",)))


def test_a_set_is_a_manifest_or_a_folder(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.csv", ROWS)
    assert [len(side) for side in read_pairs(tmp_path / "m.csv", Split.VAL)] == [1, 1]
    for name in ("catalogue.csv", "queries.csv"):
        (tmp_path / name).write_text("image,product_id\na.jpg,p\nb.jpg,p\n")
    assert [len(side) for side in read_pairs(tmp_path, Split.VAL)] == [2, 2]
    (tmp_path / "gallery.csv").write_text("image,product_id\na.jpg,p\n")
    assert [len(side) for side in read_pairs(tmp_path, Split.VAL)] == [1, 2], "gallery.csv comes before catalogue.csv"
    with pytest.raises(DataError, match=r"nowhere"):
        read_pairs(tmp_path / "nowhere.csv", Split.VAL)


@pytest.mark.parametrize(
    ("changed", "kind", "says"),
    [
        ({"image": ""}, "empty_field", "image is empty"),
        ({"product_id": ""}, "empty_field", "product_id is empty"),
        ({"domain": "consumer"}, "bad_domain", "did you mean 'customer'"),
        ({"domain": "shp"}, "bad_domain", "did you mean 'shop'"),
        ({"split": "validation"}, "bad_split", "did you mean 'val'"),
        ({"split": "zzz"}, "bad_split", "expected one of train, val, test"),
        ({"setup": "hard_veiw"}, "bad_setup", "did you mean 'hard_view'"),
        ({"setup": "easy+hard_view"}, "bad_setup", "easy and hard"),
        ({"box": "1,2,3"}, "bad_box", "four numbers"),
        ({"box": "9,2,3,4"}, "bad_box", "empty"),
        ({"box": "0,0,nan,4"}, "bad_box", "not finite"),
    ],
)
def test_a_wrong_cell_is_named_with_a_way_out(changed: dict[str, str], kind: str, says: str) -> None:
    row, faults = parse_row(GOOD | changed)
    assert row is None
    assert [fault.kind for fault in faults] == [kind]
    assert says in faults[0].message


def test_every_fault_of_a_row_is_named_and_case_does_not_matter() -> None:
    _, faults = parse_row({"image": "", "product_id": "p", "domain": "x", "split": "y", "box": "z"})
    assert [fault.kind for fault in faults] == ["empty_field", "bad_domain", "bad_split", "bad_box"]
    row, faults = parse_row(GOOD | {"domain": " Customer ", "split": "TEST", "setup": "Easy"})
    assert not faults
    assert row is not None
    assert (row.domain, row.split, row.setup) == (Domain.CUSTOMER, Split.TEST, Setup.EASY)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("image,item_id,domain,split\n", r"'product_id' \(rename 'item_id'\?\); found image, item_id"),
        ("image,product_id,domian\n", r"'domain' \(rename 'domian'\?\), 'split'"),
        ("image,product_id,domain,split,image\n", r"more than one column 'image'"),
        ("", r"is empty"),
        ("image,product_id,domain,split\na.jpg,p,shop,test\nb.jpg,,shop,test\n", r"line 3: product_id is empty"),
        ("image,product_id,domain,split,box\na.jpg,p,shop,test,1,2,3,4\n", r"line 2: 8 cells.*quote"),
    ],
)
def test_a_wrong_manifest_says_where_and_what_to_do(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(DataError, match=says):
        list(Manifest(tmp_path / "m.csv").rows())


def test_files_that_are_no_manifest_are_named(tmp_path: Path) -> None:
    (tmp_path / "m.xlsx").write_bytes(b"PK")
    (tmp_path / "m.parquet").write_bytes(b"not parquet")
    for name, says in (("m.xlsx", "expected one of"), ("m.parquet", "Parquet"), ("none.csv", "cannot be read")):
        with pytest.raises(DataError, match=says):
            Manifest(tmp_path / name)


def test_a_manifest_that_is_not_utf_8_is_read_as_ingestion_reads_it_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes(",".join(COLUMNS).encode() + "\nä.jpg,p,shop,test,,,,\n".encode("latin-1"))
    manifest = Manifest(tmp_path / "m.csv")
    assert [row.image for _, row in manifest.rows()] == ["ä.jpg"]
    assert any("Windows-1252" in note for note in manifest.notes)


def test_a_column_that_looks_misspelt_is_doubted_and_others_are_not(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("image;product_id;domain;split;catgory;colour;bbox\n")
    assert [doubt.split("'")[1] for doubt in Manifest(tmp_path / "m.csv").doubts] == ["catgory", "bbox"]


@pytest.mark.parametrize(("text", "meant"), [("gallery", "shop"), ("costumer", "customer"), ("qqq", "")])
def test_the_nearest_word_is_found_by_meaning_and_by_letters(text: str, meant: str) -> None:
    assert nearest(text, [domain.value for domain in Domain]) == meant


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    write_manifest(path, ROWS[:1])

    def rows() -> object:
        yield ROWS[1]
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        write_manifest(path, rows())  # type: ignore[arg-type]
    with path.open(newline="") as file:
        assert [row["image"] for row in csv.DictReader(file)] == ["shop/a.jpg"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.csv"]


def test_images_beside_the_manifest_are_named_from_there(tmp_path: Path) -> None:
    assert image_cell(tmp_path / "a/b.jpg", tmp_path / "m.csv") == "a/b.jpg"
    assert image_cell(tmp_path / "a/b.jpg", tmp_path / "sets/m.csv") == (tmp_path / "a/b.jpg").as_posix()
