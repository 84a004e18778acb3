"""FindFashion (Kuang et al., ICCV 2019, sec. 4): its annotations over Consumer-to-Shop and Street2Shop.

    ROOT/deepfashion/    a Consumer-to-Shop tree, see `deepfashion`
    ROOT/street2shop/    a Street2Shop tree, see `street2shop`; one of the two is enough
    ROOT/annotations/    tables with a row an image (or a garment in it): .csv, .tsv, .txt, .json or .jsonl

The paper says what was annotated, not in what form, and the files lay on a cloud drive that could not be read when this
was written. So the columns are found by name (NAMES), whatever the kind of file, and one that cannot be understood is
an error. What is certain is the protocol: queries are grouped by the paper's definitions, the gallery stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, Final

from threadmatch.model.data.layouts.deepfashion import read_c2s
from threadmatch.model.data.layouts.street2shop import read_street2shop
from threadmatch.model.data.layouts.tree import Notes, corners_box
from threadmatch.model.data.manifest.rows import AND, Domain, ManifestRow, Split
from threadmatch.model.data.setups import Setup
from threadmatch.model.data.tables.labelled import open_table
from threadmatch.model.data.tables.writing import WRITTEN
from threadmatch.model.errors import DataError
from threadmatch.model.images import Box

FINDFASHION: Final = "FindFashion"
VIEWS: Final = ("front", "side", "back")
OTHERS: Final = ("clothes_type", "view")
NAMES: Final = {
    "image": ("image", "image_name", "img", "file", "filename", "path", "photo"),
    "view": ("view", "viewpoint", "view_type"),
    "occluded": ("occluded", "occlusion", "is_occluded"),
    "cropped": ("cropped", "cropping", "crop", "is_cropped"),
    "box": ("box", "bbox"),
    "split": ("split", "evaluation_status", "status", "set"),
    "product": ("product_id", "product", "item_id", "item"),
}
"""What a column may be called; image, view, occluded and cropped are needed."""
_NEEDED: Final = ("image", "view", "occluded", "cropped")
_CORNERS: Final = ("x_1", "y_1", "x_2", "y_2")
_YES: Final = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True, slots=True)
class Annotation:
    """What FindFashion says of one image, or of one garment in it."""

    view: str
    occluded: bool
    cropped: bool
    box: Box | None
    split: Split | None
    product: str

    @property
    def setup(self) -> str:
        """The paper's four setups. A query that is hard in two ways counts in both, as the paper's sums show."""
        hard = {
            Setup.HARD_CROPPING: self.cropped,
            Setup.HARD_OCCLUSION: self.occluded,
            Setup.HARD_VIEW: self.view != "front",
        }
        return AND.join(setup.value for setup, is_so in hard.items() if is_so) or Setup.EASY.value


_Known = dict[str | int, list[Annotation]]
"""Image, as `_key` tells it, to what is said of it."""


def read_findfashion(root: Path, notes: Notes, *, val_share: float, views: Mapping[str, str]) -> Iterator[ManifestRow]:
    """Queries that are annotated, with their setups; the galleries of both sets as they are, with corrected boxes.

    Where the annotations name splits, a product goes where they say, else it stays where its set has it.

    Args:
        root: see above.
        notes: told of what is odd.
        val_share: as for the sets themselves.
        views: what numbers in the view column mean, such as {"0": "front", "1": "side", "2": "back"}.

    Raises:
        DataError: the tree is not in this layout, or an annotation cannot be understood; the file and row are named.
    """
    known = _annotations(root, views, notes)
    moved = _moved(root, known, notes, val_share)
    for row in _base(root, notes, val_share):
        annotation = _of(known, row)
        if annotation is None and row.domain is Domain.CUSTOMER:
            notes.add("query not annotated", f"{row.image}: left out")
            continue
        others = {**dict(row.others), "view": annotation.view if annotation else ""}
        yield ManifestRow(
            image=row.image,
            product_id=row.product_id,
            domain=row.domain,
            split=moved.get(row.product_id, row.split),
            id=row.id,
            box=(annotation.box if annotation else None) or row.box,
            category=row.category,
            setup=annotation.setup if annotation and row.domain is Domain.CUSTOMER else "",
            others=tuple(others.items()),
        )


def _moved(root: Path, known: _Known, notes: Notes, val_share: float) -> dict[str, Split]:
    """Where the annotations put products: all images of a product follow the annotated ones."""
    moved: dict[str, Split] = {}
    if not any(one.split for several in known.values() for one in several):
        return moved
    for row in _base(root, Notes(), val_share):
        annotation = _of(known, row)
        if annotation is None or annotation.split is None:
            continue
        if moved.setdefault(row.product_id, annotation.split) is not annotation.split:
            notes.add("product annotated in two splits", f"{row.product_id}: {moved[row.product_id]} is taken")
    return moved


def _base(root: Path, notes: Notes, val_share: float) -> Iterator[ManifestRow]:
    """Both sets' own rows; product ids cannot meet, Street2Shop's begin with their category."""
    parts: list[Iterator[ManifestRow]] = []
    if (root / "deepfashion").is_dir():
        parts.append(read_c2s(root / "deepfashion", notes))
    if (root / "street2shop").is_dir():
        parts.append(read_street2shop(root / "street2shop", notes, val_share=val_share))
    if not parts:
        raise DataError(
            f"{root} is not laid out as {FINDFASHION}: it holds neither deepfashion/ nor street2shop/; "
            "put the trees of those sets there, links will do"
        )
    return chain(*parts)


def _key(name: str) -> str | int:
    """An image by what its name says: Street2Shop's number, else DeepFashion's category, subcategory, item and file."""
    path = PurePosixPath(name.replace("\\", "/"))
    return int(path.stem) if path.stem.isdecimal() else "/".join(path.parts[-4:])


def _of(known: _Known, row: ManifestRow) -> Annotation | None:
    """The annotation of a row: its product's where products are named, and of several the one with the nearest box."""
    wanted = ("", row.product_id, row.product_id.removeprefix(f"{row.category}-"))
    fitting = [one for one in known.get(_key(row.image), []) if one.product in wanted]
    if len(fitting) < 2 or row.box is None:
        return fitting[0] if fitting else None
    own = row.box
    return max(fitting, key=lambda one: _overlap(own, one.box) if one.box else -1.0)


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    across = min(one.x1, other.x1) - max(one.x0, other.x0)
    down = min(one.y1, other.y1) - max(one.y0, other.y0)
    shared = max(0.0, across) * max(0.0, down)
    return shared / (one.width * one.height + other.width * other.height - shared)


