"""Folders of garment photos, each garment in further colours: products that nothing but their colour tells apart.

Input    folders with items.csv as `street_set` reads them
Output   folders of the same names with the same tables, a row a colour, for `threadmatch data streetify`
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from PIL import Image

from threadmatch.model.errors import DataError, InvalidImageError
from threadmatch.model.images import decode_image
from threadmatch.model.synthetic.dyed.dyeing import Colour, dye
from threadmatch.model.synthetic.street.cutout import garment_mask
from threadmatch.model.synthetic.street.street_set import PHOTO_PX, SourcePhoto, Split, read_sources, stable_hash

FRONT_VIEWS: Final = ("only", "main")
TASKS_PER_CALL: Final = 16
_QUALITY: Final = 93


@dataclass(frozen=True, slots=True)
class _Task:
    photo: SourcePhoto
    colours: int
    seed: int
    folder: Path


def dye_sources(
    root: Path,
    out: Path,
    *,
    sources: Sequence[str] = ("clothing",),
    split: Split = "train",
    colours: int = 2,
    seed: int = 0,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Write the photos of each source's garments in other colours.

    Args:
        root: folder of the source folders.
        out: folder to write source folders into; files of the same name are replaced.
        sources: folders to take.
        split: which part of them; each new photo belongs to the same.
        colours: new ones of each garment.
        seed: of every choice; the result does not depend on `workers`.
        workers: processes; None takes all cores.
        progress: called with photos done and photos in all.

    Returns:
        Counts: photos that were read, dyed ones written, failed (of photos that cannot be read or show no garment).

    Raises:
        DataError: a folder is missing, holds nothing of this split, or is the one that is to be written.
    """
    if out.resolve() == root.resolve():
        raise DataError(f"{out} holds the photos themselves: its tables would be written over; give another folder")
    photos = [one for one in read_sources(root, sources) if one.split == split and one.view in FRONT_VIEWS]
    if not photos:
        raise DataError(f"no photos of split {split!r} in {[str(root / source) for source in sources]}")
    tasks = [_Task(one, colours, seed, out / dict(one.row)["source"]) for one in photos]
    for folder in {task.folder for task in tasks}:
        (folder / "images").mkdir(parents=True, exist_ok=True)
    written: dict[str, int] = {}
    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=get_context("forkserver")) as pool:
        for done, (task, count) in enumerate(
            zip(tasks, pool.map(_make, tasks, chunksize=TASKS_PER_CALL), strict=True), start=1
        ):
            written[task.photo.id] = count
            if progress is not None:
                progress(done, len(tasks))
    for source in sources:
        _write_table(root / source, out / source, written)
    return {
        "photos": len(tasks),
        "dyed": sum(written.values()),
        "failed": sum(count == 0 for count in written.values()),
    }


def _write_table(source: Path, folder: Path, written: dict[str, int]) -> None:
    """items.csv of what was written, in the columns of the source's own; a colour is a product of its own."""
    with (source / "items.csv").open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        columns, rows = list(reader.fieldnames or ()), list(reader)
    with (folder / "items.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for row in rows:
            for number in range(written.get(row["id"], 0)):
                own = {name: f"{row[name]}-{number}" for name in ("id", "product_id") if name in row}
                writer.writerow({**row, **own, "image": _name(row["id"], number)})


def _name(identity: str, number: int) -> str:
    """Of a photo's file; an id may hold anything."""
    return f"images/{stable_hash(identity):016x}-{number}.jpg"


def _make(task: _Task) -> int:
    """How many colours were written: all, or none where no garment was found."""
    cv2.setNumThreads(1)  # the pool already uses all cores
    try:
        photo = decode_image(task.photo.path.read_bytes(), long_side_hint_px=PHOTO_PX).pixels
        mask = garment_mask(photo)
    except (OSError, InvalidImageError, DataError):
        return 0
    colours: list[Colour] = []
    for number in range(task.colours):
        rng = np.random.default_rng([task.seed, stable_hash(task.photo.id) % 2**32, number])
        dyed, colour = dye(photo, mask, rng, others=colours)
        colours.append(colour)
        Image.fromarray(dyed).save(task.folder / _name(task.photo.id, number), "JPEG", quality=_QUALITY)
    return task.colours
