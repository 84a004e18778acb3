"""A gallery and street queries with known answers, made from folders of real garment photos.

Input    folders with items.csv: `clothing` (image, id, photographer, split, label) and shops such as `luma` and `venia`
         (image, id, product_id, sku, view: main, back, ..., category)
Output   gallery.csv, queries.csv and queries/*.jpg, the form that `pairs.read_labelled` reads, and both as manifest.csv
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
from PIL import Image

from threadmatch.model.data.manifest.join import MANIFEST, write_joined_manifest
from threadmatch.model.data.manifest.rows import Split as ManifestSplit
from threadmatch.model.data.setups import Setup
from threadmatch.model.errors import DataError, InvalidImageError
from threadmatch.model.images import decode_image
from threadmatch.model.synthetic.street.cutout import Cutout, Pixels, cut_out, worn
from threadmatch.model.synthetic.street.street_query import make_background, street_query

Split = Literal["train", "val", "test"]
NAMES = {
    "Body": "Bodysuit", "Longsleeve": "Long-sleeved top", "Outwear": "Jacket", "Pants": "Trousers",
    "Polo": "Polo shirt",
}  # fmt: skip
"""What to call a garment of which the label alone is known, where the label is not the word."""
GALLERY_COLUMNS = ("image", "id", "product_id", "category", "source", "name", "price", "color")
QUERY_COLUMNS = ("image", "product_id", "box", "setup", "cropped", "occluded", "source_view", "category")
SHOWN_VIEWS: Final = ("only", "main")
"""Of a product, what a gallery shows."""
STREET_QUALITY = 92
PHOTO_PX = 512
"""Photos are read no finer (to a factor of two); the queries made are smaller."""
NEIGHBOURS = 4
"""Other photographers' photos that a query may take its background and what covers it from."""
REACH = 12
"""They stand at most this far away in the list, so that a process has most of them cut out already."""
TASKS_PER_CALL = 64


@dataclass(frozen=True, slots=True)
class SourcePhoto:
    """One photo of a source folder. `owner` never shares a background with another: photographer, or shop and SKU."""

    path: Path
    id: str
    product_id: str
    owner: str
    view: str
    split: Split
    row: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Task:
    photo: SourcePhoto
    setup: Setup
    number: int
    neighbours: tuple[Path, ...]
    seed: int
    out: Path


_WANTED: Final = (
    frozenset({"image", "id", "photographer", "split", "label"}),
    frozenset({"image", "id", "sku", "product_id", "view", "category", "name", "price", "color"}),
)
"""Columns of a folder of people's own garments, and of a shop's."""


def holds_garments(folder: Path) -> bool:
    """Whether a folder has an items.csv with the columns of a source, a photo of one garment a row."""
    try:
        with (folder / "items.csv").open(newline="", encoding="utf-8") as file:
            columns = set(next(csv.reader(file), ()))
    except (OSError, ValueError, csv.Error):
        return False
    return any(wanted <= columns for wanted in _WANTED)


def read_sources(root: Path, sources: Sequence[str]) -> list[SourcePhoto]:
    """List the photos of source folders, with the split each belongs to.

    `clothing` is split by photographer: its own train photographers; of its val photographers a third, chosen by hash,
    is `test`. Shops are split by SKU, so that colours of one cut stay together: half is `train`, half is `test`.

    Raises:
        DataError: a folder or a column is missing.
    """
    photos = []
    for source in sources:
        table = root / source / "items.csv"
        try:
            with table.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
        except OSError as error:
            raise DataError(f"no photos in {root / source}: {table} cannot be read ({error})") from error
        photos += [_photo(root / source, source, row) for row in rows]
    return photos


def _photo(folder: Path, source: str, row: dict[str, str]) -> SourcePhoto:
    try:
        if "photographer" in row:
            owner, product_id, view = f"{source}/{row['photographer']}", row["id"], "only"
            split: Split = "train" if row["split"] == "train" else ("test" if stable_hash(owner) % 3 == 0 else "val")
            known = {"category": row["label"], "name": NAMES.get(row["label"], row["label"])}
        else:
            owner, product_id, view = f"{source}/{row['sku']}", row["product_id"], row["view"]
            split = "train" if stable_hash(owner) % 2 == 0 else "test"
            known = {name: row[name] for name in ("category", "name", "price", "color")}
        return SourcePhoto(
            path=(folder / row["image"]).absolute(),
            id=row["id"],
            product_id=product_id,
            owner=owner,
            view=view,
            split=split,
            row=tuple({**known, "source": source}.items()),
        )
    except KeyError as error:
        raise DataError(f"{folder / 'items.csv'} has no column {error}; found {sorted(row)}") from error


def stable_hash(text: str) -> int:
    """A number of a text that is the same in every process and release."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def build_street_set(
    root: Path,
    out: Path,
    *,
    sources: Sequence[str] = ("clothing", "luma", "venia"),
    split: Split = "test",
    per_item: int = 2,
    seed: int = 0,
    limit: int | None = None,
    keep: Callable[[SourcePhoto], bool] | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Write gallery.csv, queries.csv, manifest.csv and the query pictures.

    Args:
        root: folder of the source folders; gallery images stay there and are named by absolute path.
        out: folder to write; what is there already is made again.
        sources: folders to take.
        split: which part; see `read_sources`.
        per_item: queries an image; the setups take turns.
        seed: of every choice.
        limit: gallery images at most, the first by hash; None takes all.
        keep: which photos of the split; None keeps all.
        workers: processes; None takes all cores. The result does not depend on it.
        progress: called with queries tried and queries in all.

    Returns:
        Counts: gallery, queries, failed (of photos that cannot be read or show no garment).

    Raises:
        DataError: a folder is missing, or holds nothing of this split.
    """
    photos = [p for p in read_sources(root, sources) if p.split == split and (keep is None or keep(p))]
    if not any(p.view in SHOWN_VIEWS for p in photos):
        raise DataError(f"no photos of split {split!r} in {[str(root / s) for s in sources]}")
    return write_street_set(photos, out, per_item=per_item, seed=seed, limit=limit, workers=workers, progress=progress)


