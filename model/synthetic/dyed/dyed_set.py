"""A labelled set of real garments in colours that they do not have: variants of one cut, alike but for the dye.

Input    folders as of `street_set`
Output   photos/*.jpg of the dyed garments, and gallery.csv, queries.csv, queries/*.jpg of a street set over them

Where somebody wears the garment, what else is worn takes the same dye, and so may a rim of the ground.

What a model learns from it is to tell colours of one garment apart; beside the set of the same photos as they are it is
one more folder of `[data] train` in a recipe.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from PIL import Image

from threadmatch.model.errors import DataError, InvalidImageError
from threadmatch.model.images import decode_image
from threadmatch.model.synthetic.dyed.dyeing import Floats, cloth_of, dye
from threadmatch.model.synthetic.street.cutout import Pixels
from threadmatch.model.synthetic.street.street_set import (
    PHOTO_PX,
    SHOWN_VIEWS,
    SourcePhoto,
    Split,
    read_sources,
    stable_hash,
    write_street_set,
)

TASKS_PER_CALL: Final = 16
_QUALITY: Final = 93


@dataclass(frozen=True, slots=True)
class _Task:
    photo: SourcePhoto
    colours: int
    seed: int
    out: Path


def build_dyed_set(
    root: Path,
    out: Path,
    *,
    sources: Sequence[str] = ("clothing", "luma", "venia"),
    split: Split = "train",
    colours: int = 2,
    per_item: int = 1,
    seed: int = 0,
    workers: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, int]:
    """Write the dyed photos, and street queries of them.

    Args:
        root: folder of the source folders.
        out: folder to write; what is there already is made again.
        sources, split: as of `street_set.build_street_set`; of a product its main view is dyed.
        colours: of each garment, none of them its own.
        per_item: queries a dyed photo.
        seed: of every choice; the result does not depend on `workers`.
        workers: processes; None takes all cores.
        progress: called with what is made, how many are and of how many.

    Returns:
        Counts: gallery, queries, failed (queries of photos in which no garment was found), undyed (photos in whose
        place no dyed one could be made).

    Raises:
        DataError: a folder is missing, or holds nothing of this split.
    """
    photos = [p for p in read_sources(root, sources) if p.split == split and p.view in SHOWN_VIEWS]
    (out / "photos").mkdir(parents=True, exist_ok=True)
    for old in (out / "photos").glob("*-*.jpg"):
        old.unlink()
    tasks = [_Task(photo, colours, seed, out) for photo in photos]
    made: list[SourcePhoto] = []
    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=get_context("forkserver")) as pool:
        for done, dyed in enumerate(pool.map(_make, tasks, chunksize=TASKS_PER_CALL), start=1):
            made += dyed
            if progress is not None:
                progress("dyeing garments", done, len(tasks))
    if not made:
        raise DataError(f"no garment of split {split!r} in {[str(root / name) for name in sources]} could be dyed")
    counts = write_street_set(
        made,
        out,
        per_item=per_item,
        seed=seed,
        workers=workers,
        progress=None if progress is None else lambda done, total: progress("making queries", done, total),
    )
    return {**counts, "undyed": colours * len(photos) - len(made)}


def _make(task: _Task) -> list[SourcePhoto]:
    """Write one garment's variants; fewer where no more were found."""
    cv2.setNumThreads(1)  # the pool already uses all cores
    photo, key = task.photo, stable_hash(task.photo.id) % 2**32
    try:
        pixels = _smaller(decode_image(photo.path.read_bytes(), long_side_hint_px=PHOTO_PX).pixels)
        cloth = cloth_of(pixels, _skin)
    except (OSError, InvalidImageError, DataError):
        return []
    made: list[SourcePhoto] = []
    taken: list[Floats] = []
    rng = np.random.default_rng([task.seed, key])
    for number in range(task.colours):
        dyed = dye(pixels, cloth, taken=taken, rng=rng)
        if dyed is None:
            break
        path = task.out.absolute() / "photos" / f"{stable_hash(photo.id):016x}-{number}.jpg"
        Image.fromarray(dyed.photo).save(path, "JPEG", quality=_QUALITY)
        taken.append(dyed.colour)
        variant = f"dyed-{number}"
        made.append(replace(photo, path=path, id=f"{photo.id}/{variant}", product_id=f"{photo.product_id}/{variant}"))
    return made


def _smaller(photo: Pixels) -> Pixels:
    scale = PHOTO_PX / max(photo.shape[:2])
    if scale >= 1:
        return photo
    return np.asarray(cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


def _skin(photo: Pixels) -> Floats:
    kinds, number = _parser()
    return np.asarray(kinds(photo)[number], np.float32)


@cache
def _parser() -> tuple[Callable[[Pixels], Floats], int]:
    import torch

    from threadmatch.model.detection.parsing.detector import load_parser_detector
    from threadmatch.model.detection.parsing.kinds import KINDS

    torch.set_num_threads(1)  # the pool already uses all cores
    return load_parser_detector().probabilities, KINDS.index("skin_and_hair")
