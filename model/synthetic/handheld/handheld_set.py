"""A gallery and handheld queries with known answers, from the same folders as `street_set` and by other code."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from threadmatch.model.data.setups import Setup
from threadmatch.model.errors import DataError
from threadmatch.model.synthetic.handheld.handheld_query import handheld_query
from threadmatch.model.synthetic.street.street_set import (
    GALLERY_COLUMNS,
    QUERY_COLUMNS,
    SHOWN_VIEWS,
    SourcePhoto,
    Split,
    cut_of,
    gallery_row,
    garment_of,
    read_sources,
    stable_hash,
    write_table,
)

STRANGERS: Final = 84
"""Photos of other people that lend places and covers, the same for all queries: cut out once a process."""
LENT: Final = 3
_QUALITY: Final = 95


@dataclass(frozen=True, slots=True)
class _Task:
    photo: SourcePhoto
    number: int
    per_photo: int
    strangers: tuple[Path, ...]
    seed: int
    out: Path


def build_handheld_set(
    root: Path,
    out: Path,
    *,
    sources: Sequence[str],
    split: Split,
    keep: Callable[[SourcePhoto], bool] | None = None,
    per_photo: int = 2,
    seed: int = 0,
    workers: int | None = None,
) -> dict[str, int]:
    """Write gallery.csv, queries.csv and the query pictures.

    Args:
        root: folder of the source folders.
        out: folder to write.
        sources, split, keep: which photos; see `street_set.read_sources`.
        per_photo: queries a photo; the setups take turns, and a back view keeps to itself.
        seed: of every choice.
        workers: processes; None takes all cores. The result does not depend on it.

    Returns:
        Counts: gallery, queries, failed.

    Raises:
        DataError: nothing of this split, or no photos of strangers in clothing/.
    """
    photos = [p for p in read_sources(root, sources) if p.split == split and (keep is None or keep(p))]
    gallery = [p for p in photos if p.view in SHOWN_VIEWS]
    if not gallery:
        raise DataError(f"no photos of split {split!r} in {[str(root / source) for source in sources]}")
    shown = {p.product_id for p in gallery}
    photos = sorted((p for p in photos if p.product_id in shown), key=lambda p: stable_hash(p.id))
    lenders = [p.path for p in read_sources(root, ["clothing"]) if p.split == "train"][:STRANGERS]
    tasks = []
    for number, photo in enumerate(photos):
        first = number * LENT % (STRANGERS // 2)
        tasks.append(_Task(photo, number, per_photo, tuple(lenders[first : first + LENT]), seed, out))
    (out / "queries").mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=get_context("forkserver")) as pool:
        made = [row for rows in pool.map(_make, tasks, chunksize=16) for row in rows]
    write_table(out / "gallery.csv", GALLERY_COLUMNS, [gallery_row(p) for p in gallery])
    write_table(out / "queries.csv", QUERY_COLUMNS, made)
    return {"gallery": len(gallery), "queries": len(made), "failed": len(photos) * per_photo - len(made)}


def _make(task: _Task) -> list[dict[str, str]]:
    """Write a photo's queries; none where no garment was found."""
    cutout = garment_of(task.photo)
    if cutout is None:
        return []
    rng = np.random.default_rng([task.seed, stable_hash(task.photo.id) % 2**32])
    turn, setups = int(rng.integers(4)), list(Setup)
    lent = [cut_of(path) for path in task.strangers]
    rows = []
    for k in range(task.per_photo):
        back = task.photo.view == "back"
        setup = Setup.EASY if back else setups[(turn + k) % len(setups)]
        query = handheld_query(
            cutout,
            setup=setup,
            rng=rng,
            photos=[photo for photo, _ in lent if photo is not None],
            others=[garment for _, garment in lent if garment is not None],
        )
        name = f"queries/{task.number:05d}-{k}.jpg"
        Image.fromarray(query.image).save(task.out / name, "JPEG", quality=_QUALITY)
        rows.append(
            {
                "image": name,
                "product_id": task.photo.product_id,
                "box": str(query.box),
                "setup": "back" if back else setup.value,
                "cropped": f"{query.cropped_fraction:.4f}",
                "occluded": f"{query.occluded_fraction:.4f}",
                "source_view": task.photo.view,
                "category": dict(task.photo.row).get("category", ""),
            }
        )
    return rows
