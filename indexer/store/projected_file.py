"""The projected copy of a graph's vectors (`indexer.projection`), a side file made from the index beside it.

    projected.rows    the weights (C, E) float32, then codes (n, C) of PART_ROWS vectors at a time

It belongs to one index file, whose checksum it names, and is linked where that file is. It is made for galleries of
PROJECTED_MIN_ITEMS and more. How many components it has and how many of its choice are compared is the least of
COMPONENTS and of widths that finds what comparing with all finds, as far as there is an aim (`store.projected_recall`);
NARROW says when more components are tried.
What was chosen and what is found stands in the index's parameters in the manifest (`indexer.projection` has the names);
an aim that is not reached is named in the log. Where like queries find less than RECALL_FLOOR there is no file, and
`projected` is 0. Without the file, or where it is damaged, all are compared. What a former version measured is measured
anew with the next generation.

Letters  E embedding size, C components, n vectors of a part
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

import numpy as np

from threadmatch.indexer.index import VectorIndex, Vectors
from threadmatch.indexer.projection import (
    PARAMETERS,
    PROJECTED,
    RECALL_LIKE,
    RECALL_UNLIKE,
    Axes,
    Projection,
    Widths,
)
from threadmatch.indexer.stamps import IndexStamp
from threadmatch.indexer.store import generations
from threadmatch.indexer.store.projected_recall import LIKE_AIM, UNLIKE_AIM, Found, Measurement
from threadmatch.indexer.store.record_file import SUFFIX, Described, RecordFile, RecordWriter, SideFileError
from threadmatch.indexer.store.side_files import link
from threadmatch.model.progress import Progress, unheard

logger = logging.getLogger(__name__)

NAME: Final = "projected"
PROJECTED_MIN_ITEMS: Final = 100_000
COMPONENTS: Final = (64, 128, 256)
NARROW: Final = 1600
"""Where like queries need more compared, more components cost less (docs/results.md)."""
RECALL_FLOOR: Final = 0.995
"""Of like queries; with less there is no projection."""
PART_ROWS: Final = 65_536
SAMPLE_ROWS: Final = 65_536
_PIECE_ROWS: Final = 8_192  # floats in memory at a time


def ensured(
    staging: Path, stamp: IndexStamp, base: Path | None, *, least: int = PROJECTED_MIN_ITEMS, tell: Progress = unheard
) -> IndexStamp:
    """Put the projection of a new generation's index beside it, where one pays.

    Args:
        staging: folder that holds the index.
        stamp: of the index.
        base: folder of the generation that it builds on, None for none.
        least: vectors that the index must have.
        tell: hears how far it is.

    Returns:
        The stamp, with what was measured.

    Raises:
        GalleryError: the index is damaged.
    """
    if stamp.type != "hnsw" or stamp.items < least:
        return stamp
    path = staging / f"{NAME}{SUFFIX}"
    if RECALL_LIKE in stamp.parameters:  # the index is that of the generation before, and so is what was measured
        if _wanted(stamp) and not (base and _linked(base / path.name, path, stamp)):
            index = VectorIndex.read(staging / generations.INDEX_FILE, stamp)
            _write(path, index, stamp, int(stamp.parameters[PROJECTED]), tell)
        return stamp
    index = VectorIndex.read(staging / generations.INDEX_FILE, stamp)
    measurement = Measurement(index)
    for most in COMPONENTS:
        path.unlink(missing_ok=True)  # the one with too few
        components = _write(path, index, stamp, most, tell)
        found = measurement.of(_opened(staging, stamp, components, Widths(0)))
        if (found.like >= LIKE_AIM and found.widths.like <= NARROW) or components < most:
            break
    if found.like < RECALL_FLOOR:
        path.unlink()
        components = 0
    _tell_recall(found, components)
    measured: dict[str, int | str] = {
        PROJECTED: components,
        RECALL_LIKE: f"{found.like:.4f}",
        RECALL_UNLIKE: f"{found.unlike:.4f}",
        **found.widths.parameters(),
    }
    kept = {name: value for name, value in stamp.parameters.items() if name not in PARAMETERS}
    return stamp.model_copy(update={"parameters": {**kept, **measured}})


def read(folder: Path, stamp: IndexStamp) -> Projection | None:
    """The projection beside a generation's index, read once and checked; None where there is none that can be used."""
    if not _wanted(stamp):
        return None
    try:
        return _checked(folder, stamp)
    except SideFileError as error:
        logger.error("a side file is not used", extra={"reason": str(error)})
        return None


