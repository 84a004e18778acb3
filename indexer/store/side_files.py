"""What a search reads beside the index, derived from the database like it, in files that all processes map.

    columns.000000012345.rows   metadata by column, for filters (`store.column_chunks`)
    cards.000000012345.rows     what an answer shows of an item (`store.cards`)
    FEATURE.000000012345.rows   a gathered feature, as the database has it
    alive.rows                  which rows are live in this generation, a bit each

A file holds the rows of a span; the number is its last. A generation takes over the files of the one it builds on and
adds one for what is new, so that publishing costs what it adds. Files that are not larger than twice what comes after
them are written anew together with it: so their number grows with the logarithm of the gallery, and each row is
copied about as often. What a file lacks, or what is damaged in it, is read from the database.
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from threadmatch.indexer.index import Ids
from threadmatch.indexer.store import cards, column_chunks, records
from threadmatch.indexer.store.database import ALIVE
from threadmatch.indexer.store.record_file import SUFFIX, Described, RecordFile, RecordWriter, SideFileError
from threadmatch.model.features import FeatureSpec
from threadmatch.model.progress import Progress, unheard

logger = logging.getLogger(__name__)

COLUMNS: Final = "columns"
CARDS: Final = "cards"
ALIVE_NAME: Final = "alive"
BLOCK_ROWS: Final = 512
MERGE_BELOW: Final = 2
DEAD_SHARE: Final = 0.5
"""Of the rows in the files, from which on all are written anew."""
_ALIGN: Final = {COLUMNS: 64}
_FIELDS: Final = "i.seq, i.content, i.id, i.product_id, i.metadata, c.width, c.height, c.x0, c.y0, c.x1, c.y1"


@dataclass(frozen=True, slots=True)
class State:
    """The rows that a generation stands for, and what is kept of each photo.

    Fields:
        connection: to the gallery's database.
        seq: the row number.
        features: of the gallery.
    """

    connection: sqlite3.Connection
    seq: int
    features: Sequence[FeatureSpec]

    @property
    def forms(self) -> dict[str, dict[str, Any]]:
        """Names of the files with spans, and how their records are to be read."""
        gathered = {f"feature-{spec.name}": spec.to_dict() for spec in self.features if not spec.indexed}
        return {COLUMNS: column_chunks.FORM, CARDS: cards.FORM, **gathered}

    def alive(self) -> Ids:
        """(N,) numbers of the live rows, ascending."""
        query = f"SELECT i.seq FROM items i WHERE {ALIVE} ORDER BY i.seq"  # noqa: S608
        return np.fromiter((seq for (seq,) in self.connection.execute(query, {"seq": self.seq})), np.int64)


def feature_file(name: str) -> str:
    """Name of a feature's files."""
    return f"feature-{name}"


def open_files(folder: Path, name: str, form: dict[str, Any]) -> list[RecordFile]:
    """The whole files of one name, by span; a damaged one, or one of another form, is named in the log and left out."""
    found = []
    for path in sorted(folder.glob(f"{name}.*{SUFFIX}")):
        try:
            file = RecordFile(path)
        except SideFileError as error:
            logger.error("a side file is not used", extra={"reason": str(error)})
            continue
        if file.about.name == name and file.about.form == form:
            found.append(file)
    return found


def read_alive(folder: Path, seq: int) -> NDArray[np.bool_] | None:
    """(seq + 1,) whether each row number is live in a generation; None where its file is missing or damaged."""
    try:
        file = RecordFile(folder / f"{ALIVE_NAME}{SUFFIX}")
    except SideFileError as error:
        if (folder / f"{ALIVE_NAME}{SUFFIX}").exists():
            logger.error("a side file is not used", extra={"reason": str(error)})
        return None
    data = file.read(0) if len(file) == 1 and file.about.last == seq else None
    if data is None or len(data) != seq // 8 + 1:
        logger.error("a side file is not used", extra={"reason": f"{file.path} is damaged or of other rows"})
        return None
    return np.unpackbits(np.frombuffer(data, np.uint8), count=seq + 1).astype(bool)


def write(staging: Path, state: State, base: Path | None, *, tell: Progress = unheard) -> None:
    """Write a generation's files into an empty folder, taking over those of the one it builds on.

    Args:
        staging: gets the files.
        state: of the generation.
        base: folder of the generation it builds on, None where there is none, or all are to be made anew.
        tell: hears how far it is.
    """
    alive = state.alive()
    first = _take_over(staging, state, alive, base) if base is not None else 1
    _write_span(staging, state, first, alive[np.searchsorted(alive, first) :], tell)
    bits = np.zeros(state.seq + 1, bool)
    bits[alive] = True
    with RecordWriter(staging / f"{ALIVE_NAME}{SUFFIX}", Described(ALIVE_NAME, 1, state.seq, {})) as writer:
        writer.add(state.seq, np.packbits(bits).tobytes())


