"""Official layouts become manifests with the official splits, boxes and protocols; a tree in another form is named."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support import layouts
from threadmatch.model.data.layouts.importing import ImportSettings, Layout, deepfashion_layout, import_layout
from threadmatch.model.data.layouts.tree import held_out
from threadmatch.model.data.manifest.check import CheckSettings, check_manifest
from threadmatch.model.data.manifest.rows import Domain, Manifest, ManifestRow, Selection, Split, read_manifest
from threadmatch.model.errors import DataError
from threadmatch.model.images import Box

CUSTOMER, SHOP = Domain.CUSTOMER, Domain.SHOP


def imported(layout: Layout, root: Path, **settings: Any) -> tuple[list[ManifestRow], dict[str, Any]]:
    result = import_layout(layout, root, root / "m.csv", settings=ImportSettings(**settings))
    return [row for _, row in Manifest(root / "m.csv").rows()], result


def problems(root: Path) -> set[str]:
    return set(check_manifest(root / "m.csv", CheckSettings(workers=1))["problems"])


def sides(rows: list[ManifestRow]) -> Counter[tuple[str, str]]:
    return Counter((row.split.value, row.domain.value) for row in rows)


def test_consumer_to_shop_keeps_its_splits_boxes_and_categories(tmp_path: Path) -> None:
    rows, result = imported("deepfashion-c2s", layouts.consumer_to_shop(tmp_path))
    assert (result["rows"], result["notes"]) == (16, {}), "each image once, though it stands in two pairs"
    assert result["counts"]["train"] == {"customer": 4, "shop": 4}
    assert {row.product_id: row.split.value for row in rows} == layouts.C2S_ITEMS
    by_image = {row.image: row for row in rows}
    shop = by_image["Img/img/TOPS/T_Shirt/id_00000004/shop_02.jpg"]
    assert (shop.domain, shop.box, shop.category) == (SHOP, Box(6, 6, 50, 70), "TOPS/T_Shirt")
    assert (shop.id, shop.others) == ("img/TOPS/T_Shirt/id_00000004/shop_02", (("clothes_type", "upper"),))
    assert by_image["Img/img/TOPS/T_Shirt/id_00000004/comsumer_01.jpg"].domain is CUSTOMER
    assert problems(tmp_path) == set()
    gallery, queries = read_manifest(tmp_path / "m.csv", Selection(Split.TEST))
    assert (len(gallery), len(queries)) == (2, 2), "the official gallery: the test part's shop images"
    gallery, _ = read_manifest(tmp_path / "m.csv", Selection(Split.TEST, (Split.VAL, Split.TEST)))
    assert len(gallery) == 4, "the larger one that some report"


def test_the_header_decides_where_a_column_is(tmp_path: Path) -> None:
    layouts.consumer_to_shop(tmp_path)
    path = tmp_path / "Anno/list_bbox_consumer2shop.txt"
    count, _, *body = path.read_text().splitlines()
    cells = [line.split() for line in body]
    swapped = [f"{name} {source} {clothes} {' '.join(box)}" for name, clothes, source, *box in cells]
    path.write_text("\n".join([count, "image_name source_type clothes_type x_1 y_1 x_2 y_2", *swapped]))
    rows, result = imported("deepfashion-c2s", tmp_path)
    assert result["notes"] == {}
    assert all(row.others == (("clothes_type", "upper"),) for row in rows)


def test_odd_rows_of_a_layout_are_noted_with_an_example(tmp_path: Path) -> None:
    layouts.consumer_to_shop(tmp_path)
    path = tmp_path / "Anno/list_bbox_consumer2shop.txt"
    lines = path.read_text().splitlines()
    lines[2] = " ".join([*lines[2].split()[:3], "9", "9", "9", "20"])  # an empty box
    lines[3] = " ".join([*lines[3].split()[:2], "2", *lines[3].split()[3:]])  # a shop image called a consumer's
    path.write_text("\n".join(lines[:-1]))  # and one image without
    (tmp_path / "Anno/list_item_consumer2shop.txt").write_text("1\nid_00000001\n")
    rows, result = imported("deepfashion-c2s", tmp_path)
    notes = {what: note["count"] for what, note in result["notes"].items()}
    assert notes == {"wrong count": 1, "box left out": 1, "domain disagrees": 1, "no box": 1, "item not listed": 12}
    assert "shop_01.jpg: 9 9 9 20" in result["notes"]["box left out"]["example"]
    assert sum(row.box is None for row in rows) == 2


@pytest.mark.parametrize("segmented", [False, True])
def test_in_shop_asks_with_queries_and_learns_from_images_that_take_turns(tmp_path: Path, segmented: bool) -> None:
    tree = (layouts.segmented_in_shop if segmented else layouts.in_shop)(tmp_path)
    rows, result = imported("deepfashion-inshop", tree, val_share=0.5)
    assert result["notes"] == {}
    assert sides(rows)["test", "customer"] == 2
    assert sides(rows)["test", "shop"] == 4
    learnt = [row for row in rows if row.split is not Split.TEST]
    assert {row.split for row in learnt} == {Split.TRAIN, Split.VAL}
    assert all(row.split is held_out(row.product_id, 0.5) for row in learnt), "a product is in one of the two"
    roles = [row.domain for row in rows if row.product_id == "id_00000001"]
    assert roles == [SHOP, CUSTOMER, SHOP]
    query = next(row for row in rows if row.split is Split.TEST and row.domain is CUSTOMER)
    assert query.category == "WOMEN/Dresses"
    if segmented:
        assert query.image == "Img/img_highres/WOMEN/Dresses/id_00000007/02_2_side.jpg"
        assert query.box == Box(10, 12, 100, 100), "around both garments"
    else:
        assert query.image == "Img/img/WOMEN/Dresses/id_00000007/02_2_side.jpg"
        assert (query.box, query.setup) == (Box(4, 5, 60, 62), "hard_view")
        assert dict(query.others) == {"clothes_type": "full", "pose": "side"}
    # The larger pictures of the second tree repeat, as real ones do not.
    assert problems(tmp_path) <= (
        {"image_in_two_splits", "query_is_shop_image", "image_of_two_products"} if segmented else set()
    )


def test_in_shop_keeps_all_of_train_where_asked(tmp_path: Path) -> None:
    rows, _ = imported("deepfashion-inshop", layouts.in_shop(tmp_path), val_share=0.0)
    assert {row.split for row in rows} == {Split.TRAIN, Split.TEST}


def test_street2shop_asks_by_category_with_boxes_and_answers_with_the_whole_category(tmp_path: Path) -> None:
    rows, result = imported("street2shop", layouts.street2shop(tmp_path), val_share=0.3)
    assert {what: note["count"] for what, note in result["notes"].items()} == {"street photo not fetched": 1}
    gallery, queries = read_manifest(tmp_path / "m.csv", Selection(Split.TEST, tuple(Split), ("tops",)))
    assert (len(gallery), [query.product_id for query in queries]) == (20, ["tops-9"])
    assert queries[0].box == Box(7, 3, 37, 38), "left, top, width, height became corners"
    split = {row.product_id: row.split for row in rows}
    assert split["tops-9"] is split["tops-10"] is Split.TEST, "a distractor is not learnt from"
    assert all(split[f"tops-{n}"] is held_out(f"tops-{n}", 0.3) for n in range(1, 9))
    assert len([row for row in rows if row.image.endswith("000000107.png")]) == 2, "one photo, a top and a skirt"


def test_a_street2shop_product_of_both_parts_is_tested_and_not_learnt(tmp_path: Path) -> None:
    layouts.street2shop(tmp_path)
    path = tmp_path / "meta/json/test_pairs_tops.json"
    path.write_text(json.dumps([*json.loads(path.read_text()), {"photo": 110, "product": 8}]))
    rows, result = imported("street2shop", tmp_path)
    assert result["notes"]["product in train and test"]["count"] == 1
    assert result["notes"]["no box"]["count"] == 1
    assert {row.split for row in rows if row.product_id == "tops-8"} == {Split.TEST}
    assert not [row for row in rows if row.product_id == "tops-8" and row.image.endswith("108.jpeg")]


def test_findfashion_groups_queries_by_the_papers_definitions(tmp_path: Path) -> None:
    rows, result = imported("findfashion", layouts.findfashion(tmp_path), val_share=0.0)
    asked = {(Path(row.image).name, row.product_id): row for row in rows if row.domain is CUSTOMER}
    assert {key: row.setup for key, row in asked.items()} == {
        ("comsumer_01.jpg", "id_00000001"): "easy",
        ("comsumer_01.jpg", "id_00000003"): "hard_view",
        ("comsumer_01.jpg", "id_00000004"): "hard_occlusion+hard_view",
        ("comsumer_02.jpg", "id_00000004"): "hard_cropping",
        ("000000107.png", "tops-7"): "hard_occlusion",
        ("000000107.png", "skirts-21"): "hard_view",
        ("000000110.jpeg", "tops-9"): "easy",
        ("000000122.jpeg", "skirts-22"): "easy",
    }
    assert asked["comsumer_01.jpg", "id_00000001"].box == Box(1, 2, 30, 40), "the annotation's"
    assert asked["000000107.png", "tops-7"].box == Box(7, 3, 37, 38), "its own where the annotation has none"
    shop = {row.image.removeprefix("deepfashion/Img/img/TOPS/T_Shirt/"): row for row in rows if row.domain is SHOP}
    assert len(shop) == 8 + 26, "the gallery is unchanged"
    assert shop["id_00000004/shop_01.jpg"].box == Box(2, 2, 58, 78), "but for corrected boxes"
    assert {row.split for row in rows if row.product_id == "skirts-22"} == {Split.VAL}, "moved by its annotation"
    assert result["notes"]["query not annotated"]["count"] > 0
    assert dict(asked["comsumer_01.jpg", "id_00000004"].others)["view"] == "back"


@pytest.mark.parametrize("kind", ["json", "jsonl", "mapping"])
def test_findfashion_takes_annotations_in_json_and_numbers_for_views_only_if_told(tmp_path: Path, kind: str) -> None:
    layouts.consumer_to_shop(tmp_path / "deepfashion")
    (tmp_path / "annotations").mkdir()
    row = {"view": 2, "occluded": False, "cropped": 1, "bbox": [1, 2, 30, 40]}
    name = "img/TOPS/T_Shirt/id_00000004/comsumer_01.jpg"
    path = tmp_path / f"annotations/a.{'jsonl' if kind == 'jsonl' else 'json'}"
    path.write_text({
        "json": json.dumps([{"image": name, **row}]),
        "jsonl": json.dumps({"image": name, **row}) + "\n",
        "mapping": json.dumps({name: row}),
    }[kind])  # fmt: skip
    with pytest.raises(DataError, match=r"a\.jsonl?, row 1: the view is '2'.*--views 0=front"):
        imported("findfashion", tmp_path)
    rows, _ = imported("findfashion", tmp_path, views={"2": "back"})
    [query] = [row for row in rows if row.domain is CUSTOMER]
    assert (query.setup, query.box) == ("hard_cropping+hard_view", Box(1, 2, 30, 40))


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        ({"image": "a.jpg", "view": "front", "occluded": "0"}, "no column for cropped; found image, view, occluded"),
        ({"image": "a.jpg", "view": "front", "occluded": "maybe", "cropped": "0"}, "occluded is 'maybe'"),
        ({"image": "a.jpg", "view": "front", "occluded": "0", "cropped": "0", "split": "x"}, "the split is 'x'"),
    ],
)
def test_an_annotation_that_is_not_understood_is_named(tmp_path: Path, cells: dict[str, str], says: str) -> None:
    layouts.consumer_to_shop(tmp_path / "deepfashion")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/a.json").write_text(json.dumps([cells]))
    with pytest.raises(DataError, match=says):
        imported("findfashion", tmp_path)


BUILDERS = {
    "deepfashion-c2s": layouts.consumer_to_shop,
    "deepfashion-inshop": layouts.in_shop,
    "street2shop": layouts.street2shop,
    "findfashion": layouts.findfashion,
}


@pytest.mark.parametrize(
    ("layout", "missing"),
    [
        ("deepfashion-c2s", "Eval/list_eval_partition.txt"),
        ("deepfashion-c2s", "Anno/list_bbox_consumer2shop.txt"),
        ("deepfashion-c2s", "Img"),
        ("deepfashion-inshop", "Eval/list_eval_partition.txt"),
        ("deepfashion-inshop", "Anno/list_bbox_inshop.txt"),
        ("street2shop", "meta/json"),
        ("street2shop", "meta/json/test_pairs_skirts.json"),
        ("street2shop", "images"),
        ("findfashion", "annotations"),
    ],
)
def test_what_is_missing_of_a_tree_is_named(tmp_path: Path, layout: Layout, missing: str) -> None:
    root = BUILDERS[layout](tmp_path / "tree")
    path = root / missing
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    with pytest.raises(DataError, match=Path(missing).name) as raised:
        import_layout(layout, root, tmp_path / "m.csv", settings=ImportSettings())
    assert "is not laid out as" in str(raised.value)
    assert not (tmp_path / "m.csv").exists()


@pytest.mark.parametrize("layout", BUILDERS)
def test_another_folder_is_refused(tmp_path: Path, layout: Layout) -> None:
    for root in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataError):
            import_layout(layout, root, tmp_path / "m.csv", settings=ImportSettings())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("image_name item_id evaluation_status\n", "begin with a line with a count"),
        ("1\nimage_name item_id\na b\n", "has the columns image_name item_id; expected"),
        ("1\nimage_name item_id evaluation_status\nimg/a.jpg id_1\n", "line 3: 2 cells, the header names 3"),
    ],
)
def test_a_table_in_another_form_says_where(tmp_path: Path, text: str, says: str) -> None:
    layouts.in_shop(tmp_path)
    (tmp_path / "Eval/list_eval_partition.txt").write_text(text)
    with pytest.raises(DataError, match=says):
        imported("deepfashion-inshop", tmp_path)


def test_the_folder_above_is_told_where_the_tree_is(tmp_path: Path) -> None:
    layouts.consumer_to_shop(tmp_path / "Consumer-to-shop Clothes Retrieval Benchmark")
    with pytest.raises(DataError, match=r"it is in .*Benchmark: give that folder"):
        imported("deepfashion-c2s", tmp_path)


def test_which_benchmark_a_deepfashion_folder_holds_is_seen(tmp_path: Path) -> None:
    assert deepfashion_layout(layouts.consumer_to_shop(tmp_path / "a")) == "deepfashion-c2s"
    assert deepfashion_layout(layouts.in_shop(tmp_path / "b")) == "deepfashion-inshop"
    assert deepfashion_layout(layouts.segmented_in_shop(tmp_path / "c")) == "deepfashion-inshop"
    with pytest.raises(DataError, match="neither"):
        deepfashion_layout(tmp_path)


def test_a_manifest_elsewhere_names_images_by_their_whole_path(tmp_path: Path) -> None:
    root = layouts.consumer_to_shop(tmp_path / "data")
    import_layout("deepfashion-c2s", root, tmp_path / "sets/m.parquet", settings=ImportSettings())
    gallery, _ = read_manifest(tmp_path / "sets/m.parquet", Selection(Split.TEST))
    assert all(image.path.is_file() and image.path.is_relative_to(root) for image in gallery)


def test_the_share_held_out_is_near_what_was_asked() -> None:
    held = sum(held_out(f"id_{n:08d}", 0.1) is Split.VAL for n in range(4000))
    assert 320 < held < 480