def problems(folder: Path, stamp: IndexStamp) -> list[str]:
    """What is wrong with a generation's file, in words; reads everything."""
    if not _wanted(stamp):
        return []
    try:
        _checked(folder, stamp)
    except SideFileError as error:
        return [str(error)]
    return []


def mend(folder: Path, stamp: IndexStamp) -> None:
    """Make a generation's file anew beside it and put it in its place. The caller holds the gallery's lock.

    Raises:
        GalleryError: the index is damaged.
    """
    staging = folder.with_name(f".{folder.name}.{NAME}.partial")
    staging.mkdir()
    path = staging / f"{NAME}{SUFFIX}"
    index = VectorIndex.read(folder / generations.INDEX_FILE, stamp)
    _write(path, index, stamp, int(stamp.parameters[PROJECTED]), unheard)
    generations.sync(path)
    path.replace(folder / path.name)
    staging.rmdir()
    generations.sync(folder)


def _wanted(stamp: IndexStamp) -> bool:
    return bool(stamp.parameters.get(PROJECTED))


def _described(stamp: IndexStamp, components: int) -> Described:
    form: dict[str, Any] = {"components": components, "items": stamp.items, "index_crc32c": stamp.crc32c}
    return Described(NAME, 1, stamp.seq, form)


def _checked(folder: Path, stamp: IndexStamp) -> Projection:
    """The file that a manifest describes; as `_opened`."""
    return _opened(folder, stamp, int(stamp.parameters[PROJECTED]), Widths.read(stamp.parameters))


def _opened(folder: Path, stamp: IndexStamp, components: int, widths: Widths) -> Projection:
    """The file of an index, every record checked; SideFileError where it is not whole, or another's."""
    path = folder / f"{NAME}{SUFFIX}"
    file = RecordFile(path)
    if file.about != _described(stamp, components):
        raise SideFileError(f"{path} is of another index, or of another form")
    records = [file.read_mapped(place) for place in range(len(file))]
    whole = [record for record in records if record is not None]
    if len(whole) < len(records) or not records:
        raise SideFileError(f"{path} is damaged")
    weights = np.frombuffer(whole[0], np.float32).reshape(components, -1)
    parts = [np.frombuffer(record, np.uint8).reshape(-1, components) for record in whole[1:]]
    return Projection(weights, parts, widths=widths)


def _linked(source: Path, target: Path, stamp: IndexStamp) -> bool:
    """Take over the file of the generation before; False where it is damaged, or of another index."""
    if problems(source.parent, stamp):
        return False
    link(source, target)
    return True


def _write(path: Path, index: VectorIndex, stamp: IndexStamp, most: int, tell: Progress) -> int:
    """Project an index's vectors into a new file. Returns the number of components, `most` but for short vectors."""
    axes = Axes.of(_sample(index), most)
    components = len(axes.basis)
    with RecordWriter(path, _described(stamp, components), align=64) as writer:
        writer.add(0, axes.weights.tobytes())
        for start in range(0, len(index), PART_ROWS):
            tell("writing side files", start, len(index))
            end = min(start + PART_ROWS, len(index))
            pieces = [
                axes.codes(index.block(at, min(_PIECE_ROWS, end - at))).tobytes()
                for at in range(start, end, _PIECE_ROWS)
            ]
            writer.add(int(index.ids[end - 1]), b"".join(pieces))
    return components


def _sample(index: VectorIndex) -> Vectors:
    """(n, E) vectors spread evenly over an index."""
    return index.vectors(index.ids[:: -(-len(index) // SAMPLE_ROWS)])


def _tell_recall(found: Found, components: int) -> None:
    """Say in the log what was measured, and what is less than it should be."""
    about = {"like": found.like, "unlike": found.unlike, "components": components}
    if found.like < RECALL_FLOOR:
        logger.warning("filtered searches compare with all items: the projection misses too many", extra=about)
    elif found.like < LIKE_AIM or found.unlike < UNLIKE_AIM:
        aims = {"like_aim": LIKE_AIM, "unlike_aim": UNLIKE_AIM}
        logger.warning("filtered searches find fewer of the best items than is aimed at", extra={**about, **aims})
    else:
        logger.info("projection measured", extra=about)
