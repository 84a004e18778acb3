"""A check finds what is wrong with rows, between rows and with images, and says nothing about what is right."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from threadmatch.model.data.manifest.check import CheckSettings, check_manifest
from threadmatch.model.data.manifest.findings import KINDS, Findings
from threadmatch.model.data.manifest.rows import COLUMNS
from threadmatch.model.errors import DataError


def picture(path: Path, seed: int, size: tuple[int, int] = (40, 30)) -> None:
    """A photo of noise that is like no other seed's; size is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)


def row(image: str, product: str, domain: str = "shop", split: str = "test", **others: str) -> dict[str, str]:
    return {"image": image, "product_id": product, "domain": domain, "split": split} | others


@pytest.fixture
def good(tmp_path: Path) -> list[dict[str, str]]:
    """Rows without a fault, and their photos in the same folder."""
    rows: list[dict[str, str]] = []
    for number, split in enumerate(("train", "val", "test")):
        for domain in ("shop", "customer"):
            name = f"{domain}/{split}.png"
            picture(tmp_path / name, len(rows))
            more = {"id": f"i{number}"} if domain == "shop" else {"setup": "easy", "box": "1,2,30,30"}
            rows.append(row(name, f"p{number}", domain, split, category="tops", **more))
    return rows


def check(folder: Path, rows: list[dict[str, str]], **settings: Any) -> dict[str, Any]:
    with (folder / "m.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return check_manifest(folder / "m.csv", CheckSettings(workers=1, **settings))


def kinds(result: dict[str, Any]) -> dict[str, int]:
    return {kind: problem["count"] for kind, problem in result["problems"].items()}


def first(result: dict[str, Any], kind: str) -> tuple[int | None, str]:
    example = result["problems"][kind]["examples"][0]
    return example["row"], example["message"]


def test_a_good_manifest_is_counted_and_nothing_is_found(tmp_path: Path, good: list[dict[str, str]]) -> None:
    result = check(tmp_path, good, report=tmp_path / "report.csv")
    assert (result["ok"], result["problems"], result["rows"], result["usable_rows"]) == (True, {}, 6, 6)
    assert result["counts"]["split"]["val"] == {"customer": 1, "customer_products": 1, "shop": 1, "shop_products": 1}
    assert (result["counts"]["setup"], result["counts"]["category"]) == ({"easy": 3}, {"tops": 6})
    assert result["images"] == {"files": 6, "opened": True}
    assert not (tmp_path / "report.csv").exists()


@pytest.mark.parametrize(
    ("changed", "kind", "says"),
    [
        ({"image": ""}, "empty_field", "image is empty"),
        ({"domain": "consumer"}, "bad_domain", "'customer'"),
        ({"split": "tset"}, "bad_split", "'test'"),
        ({"setup": "hard_cropped"}, "bad_setup", "'hard_cropping'"),
        ({"box": "3,3,1,1"}, "bad_box", "empty"),
        ({"box": "40,0,50,10"}, "box_outside", "40 x 30"),
        ({"box": "0,0,47,30"}, "box_past_edge", "7 pixels past"),
        ({"image": "shop/none.png"}, "missing_image", "does not exist"),
        ({"image": "shop"}, "missing_image", "not a file"),
        ({"image": "broken.png"}, "unreadable_image", "broken.png"),
        ({"image": "cut.jpg"}, "unreadable_image", "cut.jpg"),
        ({"image": "huge.png"}, "too_large_image", "pixels"),
        ({"id": "i0"}, "duplicate_id", "2 shop rows"),
    ],
)
def test_a_wrong_row_is_found_by_its_line(
    tmp_path: Path, good: list[dict[str, str]], changed: dict[str, str], kind: str, says: str
) -> None:
    (tmp_path / "broken.png").write_bytes(b"<html>404</html>")
    picture(tmp_path / "whole.jpg", 77, (200, 200))
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:4000])
    Image.new("1", (9000, 9000)).save(tmp_path / "huge.png")
    picture(tmp_path / "shop/more.png", 78)
    result = check(tmp_path, [*good, row("shop/more.png", "p9") | changed])
    assert kinds(result) == {kind: 1}
    assert result["ok"] == (KINDS[kind].severity == "warning")
    number, message = first(result, kind)
    assert number == (2 if kind == "duplicate_id" else 8), "line 1 is the header"
    assert says in message


def test_a_product_in_two_splits_is_a_leak(tmp_path: Path, good: list[dict[str, str]]) -> None:
    picture(tmp_path / "x.png", 99)
    result = check(tmp_path, [*good, row("x.png", "p0")])
    assert kinds(result) == {"product_in_two_splits": 1}
    assert first(result, "product_in_two_splits") == (2, "product 'p0' is in train (line 2), test (line 8)")