def _take_over(staging: Path, state: State, alive: Ids, base: Path) -> int:
    """Link the files that stay; the first row that they do not hold."""
    found = {name: open_files(base, name, form) for name, form in state.forms.items()}
    spans = [[(file.about.first, file.about.last) for file in files] for files in found.values()]
    chain = _chain(spans, state.seq)
    rows = sum(int(np.searchsorted(alive, last, "right") - np.searchsorted(alive, first)) for first, last in chain)
    held = sum(len(file) for file in found[CARDS] if (file.about.first, file.about.last) in chain)
    if held and rows < (1 - DEAD_SHARE) * held:
        return 1
    new = len(alive) - rows
    while chain:
        begin, end = chain[-1]
        size = int(np.searchsorted(alive, end, "right") - np.searchsorted(alive, begin))
        if size > MERGE_BELOW * new:
            break
        new += size
        chain.pop()
    for files in found.values():
        for file in files:
            if (file.about.first, file.about.last) in chain:
                link(file.path, staging / file.path.name)
    return chain[-1][1] + 1 if chain else 1


def _chain(spans: list[list[tuple[int, int]]], seq: int) -> list[tuple[int, int]]:
    """Spans that all names have, one after another from the first row on, none beyond `seq`."""
    chain: list[tuple[int, int]] = []
    following = {first: (first, last) for first, last in spans[0]}
    at = 1
    while (span := following.get(at)) and span[1] <= seq and all(span in other for other in spans):
        chain.append(span)
        at = span[1] + 1
    return chain


def link(source: Path, target: Path) -> None:
    """Give a file that never changes a second name."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)  # a file system without hard links


def _write_span(staging: Path, state: State, first: int, rows: Ids, tell: Progress) -> None:
    if first > state.seq:
        return
    forms = state.forms
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(
                RecordWriter(
                    staging / f"{name}.{state.seq:012d}{SUFFIX}",
                    Described(name, first, state.seq, form),
                    align=_ALIGN.get(name, 1),
                )
            )
            for name, form in forms.items()
        }
        gathered = [spec for spec in state.features if not spec.indexed]
        columns: list[tuple[int, str, str | None, str]] = []
        done = 0
        for block in _blocks(state, first):
            tell("writing side files", done, len(rows))
            done += len(block)
            for seq, content, item_id, product_id, metadata, *place in block:
                card = cards.card_of(item_id, product_id, metadata, content, place)
                writers[CARDS].add(seq, cards.pack(card))
                columns.append((seq, item_id, product_id, metadata))
                if len(columns) == column_chunks.CHUNK_ROWS:
                    writers[COLUMNS].add(columns[0][0], column_chunks.chunk(columns))
                    columns.clear()
            for spec in gathered:
                found = records.read(state.connection, spec, {row[1] for row in block})
                for seq, content, *_ in block:
                    if content in found:  # a damaged one is asked of the database, which says so
                        writers[feature_file(spec.name)].add(seq, found[content])
        if columns:
            writers[COLUMNS].add(columns[0][0], column_chunks.chunk(columns))


def _blocks(state: State, first: int) -> Iterator[list[tuple[Any, ...]]]:
    cursor = state.connection.execute(
        f"SELECT {_FIELDS} FROM items i JOIN contents c USING (content)"  # noqa: S608
        f" WHERE i.seq >= :first AND {ALIVE} ORDER BY i.seq",
        {"first": first, "seq": state.seq},
    )
    while rows := cursor.fetchmany(BLOCK_ROWS):
        yield rows


def problems(folder: Path, state: State) -> list[str]:
    """What is missing or damaged of a generation's files, in words; reads everything. A former version left none."""
    found: list[str] = []
    if not any(folder.glob(f"*{SUFFIX}")):
        return found
    spans = []
    for name, form in state.forms.items():
        files = open_files(folder, name, form)
        spans.append([(file.about.first, file.about.last) for file in files])
        for file in files:
            if bad := file.damaged():
                found.append(f"{file.path}: {len(bad)} records are damaged (row {bad[0]})")
    chain = _chain(spans, state.seq)
    if (chain[-1][1] if chain else 0) != state.seq:
        found.append(f"{folder}: side files are missing or damaged")
    if read_alive(folder, state.seq) is None:
        found.append(f"{folder / ALIVE_NAME}{SUFFIX} is missing or damaged")
    return found


def complete(folder: Path, state: State) -> bool:
    """Whether a generation has all its files, whole; reads everything."""
    return any(folder.glob(f"*{SUFFIX}")) and not problems(folder, state)


def mend(folder: Path, state: State, *, tell: Progress = unheard) -> None:
    """Make a generation's files anew beside it and put them in its folder. The caller holds the gallery's lock.

    Args:
        folder: of the generation.
        state: of it.
        tell: hears how far it is.
    """
    from threadmatch.indexer.store.generations import sync

    staging = folder.with_name(f".{folder.name}.side.partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    write(staging, state, None, tell=tell)
    for name in (*state.forms, ALIVE_NAME):
        for path in (*folder.glob(f"{name}{SUFFIX}"), *folder.glob(f"{name}.*{SUFFIX}")):
            path.unlink()  # without them a search asks the database
    for path in sorted(staging.iterdir()):
        sync(path)
        path.rename(folder / path.name)
    staging.rmdir()
    sync(folder)