def _annotations(root: Path, views: Mapping[str, str], notes: Notes) -> _Known:
    kinds = (*WRITTEN, ".txt", ".json", ".jsonl")
    files = sorted(path for path in (root / "annotations").rglob("*") if path.suffix.lower() in kinds)
    if not files:
        raise DataError(
            f"{root} is not laid out as {FINDFASHION}: annotations/ with {', '.join(kinds)} files is missing; "
            "they are linked from the paper's repository, Gaoyiminggithub/Fashion_retrieval_GRNet"
        )
    known: _Known = {}
    for path in files:
        for number, cells in enumerate(_records(path), start=1):
            image, annotation = _annotation(cells, f"{path}, row {number}", views, notes)
            known.setdefault(_key(image), []).append(annotation)
    return known


def _records(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a table of any kind, names in lower case."""
    try:
        if path.suffix.lower() == ".json":
            content = json.loads(path.read_text(encoding="utf-8"))
            rows = content if isinstance(content, list) else [{"image": name, **row} for name, row in content.items()]
        elif path.suffix.lower() == ".jsonl":
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        elif path.suffix.lower() == ".txt":
            lines = [line.split() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
            header, *body = lines[1:] if lines and len(lines[0]) == 1 and lines[0][0].isdigit() else lines
            rows = [dict(zip(header, cells, strict=True)) for cells in body]
        else:
            rows = [cells if isinstance(cells, dict) else {"": cells} for _, cells in open_table(path)]
        for row in rows:
            yield {str(name).strip().lower(): _plain(value) for name, value in row.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DataError(f"{path} cannot be read as a table with a row an image: {error}") from error


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(_plain, value))
    return "" if value is None else str(value).strip()


def _annotation(cells: Mapping[str, str], where: str, views: Mapping[str, str], notes: Notes) -> tuple[str, Annotation]:
    names = {part: next((name for name in called if name in cells), None) for part, called in NAMES.items()}
    if missing := [part for part in _NEEDED if names[part] is None]:
        accepted = "; ".join(f"{part}: {', '.join(NAMES[part])}" for part in missing)
        raise DataError(
            f"{where} has no column for {', '.join(missing)}; found {', '.join(cells)}; accepted are {accepted}"
        )
    value = {part: cells[name] if name else "" for part, name in names.items()}
    view = views.get(value["view"], value["view"]).lower()
    if view not in VIEWS:
        raise DataError(
            f"{where}: the view is {value['view']!r}, expected one of {', '.join(VIEWS)}; "
            "if numbers stand for them, say which: --views 0=front,1=side,2=back"
        )
    flags = {}
    for part in ("occluded", "cropped"):
        if value[part].lower() not in _YES:
            raise DataError(f"{where}: {part} is {value[part]!r}, expected one of {', '.join(_YES)}")
        flags[part] = _YES[value[part].lower()]
    corners = value["box"].strip("[]()").replace(",", " ").split() or [cells.get(name, "") for name in _CORNERS]
    try:
        split = Split(value["split"].lower()) if value["split"] else None
    except ValueError:
        raise DataError(f"{where}: the split is {value['split']!r}, expected train, val or test") from None
    box = corners_box(corners, value["image"], notes) if any(corners) else None
    return value["image"], Annotation(view, flags["occluded"], flags["cropped"], box, split, value["product"])
