"""A labelled set whose photos were taken again: more of it to train on, and unlike what made it.

Input    a folder with gallery.csv and queries.csv
Output   the same tables, with as many photos a query as `copies` says and one an item; both folders together are what
         `[data] train` of a recipe takes
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from PIL import Image

from threadmatch.model.data.pairs import LabelledImage, read_labelled
from threadmatch.model.errors import DataError, InvalidImageError
from threadmatch.model.images import decode_image
from threadmatch.model.synthetic.retaken.retaking import ITEM, LONG_SIDE_PX, QUERY, Strength, retake
from threadmatch.model.synthetic.street.cutout import Pixels
from threadmatch.model.synthetic.street.street_set import stable_hash, write_table

COLUMNS: Final = ("image", "id", "product_id", "box", "setup", "category")
LENT: Final = 3
"""Other photos that a cover may be taken from."""
TASKS_PER_CALL: Final = 32
_QUALITY: Final = 95
"""Of the file; the photo itself went through worse."""


@dataclass(frozen=True, slots=True)
class _Task:
    """One photo to take again: where it goes, how far it may differ, and what may stand in front of it."""

    image: LabelledImage
    name: str
    strength: Strength
    others: tuple[Path, ...]
    seed: tuple[int, ...]
    out: Path


def build_retaken_set(
    folder: Path,
    out: Path,
    *,
    copies: int = 1,
    seed: int = 0,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Write gallery.csv, queries.csv and the photos.

    Args:
        folder: of a set.
        out: folder to write; files of the same name are replaced.
        copies: photos a query.
        seed: of every choice; the result does not depend on `workers`.
        workers: processes; None takes all cores.
        progress: called with photos done and photos in all.

    Returns:
        Counts: gallery, queries.

    Raises:
        DataError: a table or a photo cannot be read, or `out` is the set itself, whose tables would be lost.
    """
    if out.resolve() == folder.resolve():
        raise DataError(f"{out} is the set itself: its tables would be written over; give another folder")
    gallery, queries = read_labelled(folder / "gallery.csv"), read_labelled(folder / "queries.csv")
    for name in ("items", "queries"):
        (out / name).mkdir(parents=True, exist_ok=True)
    tasks = [*_tasks(gallery, "items", ITEM, 1, seed, out), *_tasks(queries, "queries", QUERY, copies, seed, out)]
    rows: list[dict[str, str]] = []
    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=get_context("forkserver")) as pool:
        for done, row in enumerate(pool.map(_make, tasks, chunksize=TASKS_PER_CALL), start=1):
            rows.append(row)
            if progress is not None:
                progress(done, len(tasks))
    write_table(out / "gallery.csv", COLUMNS, rows[: len(gallery)])
    write_table(out / "queries.csv", COLUMNS, rows[len(gallery) :])
    return {"gallery": len(gallery), "queries": len(rows) - len(gallery)}


def _tasks(
    images: Sequence[LabelledImage], side: str, strength: Strength, copies: int, seed: int, out: Path
) -> Iterator[_Task]:
    for number, image in enumerate(images):
        for copy in range(copies):
            key = (seed, stable_hash(f"{side} {image.id}") % 2**32, number, copy)
            rng = np.random.default_rng([*key, 1])
            others = tuple(images[int(n)].path for n in rng.integers(len(images), size=LENT))
            yield _Task(image, f"{side}/{number:06d}-{copy}.jpg", strength, others, key, out)


def _make(task: _Task) -> dict[str, str]:
    rng = np.random.default_rng(task.seed)
    others = [_read(path) for path in task.others] if task.strength.covered else []
    photo, box = retake(_read(task.image.path), task.image.box, strength=task.strength, rng=rng, others=others)
    Image.fromarray(photo).save(task.out / task.name, "JPEG", quality=_QUALITY)
    image = task.image
    return {
        "image": task.name,
        "id": f"{image.id}/retaken-{task.seed[-1]}",
        "product_id": image.product_id,
        "box": str(box) if box is not None else "",
        "setup": image.setup,
        "category": image.category,
    }


@lru_cache(maxsize=32)
def _read(path: Path) -> Pixels:
    cv2.setNumThreads(1)  # the pool already uses all cores
    try:
        return decode_image(path.read_bytes(), long_side_hint_px=LONG_SIDE_PX).pixels
    except (OSError, InvalidImageError) as error:
        raise DataError(f"{path}: {error}") from error