def write_street_set(
    photos: Sequence[SourcePhoto],
    out: Path,
    *,
    per_item: int = 2,
    seed: int = 0,
    limit: int | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """`build_street_set` of these photos, which are of one split and some of which a gallery shows."""
    photos = sorted(photos, key=lambda p: stable_hash(p.id))
    gallery = [p for p in photos if p.view in SHOWN_VIEWS][:limit]
    shown = {p.product_id for p in gallery}
    photos = [p for p in photos if p.product_id in shown]
    (out / "queries").mkdir(parents=True, exist_ok=True)
    for old in (out / "queries").glob("[0-9]*.jpg"):
        old.unlink()
    tasks = list(_tasks(photos, per_item, seed, out))
    made = []
    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=get_context("forkserver")) as pool:
        for done, row in enumerate(pool.map(_make, tasks, chunksize=TASKS_PER_CALL), start=1):
            made += [row] if row is not None else []
            if progress is not None:
                progress(done, len(tasks))
    write_table(out / "gallery.csv", GALLERY_COLUMNS, [gallery_row(p) for p in gallery])
    write_table(out / "queries.csv", QUERY_COLUMNS, made)
    split = ManifestSplit(gallery[0].split)
    write_joined_manifest(out / "gallery.csv", out / "queries.csv", out / MANIFEST, split=split)
    return {"gallery": len(gallery), "queries": len(made), "failed": len(tasks) - len(made)}


def _tasks(photos: Sequence[SourcePhoto], per_item: int, seed: int, out: Path) -> Iterator[_Task]:
    setups = list(Setup)
    for number, photo in enumerate(photos):
        rng = np.random.default_rng([seed, stable_hash(photo.id) % 2**32])
        near = [p for p in photos[max(0, number - REACH) : number + REACH] if p.owner != photo.owner]
        strangers = [near[i].path for i in rng.permutation(len(near))[:NEIGHBOURS]]
        turn = int(rng.integers(len(setups)))
        for k in range(per_item):
            # a true back view is a hard view by definition, whatever else happens to it
            setup = Setup.HARD_VIEW if photo.view == "back" else setups[(turn + k) % len(setups)]
            yield _Task(photo, setup, number * per_item + k, tuple(strangers), seed, out)


@lru_cache(maxsize=64)
def cut_of(path: Path) -> tuple[Pixels | None, Cutout | None]:
    """A photo and its garment, each None where there is none."""
    cv2.setNumThreads(1)  # the pool already uses all cores
    photo = None
    try:
        photo = decode_image(path.read_bytes(), long_side_hint_px=PHOTO_PX).pixels
        return photo, cut_out(photo)
    except (OSError, InvalidImageError, DataError):
        return photo, None


def garment_of(photo: SourcePhoto) -> Cutout | None:
    """The photo's garment; in a shop's pictures of somebody wearing it, without head or feet."""
    _, cutout = cut_of(photo.path)
    category = dict(photo.row).get("category", "")
    if cutout is None or photo.view not in ("main", "back"):
        return cutout
    if "Tops" in category or "Dresses" in category:
        return worn(cutout, where="top")
    if category.endswith(("Shorts", "Skirts")) and "Pants" not in category:
        return worn(cutout, where="bottom")
    return cutout


def _make(task: _Task) -> dict[str, str] | None:
    """Make and write one query; None where no garment was found."""
    cutout = garment_of(task.photo)
    if cutout is None:
        return None
    rng = np.random.default_rng([task.seed, task.number, 1])
    strangers = [cut_of(path) for path in task.neighbours]
    photos = [photo for photo, _ in strangers if photo is not None]
    background = photos[int(rng.integers(len(photos)))] if photos else np.full((64, 64, 3), 160, np.uint8)
    # A back view is photographed as it is: bending it further would be a second difficulty on top of the true one.
    setup = Setup.EASY if task.photo.view == "back" else task.setup
    query = street_query(
        cutout,
        make_background(background, rng),
        setup=setup,
        rng=rng,
        others=[other for _, other in strangers if other is not None],
    )
    name = f"queries/{task.number:06d}.jpg"
    Image.fromarray(query.image).save(task.out / name, "JPEG", quality=STREET_QUALITY)
    box = query.box
    return {
        "image": name,
        "product_id": task.photo.product_id,
        "box": f"{box.x0:g},{box.y0:g},{box.x1:g},{box.y1:g}",
        "setup": task.setup.value,
        "cropped": f"{query.cropped_fraction:.4f}",
        "occluded": f"{query.occluded_fraction:.4f}",
        "source_view": task.photo.view,
        "category": dict(task.photo.row).get("category", ""),
    }


def gallery_row(photo: SourcePhoto) -> dict[str, str]:
    """A photo as a row of gallery.csv."""
    return {"image": str(photo.path), "id": photo.id, "product_id": photo.product_id, **dict(photo.row)}


def write_table(path: Path, columns: Sequence[str], rows: Sequence[dict[str, str]]) -> None:
    """Write rows as CSV; what a row lacks is left empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