def test_a_query_without_its_garment_is_found_and_matters_less_in_training(
    tmp_path: Path, good: list[dict[str, str]]
) -> None:
    for n in (1, 2, 3):
        picture(tmp_path / f"{n}.png", 90 + n)
    more = [row("1.png", "lost", "customer"), row("2.png", "lost", "customer"), row("3.png", "x", "customer", "train")]
    result = check(tmp_path, [*good, *more])
    assert kinds(result) == {"unanswerable_query": 1, "unused_query": 1}
    assert first(result, "unanswerable_query") == (8, "product 'lost' has 2 customer and no shop images in test")


def test_the_same_bytes_are_found_whatever_the_file_is_called(tmp_path: Path, good: list[dict[str, str]]) -> None:
    for name in ("copy.png", "other.png"):
        (tmp_path / name).write_bytes((tmp_path / "shop/test.png").read_bytes())
    rows = [*good, row("copy.png", "new", "shop", "train"), row("other.png", "p2")]
    result = check(tmp_path, rows)
    assert kinds(result) == {"image_in_two_splits": 1}
    assert "line 6: test shop 'p2', line 8: train shop 'new'" in first(result, "image_in_two_splits")[1]
    assert kinds(check(tmp_path, rows, quick=True)) == {}, "not opened, not known"


def test_one_garment_under_two_ids_is_doubted_but_two_garments_of_one_photo_are_not(
    tmp_path: Path, good: list[dict[str, str]]
) -> None:
    picture(tmp_path / "x.png", 99)
    two = [row("x.png", "a", box="0,0,20,30"), row("x.png", "b", box="20,0,40,30")]
    assert kinds(check(tmp_path, [*good, *two])) == {}
    assert kinds(check(tmp_path, [*good, row("x.png", "a"), row("x.png", "b")])) == {"image_of_two_products": 1}
    assert kinds(check(tmp_path, [*good, row("x.png", "a"), row("x.png", "a", "customer")])) == {
        "query_is_shop_image": 1
    }
    assert kinds(check(tmp_path, [*good, row("x.png", "a"), row("./x.png", "a")])) == {"duplicate_row": 1}


def test_quick_sees_missing_files_but_opens_none(tmp_path: Path, good: list[dict[str, str]]) -> None:
    (tmp_path / "shop/val.png").write_bytes(b"no image")
    (tmp_path / "shop/test.png").unlink()
    assert kinds(check(tmp_path, good, quick=True)) == {"missing_image": 1}
    assert kinds(check(tmp_path, good)) == {"missing_image": 1, "unreadable_image": 1}


def test_images_may_lie_below_another_root_and_be_opened_by_several_processes(
    tmp_path: Path, good: list[dict[str, str]]
) -> None:
    (tmp_path / "m").mkdir()
    assert kinds(check(tmp_path / "m", good)) == {"missing_image": 6}
    result = check_manifest(tmp_path / "m" / "m.csv", CheckSettings(images=tmp_path, workers=2))
    assert result["ok"]


def test_what_is_shown_is_bounded_and_everything_is_in_the_report(tmp_path: Path) -> None:
    rows = [row(f"{n}.png", f"p{n}") for n in range(40)]
    result = check(tmp_path, rows, shown=3, report=tmp_path / "all.csv")
    assert result["problems"]["missing_image"]["count"] == 40
    assert [example["row"] for example in result["problems"]["missing_image"]["examples"]] == [2, 3, 4]
    with (tmp_path / "all.csv").open(newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["kind"] == "missing_image"]
    assert [int(line["row"]) for line in lines] == list(range(2, 42))
    assert result["problems"]["missing_split"]["count"] == 2


def test_an_old_report_does_not_outlive_what_it_told(tmp_path: Path, good: list[dict[str, str]]) -> None:
    report = tmp_path / "all.csv"
    check(tmp_path, [row("none.png", "p")], report=report)
    assert report.exists()
    check(tmp_path, good, report=report)
    assert not report.exists()


def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="'image', 'product_id', 'domain', 'split'"):
        check_manifest(tmp_path / "m.csv", CheckSettings())
    (tmp_path / "m.csv").write_text("image,product_id,domain,split\n")
    assert not check_manifest(tmp_path / "m.csv", CheckSettings())["ok"], "no rows"


def test_every_kind_says_what_to_do() -> None:
    assert all(kind.advice for kind in KINDS.values())
    with Findings(shown=1, path=None) as found, pytest.raises(KeyError):
        found.add("no such kind", "")
