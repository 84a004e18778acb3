"""DeepFashion's two retrieval benchmarks (Liu et al., CVPR 2016) as manifest rows.

Consumer-to-Shop  Eval/list_eval_partition.txt   image_pair_name_1 (consumer) image_pair_name_2 (shop) item_id
                                                 evaluation_status (train, val, test)
                  Anno/list_bbox_consumer2shop.txt   image_name clothes_type source_type x_1 y_1 x_2 y_2
                  Anno/list_item_consumer2shop.txt   item ids, optional
                  Img/img/CATEGORY/SUBCATEGORY/id_00000001/...jpg
In-shop           Eval/list_eval_partition.txt   image_name item_id evaluation_status (train, query, gallery)
                  Anno/list_bbox_inshop.txt      image_name clothes_type pose_type x_1 y_1 x_2 y_2
                  or Anno/segmentation/DeepFashion_segmentation_{train,query,gallery}.json, COCO's form
                  Anno/list_item_inshop.txt      item ids, optional
                  Img/img/WOMEN/CATEGORY/id_00000001/...jpg
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from threadmatch.model.data.layouts.tree import Notes, corners_box, held_out, image_folder, item_ids, need, table_rows
from threadmatch.model.data.manifest.rows import Domain, ManifestRow, Split
from threadmatch.model.data.setups import Setup
from threadmatch.model.errors import DataError
from threadmatch.model.images import Box

C2S: Final = "DeepFashion Consumer-to-Shop"
INSHOP: Final = "DeepFashion In-shop"
C2S_BOXES: Final = "Anno/list_bbox_consumer2shop.txt"
INSHOP_BOXES: Final = "Anno/list_bbox_inshop.txt"
INSHOP_SEGMENTATION: Final = "Anno/segmentation"
PARTITION: Final = "Eval/list_eval_partition.txt"
CLOTHES: Final = {"1": "upper", "2": "lower", "3": "full"}
SOURCES: Final = {"1": Domain.SHOP, "2": Domain.CUSTOMER}
POSES: Final = {"1": "front", "2": "side", "3": "back", "4": "zoom-out", "5": "zoom-in", "6": "stand-alone"}
C2S_OTHERS: Final = ("clothes_type",)
INSHOP_OTHERS: Final = ("clothes_type", "pose")
_SEGMENTED: Final = tuple(
    f"{INSHOP_SEGMENTATION}/DeepFashion_segmentation_{part}.json" for part in ("train", "query", "gallery")
)
_BOX_COLUMNS: Final = ("x_1", "y_1", "x_2", "y_2")
_POSE_SETUP: Final = {"front": Setup.EASY, "side": Setup.HARD_VIEW, "back": Setup.HARD_VIEW}

_Boxes = dict[str, tuple[Box | None, str, str]]
"""Image name to its box, its clothes type, and its source or pose type."""


def read_c2s(root: Path, notes: Notes) -> Iterator[ManifestRow]:
    """Consumer-to-Shop: every consumer and shop image once, in its official split, with its official box.

    The benchmark asks with the test split's customer images and answers with the test split's shop images.

    Raises:
        DataError: the tree is not in this layout; what is missing is named.
    """
    partition = need(root, PARTITION, C2S)
    columns = ("image_pair_name_1", "image_pair_name_2", "item_id", "evaluation_status")
    boxes = _box_table(need(root, C2S_BOXES, C2S), "source_type", notes)
    known = item_ids(root / "Anno/list_item_consumer2shop.txt")
    folder = image_folder(root, (row[0] for row in table_rows(partition, columns, Notes())), C2S)
    seen: set[tuple[str, str, str]] = set()
    for consumer, shop, item, status in table_rows(partition, columns, notes):
        split = _split(status, partition)
        if known is not None and item not in known:
            notes.add("item not listed", f"{item} is in {PARTITION} but not in the list of items")
        for name, domain in ((consumer, Domain.CUSTOMER), (shop, Domain.SHOP)):
            if (name, item, status) in seen:  # a pair a line: most images stand in several
                continue
            seen.add((name, item, status))
            box, clothes, source = boxes.get(name, (None, "", ""))
            if name not in boxes:
                notes.add("no box", f"{name}; the whole image is taken")
            elif SOURCES.get(source, domain) is not domain:
                notes.add("domain disagrees", f"{name} is listed as {domain}, source_type {source}; the list is taken")
            yield ManifestRow(
                image=str(folder / name),
                product_id=item,
                domain=domain,
                split=split,
                id=name.removesuffix(".jpg") if domain is Domain.SHOP else "",
                box=box,
                category="/".join(Path(name).parts[1:-2]),
                others=(("clothes_type", CLOTHES.get(clothes, clothes)),),
            )


def read_inshop(root: Path, notes: Notes, *, val_share: float) -> Iterator[ManifestRow]:
    """In-shop: query images ask, gallery images answer, both in `test`.

    The official train part has neither roles nor a val part. Here a product's train images take turns at answering and
    asking, and `val_share` of the train products, by hash, are `val`.

    Raises:
        DataError: the tree is not in this layout; what is missing is named.
    """
    partition = need(root, PARTITION, INSHOP)
    columns = ("image_name", "item_id", "evaluation_status")
    boxes = _inshop_boxes(root, notes)
    known = item_ids(root / "Anno/list_item_inshop.txt")
    names = [row[0] for row in table_rows(partition, columns, Notes())]
    folder = image_folder(root, (_photo(name, boxes) for name in names), INSHOP)
    turns: dict[str, int] = {}
    for name, item, status in table_rows(partition, columns, notes):
        if known is not None and item not in known:
            notes.add("item not listed", f"{item} is in {PARTITION} but not in the list of items")
        if status == "train":
            turns[item] = turns.get(item, 0) + 1
            domain, split = (Domain.SHOP, Domain.CUSTOMER)[(turns[item] - 1) % 2], held_out(item, val_share)
        elif status in ("query", "gallery"):
            domain, split = (Domain.CUSTOMER if status == "query" else Domain.SHOP), Split.TEST
        else:
            raise DataError(f"{partition}: {name} has the status {status!r}, expected train, query or gallery")
        photo = _photo(name, boxes)
        if photo not in boxes:
            notes.add("no box", f"{name}; the whole image is taken")
        box, clothes, pose_type = boxes.get(photo, (None, "", ""))
        pose = POSES.get(pose_type, pose_type)
        yield ManifestRow(
            image=str(folder / photo),
            product_id=item,
            domain=domain,
            split=split,
            id=name.removesuffix(".jpg") if domain is Domain.SHOP else "",
            box=box,
            category="/".join(Path(name).parts[1:-2]),
            setup=str(_POSE_SETUP.get(pose, "")) if domain is Domain.CUSTOMER else "",
            others=(("clothes_type", CLOTHES.get(clothes, clothes)), ("pose", pose)),
        )


def _split(status: str, partition: Path) -> Split:
    try:
        return Split(status)
    except ValueError:
        raise DataError(f"{partition}: evaluation status {status!r}, expected train, val or test") from None


def _box_table(path: Path, kind: str, notes: Notes) -> _Boxes:
    columns = ("image_name", "clothes_type", kind, *_BOX_COLUMNS)
    return {
        name: (corners_box(corners, name, notes), clothes, other)
        for name, clothes, other, *corners in table_rows(path, columns, notes)
    }


def _inshop_boxes(root: Path, notes: Notes) -> _Boxes:
    """From the table; where only the later segmentation files are there, from those (of the larger images)."""
    found = [path for name in _SEGMENTED if (path := root / name).is_file()]
    if (root / INSHOP_BOXES).is_file() or not found:
        return _box_table(need(root, INSHOP_BOXES, INSHOP), "pose_type", notes)
    boxes: _Boxes = {}
    for path in found:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            names = {image["id"]: str(image["file_name"]) for image in content["images"]}
            for annotation in content["annotations"]:
                name = names[annotation["image_id"]]
                boxes[name] = (_joined(boxes.get(name, (None,))[0], annotation["bbox"], name, notes), "", "")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is not COCO's form (images, annotations with bbox): {error!r}") from error
    return boxes


def _joined(box: Box | None, corner_and_size: list[Any], name: str, notes: Notes) -> Box | None:
    """The box around an image's garments so far and the next, which is given as x, y, width, height."""
    x, y, width, height = (float(part) for part in corner_and_size)
    new = corners_box([str(part) for part in (x, y, x + width, y + height)], name, notes)
    if box is None or new is None:
        return new or box
    return Box(min(box.x0, new.x0), min(box.y0, new.y0), max(box.x1, new.x1), max(box.y1, new.y1))


def _photo(name: str, boxes: _Boxes) -> str:
    """The image that the boxes are of: the one named, or the larger one of the same name."""
    larger = name.replace("img/", "img_highres/", 1)
    return larger if name not in boxes and larger in boxes else name
