"""What was searched lately, so that heat maps and feedback can come back to it: on disk, private, for some minutes.

One small SQLite database in a folder that only the service's user can enter. The worker processes of one service share
it. A search is found by its gallery and its request id together, so that no gallery's clients reach another's, whatever
id they send. Nothing here is precious: it may be lost, and writing it neither fails a search nor waits for the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from threadmatch.indexer.store.write_errors import is_full
from threadmatch.model.images import Box
from threadmatch.model.matching import Photo
from threadmatch.service.config import Settings
from threadmatch.service.errors import SearchNotFoundError, StartError
from threadmatch.service.private_database import FULL, NoRoomError, PrivateDatabase
from threadmatch.service.queues.served_model import ServedModel
from threadmatch.service.search.recent_folder import temporary
from threadmatch.service.search.results import Match, SearchResult
from threadmatch.service.search.unkept import Unkept

logger = logging.getLogger(__name__)

FILE = "recent-3.sqlite3"  # another format gets another number
MAX_WAITING = 64  # searches that wait to be written; the next is not kept
PATIENCE_S = 1.0  # how long a search waits for its writing at most; it takes a millisecond, on a busy machine a hundred
BUSY_S = 2.0  # how long one process waits for another's writing
SWEEP_S = 30.0  # between two looks for what is too old

_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = OFF",  # nothing here has to outlive a power cut
    "secure_delete = ON",  # what is forgotten is overwritten
    "journal_size_limit = 4194304",
)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS searches (
    gallery TEXT NOT NULL, request_id TEXT NOT NULL, at REAL NOT NULL, bytes INTEGER NOT NULL, facts TEXT NOT NULL,
    crop BLOB NOT NULL, photo BLOB NOT NULL, features BLOB NOT NULL, PRIMARY KEY (gallery, request_id)
);
CREATE INDEX IF NOT EXISTS by_age ON searches (at, bytes);
"""
_DATABASE = PrivateDatabase(
    holds="recent searches",
    file=FILE,
    schema=_SCHEMA,
    pragmas=_PRAGMAS,
    busy_s=BUSY_S,
    setting="THREADMATCH_RECENT",
    way_out="keep none with THREADMATCH_RECENT_MINUTES=0",
    precious=False,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RecentSearch:
    """One search as it was answered.

    Fields:
        gallery, request_id: its name.
        crop: JPEG of the part that was searched, longest side at most `model.images.DISPLAY_PHOTO_PX`.
        photo: JPEG of the whole photo; empty where it was never unpacked whole.
        width, height: of the upright photo, pixels.
        box: the part that was searched, in pixels of the upright photo.
        features: of the query by name, float16: what `matcher` needs, and the attributes where there are.
        matcher: that can explain the answer, None where none can.
        rivals: ids of all items that `matcher` compared with one another, where an item's score depends on the others.
        item_ids: all that the answer named, best first; a match's views and duplicates follow it.
        generation: of the gallery.
        model: fingerprint of the model that answered.
        at: when, seconds since 1970.
    """

    gallery: str
    request_id: str
    crop: bytes
    width: int
    height: int
    box: Box
    features: Photo
    matcher: str | None
    item_ids: tuple[str, ...]
    generation: str
    model: str
    photo: bytes = b""
    rivals: tuple[str, ...] = ()
    at: float = field(default_factory=time.time)


class _TooLargeError(Exception):
    """A search that takes more than all of them may."""


class RecentSearches:
    """The searches of the last minutes. Its methods are for the event loop; the work is done on a thread of its own.

    Args:
        folder: private to the user the service runs as; made when missing.
        max_age_s: seconds after which a search is forgotten.
        max_bytes: of crops and features together; beyond, the oldest searches go first.
        clock: seconds since 1970.

    Raises:
        StartError: the folder cannot be used, or others could read it.
    """

    def __init__(
        self, folder: Path, *, max_age_s: float, max_bytes: int, clock: Callable[[], float] = time.time
    ) -> None:
        self.folder = folder
        self._max_age_s, self._max_bytes, self._clock = max_age_s, max_bytes, clock
        self._connection: sqlite3.Connection | None = None  # None while there is no room for it
        self._unkept: Unkept[RecentSearch] = Unkept()
        self._waiting = 0
        self._failing: str | None = None  # why nothing can be written now
        try:
            self._connection = _DATABASE.open(folder)
        except NoRoomError as error:
            self._fails(error)
        self._closed = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="recent")

    async def remember(self, result: SearchResult, *, gallery: str, request_id: str, model: ServedModel) -> bool:
        """Keep what was searched and what was answered; see `put`."""
        if result.view is None:
            return False
        search = RecentSearch(
            gallery=gallery,
            request_id=request_id,
            crop=result.view.crop,
            photo=result.view.photo,
            width=result.width,
            height=result.height,
            box=result.box,
            features=result.view.features,
            matcher=result.view.matcher,
            rivals=result.view.rivals,
            item_ids=tuple(_shown(result.matches)),
            generation=result.generation,
            model=model.fingerprint,
        )
        return await self.put(search)

    async def put(self, search: RecentSearch) -> bool:
        """Keep a search; a second one of the same gallery and id takes the first one's place.

        Returns:
            Whether it can be relied on: False where writing failed, is slow, or too many wait for it. What could not
            be written is held in memory for a little while.
        """
        if self._closed:
            return False
        if self._waiting >= MAX_WAITING:
            self._thread.submit(self._hold, search, f"{self._waiting} searches were waiting to be written")
            return False
        self._waiting += 1
        writing = asyncio.get_running_loop().run_in_executor(self._thread, self._put, search)
        writing.add_done_callback(self._written)
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await asyncio.shield(writing)
        except TimeoutError:
            return False

    async def get(self, gallery: str, request_id: str) -> RecentSearch:
        """One search of this gallery.

        Raises:
            SearchNotFoundError: never kept, too old, or another gallery's.
        """
        found = None
        if not self._closed:
            found = await asyncio.get_running_loop().run_in_executor(self._thread, self._get, gallery, request_id)
        if found is None:
            raise SearchNotFoundError(self._why_not(gallery, request_id))
        return found

    def _why_not(self, gallery: str, request_id: str) -> str:
        name = f"search {request_id[:64]!r}"
        if (reason := self._unkept.reason((gallery, request_id))) is not None:
            return f"{name} was answered and not kept: {reason}; search again, and tell the service's operator"
        if self._failing is not None:
            return (
                f"no {name} is remembered here, and searches cannot be kept at the moment: {self._failing}; tell the "
                "service's operator"
            )
        return (
            f"no {name} is remembered here: a search is kept for {self._max_age_s / 60:g} minutes at most; search "
            "again and use the request_id of that answer"
        )

    async def sweep(self) -> None:
        """Delete what is too old."""
        if not self._closed:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._sweep)

    def close(self) -> None:
        """End, once what waits is written."""
        self._closed = True
        self._thread.shutdown(wait=True)
        if self._connection is not None:
            self._connection.close()

    # On the thread.

    def _put(self, search: RecentSearch) -> bool:
        try:
            if self._connection is None:
                self._connection = _DATABASE.open(self.folder)
            self._write(self._connection, search)
        except (sqlite3.Error, OSError, StartError) as error:
            self._hold(search, self._fails(error))
            return False
        except _TooLargeError as error:  # its own affair
            self._hold(search, str(error))
            return False
        self._failing = None
        self._unkept.forget((search.gallery, search.request_id))
        return True

    def _hold(self, search: RecentSearch, reason: str) -> None:
        size = len(search.crop) + len(search.photo) + sum(values.nbytes for values in search.features.values())
        self._unkept.add((search.gallery, search.request_id), search, size, reason)

    def _fails(self, error: Exception) -> str:
        """Why nothing can be written, in words; said in the log once, not with every search."""
        full = isinstance(error, NoRoomError) or (
            isinstance(error, sqlite3.Error | OSError) and is_full(error, self.folder)
        )
        reason = FULL if full else str(error)
        if self._failing is None:
            logger.warning("recent searches cannot be kept", extra={"reason": reason, "folder": str(self.folder)})
        self._failing = reason
        return reason

    def _write(self, connection: sqlite3.Connection, search: RecentSearch) -> None:
        facts = {
            "width": search.width,
            "height": search.height,
            "box": [search.box.x0, search.box.y0, search.box.x1, search.box.y1],
            "shapes": {name: values.shape for name, values in search.features.items()},
            "matcher": search.matcher,
            "rivals": search.rivals,
            "items": search.item_ids,
            "generation": search.generation,
            "model": search.model,
        }
        text = json.dumps(facts)
        features = b"".join(values.astype("<f2").tobytes() for values in search.features.values())
        size = len(search.crop) + len(search.photo) + len(features) + len(text)
        if size > self._max_bytes:
            raise _TooLargeError(f"it takes {size} bytes, and all together may have {self._max_bytes}")
        with connection:  # one transaction
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(
                "DELETE FROM searches WHERE gallery = ? AND request_id = ?", (search.gallery, search.request_id)
            )
            self._make_room(connection, size)
            connection.execute(
                "INSERT INTO searches VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (search.gallery, search.request_id, search.at, size, text, search.crop, search.photo, features),
            )

    def _make_room(self, connection: sqlite3.Connection, size: int) -> None:
        connection.execute("DELETE FROM searches WHERE at < ?", (self._clock() - self._max_age_s,))
        (taken,) = connection.execute("SELECT coalesce(sum(bytes), 0) FROM searches").fetchone()
        while taken + size > self._max_bytes:
            rowid, freed = connection.execute("SELECT rowid, bytes FROM searches ORDER BY at LIMIT 1").fetchone()
            connection.execute("DELETE FROM searches WHERE rowid = ?", (rowid,))
            taken -= freed

    def _get(self, gallery: str, request_id: str) -> RecentSearch | None:
        held = self._unkept.get((gallery, request_id))
        if held is not None or self._connection is None:
            return held if held is not None and held.at >= self._clock() - self._max_age_s else None
        try:
            row = self._connection.execute(
                "SELECT at, facts, crop, photo, features FROM searches "
                "WHERE gallery = ? AND request_id = ? AND at >= ?",
                (gallery, request_id, self._clock() - self._max_age_s),
            ).fetchone()
        except sqlite3.Error as error:
            logger.warning("recent searches cannot be read", extra={"reason": str(error)})
            return None
        if row is None:
            return None
        at, text, crop, photo, features = row
        facts = json.loads(text)
        return RecentSearch(
            gallery=gallery,
            request_id=request_id,
            crop=crop,
            photo=photo,
            width=facts["width"],
            height=facts["height"],
            box=Box(*facts["box"]),
            features=_features(features, facts["shapes"]),
            matcher=facts["matcher"],
            rivals=tuple(facts["rivals"]),
            item_ids=tuple(facts["items"]),
            generation=facts["generation"],
            model=facts["model"],
            at=at,
        )

    def _sweep(self) -> None:
        if self._connection is None:
            return
        try:
            with self._connection:
                self._connection.execute("DELETE FROM searches WHERE at < ?", (self._clock() - self._max_age_s,))
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # deleted photos do not stay in the log
        except sqlite3.Error as error:  # another process is writing, or the disk is full: next time
            logger.info("recent searches not swept", extra={"reason": str(error)})

    def _written(self, _writing: object) -> None:
        self._waiting -= 1


