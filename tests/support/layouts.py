"""Small trees in exactly the layouts of public data sets, with made images: no photo of those sets is used."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image


def picture(path: Path, seed: int, size: tuple[int, int] = (60, 80)) -> None:
    """A made photo, (width, height) pixels, like no other seed's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 3, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size).save(path)


def table(path: Path, header: str, rows: list[str]) -> None:
    """DeepFashion's form: a count, names, then cells padded to columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    widths = [max(len(row.split()[at]) for row in rows) for at in range(len(rows[0].split()))]
    padded = [" ".join(cell.ljust(width) for cell, width in zip(row.split(), widths, strict=True)) for row in rows]
    path.write_text(f"{len(rows)}\n{header}\n" + "\n".join(padded) + "\n")


C2S_ITEMS = {"id_00000001": "train", "id_00000002": "train", "id_00000003": "val", "id_00000004": "test"}


def consumer_to_shop(root: Path) -> Path:
    """Four items in TOPS/T_Shirt; two consumer and two shop images each, every pair listed."""
    pairs, boxes = [], []
    for number, (item, status) in enumerate(C2S_ITEMS.items()):
        folder = f"img/TOPS/T_Shirt/{item}"
        # The archive spells it so.
        consumers = [f"{folder}/comsumer_{n:02d}.jpg" for n in (1, 2)]
        shops = [f"{folder}/shop_{n:02d}.jpg" for n in (1, 2)]
        for n, name in enumerate((*shops, *consumers)):
            picture(root / "Img" / name, 10 * number + n)
            boxes.append(f"{name} 1 {1 if 'shop' in name else 2} {5 + n} 6 50 70")
        pairs += [f"{consumer} {shop} {item} {status}" for consumer in consumers for shop in shops]
    table(root / "Eval/list_eval_partition.txt", "image_pair_name_1 image_pair_name_2 item_id evaluation_status", pairs)
    header = "image_name clothes_type source_type x_1 y_1 x_2 y_2"
    table(root / "Anno/list_bbox_consumer2shop.txt", header, boxes)
    (root / "Anno/list_item_consumer2shop.txt").write_text("\n".join([str(len(C2S_ITEMS)), *C2S_ITEMS]) + "\n")
    return root


def in_shop(root: Path, *, items: int = 6) -> Path:
    """`items` items to train on, three images each, and two to test on, with a query and two gallery images each."""
    rows, boxes = [], []
    for number in range(items + 2):
        item = f"id_{number + 1:08d}"
        for n, (view, pose) in enumerate((("1_front", 1), ("2_side", 2), ("3_back", 3))):
            name = f"img/WOMEN/Dresses/{item}/02_{view}.jpg"
            status = "train" if number < items else ("gallery", "query", "gallery")[n]
            picture(root / "Img" / name, 10 * number + n, (64, 64))
            rows.append(f"{name} {item} {status}")
            boxes.append(f"{name} 3 {pose} 4 5 60 62")
    table(root / "Eval/list_eval_partition.txt", "image_name item_id evaluation_status", rows)
    table(root / "Anno/list_bbox_inshop.txt", "image_name clothes_type pose_type x_1 y_1 x_2 y_2", boxes)
    ids = [f"id_{number + 1:08d}" for number in range(items + 2)]
    (root / "Anno/list_item_inshop.txt").write_text("\n".join([str(len(ids)), *ids]) + "\n")
    return root


def segmented_in_shop(root: Path) -> Path:
    """As `in_shop`, with the later segmentation files in place of the table of boxes, over larger images."""
    in_shop(root)
    (root / "Anno/list_bbox_inshop.txt").unlink()
    rows = [line.split() for line in (root / "Eval/list_eval_partition.txt").read_text().splitlines()[2:]]
    for part in ("train", "query", "gallery"):
        images: list[dict[str, object]] = []
        annotations: list[dict[str, object]] = []
        for name, _, status in rows:
            if status == part:
                larger = name.replace("img/", "img_highres/", 1)
                picture(root / "Img" / larger, len(images), (128, 128))
                images.append({"id": len(images) + 1, "file_name": larger, "width": 128, "height": 128})
                for bbox in ([10, 12, 50, 40], [20, 30, 80, 70]):  # x, y, width, height
                    annotations.append({"id": len(annotations), "image_id": len(images), "bbox": bbox})
        path = root / f"Anno/segmentation/DeepFashion_segmentation_{part}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": []}))
    return root


def street2shop(root: Path) -> Path:
    """Tops and skirts. Tops: products 1 to 8 to train on, 9 to test, 10 a distractor; skirts: 21 and 22, 29 to test.

    Street photo 107 shows a top and a skirt; photo 109 was never fetched.
    """
    shop = {"tops": [*range(1, 11)], "skirts": [21, 22, 29]}
    pairs = {
        "train_pairs_tops": [(100 + n, n) for n in range(1, 9)],
        "test_pairs_tops": [(109, 9), (110, 9)],
        "train_pairs_skirts": [(107, 21), (122, 22)],
        "test_pairs_skirts": [(129, 29)],
    }
    meta = root / "meta/json"
    meta.mkdir(parents=True)
    for category, products in shop.items():
        entries = [{"photo": 1000 * product + n, "product": product} for product in products for n in (0, 1)]
        (meta / f"retrieval_{category}.json").write_text(json.dumps(entries))
        for number, entry in enumerate(entries):
            picture(root / f"images/{entry['photo']:09d}.jpeg", 500 + number + len(category))
    for name, listed in pairs.items():
        top = 40 if "skirts" in name else 3
        bbox = {"width": 30, "top": top, "left": 7, "height": 35}
        entries = [{"photo": photo, "product": product, "bbox": bbox} for photo, product in listed]
        (meta / f"{name}.json").write_text(json.dumps(entries))
        for photo, _ in listed:
            if photo != 109:
                picture(root / f"images/{photo:09d}.{'png' if photo % 2 else 'jpeg'}", photo)
    (root / "photos").mkdir()
    (root / "photos/photos.txt").write_text("000000109,http://shop.example/109.jpg\n")
    return root


def findfashion(root: Path) -> Path:
    """Both trees and annotations over them: a padded text table and a CSV file, in the names the reader looks for."""
    consumer_to_shop(root / "deepfashion")
    street2shop(root / "street2shop")
    folder = "img/TOPS/T_Shirt"
    table(
        root / "annotations/deepfashion.txt",
        "image_name view occlusion cropping x_1 y_1 x_2 y_2",
        [
            f"{folder}/id_00000001/comsumer_01.jpg front 0 0 1 2 30 40",
            f"{folder}/id_00000003/comsumer_01.jpg side 0 0 1 2 30 40",
            f"{folder}/id_00000004/comsumer_01.jpg back 1 0 1 2 30 40",
            f"{folder}/id_00000004/comsumer_02.jpg front 0 1 1 2 30 40",
            f"{folder}/id_00000004/shop_01.jpg front 0 0 2 2 58 78",
        ],
    )
    lines = ["image,product,view,occluded,cropped,split", "107,tops-7,front,yes,no,", "107,21,back,no,no,"]
    lines += ["000000110.jpeg,9,front,no,no,test", "122,22,front,no,no,val"]
    (root / "annotations/street2shop.csv").write_text("\n".join(lines) + "\n")
    return root


FASHIONAI_META = {
    "FashionAI": {
        "ATTRIBUTES": ["neckline_design", "sleeve-length"],
        "ATTRIBUTES_NUM": {"neckline_design": 3, "sleeve-length": 2},
        "ATTRIBUTES_VALUES": {"neckline_design": ["Invisible", "V Neck", "Square Neckline"]},
    },
    "DeepFashion": {"ATTRIBUTES": ["texture-related"], "ATTRIBUTES_NUM": {"texture-related": 156}},
}


def fashionai(data: Path) -> Path:
    """ASEN's data/ with FashionAI in it: 4 photos to train on, 3 each of valid and test, of which one asks."""
    root = data / "FashionAI"
    root.mkdir(parents=True)
    (data / "meta.json").write_text(json.dumps(FASHIONAI_META))
    for part, count in (("train", 4), ("valid", 3), ("test", 3)):
        names = [f"Images/neckline_design_labels/{part}{n}.jpg" for n in range(count)]
        for n, name in enumerate(names):
            picture(root / name, 100 * len(part) + n)
        (root / f"filenames_{part}.txt").write_text("".join(f"{name}\n" for name in names))
    (root / "label_train.txt").write_text("0 0 1\n1 0 2 1 0\n2 0 1 0 2\n3 1 1\n")
    for part in ("valid", "test"):
        (root / f"candidate_{part}.txt").write_text("0 0 1\n1 0 2\n")
        (root / f"query_{part}.txt").write_text("2 0 1\n2 1 1\n")
    return root


def zappos50k(root: Path) -> Path:
    """UT-Zap50K's folders with CSN's triplet lists: 8 shoes; the second list of the class names a shoe twice."""
    names = [f"Shoes/{'Oxfords' if n % 2 else 'Boat Shoes'}/Bostonian/{n}.jpg" for n in range(8)]
    for n, name in enumerate(names):
        picture(root / "ut-zap50k-images" / name, 900 + n)
    (root / "filenames.json").write_text("".join(f"{name}\n" for name in names))
    lists = {"train": "0 1 2\n2 3 0\n", "val": "3 4 5\n", "test": "6 7 4\n"}
    for attribute in ("class", "closure", "gender", "heel"):
        for split, triplets in lists.items():
            path = root / "tripletlists" / f"{attribute}_tripletlist_{split}.txt"
            path.parent.mkdir(exist_ok=True)
            path.write_text(triplets)
    return root
