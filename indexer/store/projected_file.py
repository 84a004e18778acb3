"""The projected copy of a graph's vectors (`indexer.projection`), a side file made from the index beside it.

    projected.rows    the weights (C, E) float32, then codes (n, C) of PART_ROWS vectors at a time

It belongs to one index file, whose checksum it names, and is linked where that file is. It is made for galleries of
PROJECTED_MIN_ITEMS and more, and only where a shortlist that it chooses has enough recall against comparing with all
that a filter lets through: the narrowest of WIDTHS that has is written in the index's parameters in the manifest as
`projectedWide`, with `projectedRecall`; `projected` is the number of components, 0 where no width was enough. Without
the file, or where it is damaged, all are compared.

Letters  E embedding size, C components, n vectors of a part
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from threadmatch.indexer.index import Choice, Ids, VectorIndex, Vectors
from threadmatch.indexer.index_building import RECALL_DEPTH, exact_ids, sample_queries
from threadmatch.indexer.projection import COMPONENTS, PROJECTED, RECALL, WIDE, Axes, Projection
from threadmatch.indexer.stamps import IndexStamp
from threadmatch.indexer.store import generations
from threadmatch.indexer.store.record_file import SUFFIX, Described, RecordFile, RecordWriter, SideFileError
from threadmatch.indexer.store.side_files import link
from threadmatch.model.progress import Progress, unheard

logger = logging.getLogger(__name__)

NAME: Final = "projected"
PROJECTED_MIN_ITEMS: Final = 100_000
WIDTHS: Final = (800, 1600, 3200)
"""How many of the projection's choice to compare exactly, of a search for RECALL_DEPTH."""
RECALL_FLOOR: Final = 0.995
RECALL_QUERIES: Final = 100
EVERY: Final = (10, 2)
"""Filters that recall is measured under let every tenth item through, and every second; the lower one counts."""
PART_ROWS: Final = 65_536
SAMPLE_ROWS: Final = 65_536
_PIECE_ROWS: Final = 8_192  # floats in memory at a time
_SAME_SCORE: Final = 2e-6
"""Between two ways to add up the same products."""


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
    if PROJECTED in stamp.parameters:  # the index is that of the generation before, and so is what was measured
        if _wanted(stamp) and not (base and _linked(base / path.name, path, stamp)):
            _write(path, VectorIndex.read(staging / generations.INDEX_FILE, stamp), stamp, tell)
        return stamp
    index = VectorIndex.read(staging / generations.INDEX_FILE, stamp)
    components = _write(path, index, stamp, tell)
    wide, recall = _tuned(index, _opened(staging, stamp, components, WIDTHS[0]))
    if recall < RECALL_FLOOR:
        logger.warning("filtered searches compare with all items: the projection misses some", extra={"recall": recall})
        path.unlink()
        components = 0
    measured: dict[str, int | str] = {PROJECTED: components, WIDE: wide, RECALL: f"{recall:.4f}"}
    return stamp.model_copy(update={"parameters": {**stamp.parameters, **measured}})


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
    _write(path, VectorIndex.read(folder / generations.INDEX_FILE, stamp), stamp, unheard)
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
    return _opened(folder, stamp, int(stamp.parameters[PROJECTED]), int(stamp.parameters[WIDE]))


def _opened(folder: Path, stamp: IndexStamp, components: int, wide: int) -> Projection:
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
    return Projection(weights, parts, wide=wide)


def _linked(source: Path, target: Path, stamp: IndexStamp) -> bool:
    """Take over the file of the generation before; False where it is damaged, or of another index."""
    if problems(source.parent, stamp):
        return False
    link(source, target)
    return True


def _write(path: Path, index: VectorIndex, stamp: IndexStamp, tell: Progress) -> int:
    """Project an index's vectors into a new file. Returns the number of components."""
    axes = Axes.of(_sample(index), COMPONENTS)
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


def _tuned(index: VectorIndex, projection: Projection) -> tuple[int, float]:
    """The narrowest of WIDTHS with enough recall, else the widest, and its recall@RECALL_DEPTH."""
    queries = sample_queries(index, RECALL_QUERIES)
    filters = [(index.choice(_every(index, step)), _worst_of_best(index, queries, step)) for step in EVERY]
    recall = 0.0
    for wide in WIDTHS:
        chosen = index.with_projection(projection.with_wide(wide))
        recall = min(_recall(chosen, queries, choice, worst) for choice, worst in filters)
        if recall >= RECALL_FLOOR:
            break
    return wide, recall


def _recall(index: VectorIndex, queries: Vectors, choice: Choice, worst: list[float]) -> float:
    """Of RECALL_DEPTH results the share that is as good as what comparing with all gives; equal items count alike."""
    shares = []
    for query, bound in zip(queries, worst, strict=True):
        _, similarities = index.scanned(query, RECALL_DEPTH, choice=choice)
        shares.append(float(np.mean(similarities >= bound - _SAME_SCORE)))
    return float(np.mean(shares))


def _every(index: VectorIndex, step: int) -> Any:
    """(last id + 1,) whether an id is of every `step`-th position."""
    rows = np.zeros(int(index.ids[-1]) + 1, bool)
    rows[index.ids[::step]] = True
    return rows


def _worst_of_best(index: VectorIndex, queries: Vectors, step: int) -> list[float]:
    """For each query the inner product of the last of its RECALL_DEPTH best among every `step`-th vector."""

    def blocks() -> Iterator[tuple[Ids, Vectors]]:
        ids = index.ids[::step]
        for start in range(0, len(ids), _PIECE_ROWS):
            yield ids[start : start + _PIECE_ROWS], index.vectors(ids[start : start + _PIECE_ROWS])

    best = exact_ids(queries, blocks, RECALL_DEPTH)
    return [float((index.vectors(ids) @ query).min()) for query, ids in zip(queries, best, strict=True)]