def _features(data: bytes, shapes: dict[str, list[int]]) -> Photo:
    """The features that lie one behind the other in `data`, in the order of `shapes`."""
    values, at, found = np.frombuffer(data, "<f2"), 0, {}
    for name, shape in shapes.items():
        found[name] = values[at : at + math.prod(shape)].reshape(shape)
        at += math.prod(shape)
    return found


def _shown(matches: Sequence[Match]) -> Iterator[str]:
    """Every id an answer names: the matches', their other views' and their duplicates'."""
    for match in matches:
        yield match.item.id
        yield from (view.item.id for view in match.views or ())
        yield from (same.item.id for same in match.duplicates)


@contextlib.asynccontextmanager
async def remembering(settings: Settings) -> AsyncIterator[RecentSearches | None]:
    """The recent searches of a service while it runs; None where it keeps none.

    Raises:
        StartError: the folder of the settings cannot be used, or others could read it.
    """
    if settings.recent_minutes == 0:
        yield None
        return
    with contextlib.ExitStack() as ending:
        folder = Path(settings.recent) if settings.recent else temporary(ending)
        if folder is None:
            yield None
            return
        recent = RecentSearches(
            folder, max_age_s=60 * settings.recent_minutes, max_bytes=settings.recent_mib * 1024 * 1024
        )
        ending.callback(recent.close)
        sweeping = asyncio.create_task(_keep_sweeping(recent))
        try:
            yield recent
        finally:
            sweeping.cancel()
            await asyncio.wait({sweeping})


async def _keep_sweeping(recent: RecentSearches) -> None:
    while True:
        await asyncio.sleep(SWEEP_S)
        await recent.sweep()
