"""What people said of matches, kept for training: durable, append-only, shared by the worker processes.

One SQLite database in a folder of its own. A verdict is committed to disk before it is acknowledged. A later verdict on
the same search and item counts instead of an earlier one; both stay. Beside the verdicts stands what was searched, a
JPEG of the part of the photo, since recent searches are forgotten after minutes.

    threadmatch data from-feedback FOLDER --gallery DIR --out SET      turns it into training pairs
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from threadmatch.service.errors import FeedbackStoreError, OverloadedError, StartError
from threadmatch.service.private_database import NoRoomError, PrivateDatabase
from threadmatch.service.search.recent_searches import RecentSearch

FILE = "feedback-1.sqlite3"  # another format gets another number
MAX_WAITING = 64  # verdicts that wait to be written; the next is told 429
BUSY_S = 10.0  # how long one process waits for another's writing
PAGE_BYTES = 4096

Decision = Literal["match", "no_match"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS searches (
    gallery TEXT NOT NULL, request_id TEXT NOT NULL, at REAL NOT NULL, generation TEXT NOT NULL, model TEXT NOT NULL,
    crop BLOB NOT NULL, PRIMARY KEY (gallery, request_id)
);
CREATE TABLE IF NOT EXISTS verdicts (
    number INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, gallery TEXT NOT NULL, request_id TEXT NOT NULL,
    item_id TEXT NOT NULL, verdict TEXT NOT NULL CHECK (verdict IN ('match', 'no_match'))
);
CREATE INDEX IF NOT EXISTS verdicts_by_search ON verdicts (gallery, request_id, item_id);
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What counts for one search and item: the latest of what was said."""

    request_id: str
    item_id: str
    decision: Decision


class FeedbackStore:
    """The verdicts of a service. Its async methods are for the event loop; the work is done on a thread of its own.

    Args:
        folder: private to the user the service runs as; made when missing.
        max_bytes: of the database; beyond, nothing more is taken.

    Raises:
        StartError: the folder cannot be used, or others could read it.
    """

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self.folder = folder
        self._database = _database(max_bytes)
        self._connection: sqlite3.Connection | None = None  # None while there is no room for it
        with contextlib.suppress(NoRoomError):  # searches go on; each verdict is told so, until there is
            self._connection = self._database.open(folder)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="feedback")
        self._waiting = 0

    async def add(self, search: RecentSearch, item_id: str, decision: Decision) -> bool:
        """Keep a verdict; it is on disk when this returns.

        Returns:
            Whether it takes the place of an earlier one.

        Raises:
            OverloadedError: too many wait to be written.
            FeedbackStoreError: it could not be written; nothing was kept.
        """
        if self._waiting >= MAX_WAITING:
            raise OverloadedError(f"{self._waiting} verdicts are waiting to be written; try again soon")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._add, search, item_id, decision)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """End, once what waits is written."""
        self._thread.shutdown(wait=True)
        if self._connection is not None:
            self._connection.close()

    def _add(self, search: RecentSearch, item_id: str, decision: Decision) -> bool:
        key = (search.gallery, search.request_id, item_id)
        try:
            if self._connection is None:
                self._connection = self._database.open(self.folder)
            connection = self._connection
            with _transaction(connection):
                known = connection.execute(
                    "SELECT 1 FROM verdicts WHERE gallery = ? AND request_id = ? AND item_id = ? LIMIT 1", key
                ).fetchone()
                connection.execute(
                    "INSERT OR IGNORE INTO searches VALUES (?, ?, ?, ?, ?, ?)",
                    (search.gallery, search.request_id, search.at, search.generation, search.model, search.crop),
                )
                connection.execute(
                    "INSERT INTO verdicts (at, gallery, request_id, item_id, verdict) VALUES (?, ?, ?, ?, ?)",
                    (time.time(), *key, decision),
                )
        except (sqlite3.Error, NoRoomError) as error:
            raise FeedbackStoreError(
                f"the verdict was not kept ({error}); the service's operator should look at the disk and at "
                "THREADMATCH_FEEDBACK_MIB"
            ) from error
        return known is not None


class FeedbackReader:
    """The verdicts of a folder, for making training data; a service may write meanwhile.

    Args:
        folder: what THREADMATCH_FEEDBACK names.

    Raises:
        StartError: there is no feedback in it, or it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / FILE
        if not path.is_file():
            raise StartError(f"{folder} holds no feedback: it has no {FILE}; give the folder of THREADMATCH_FEEDBACK")
        try:
            self._connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)
            self.history: int = self._connection.execute("SELECT count(*) FROM verdicts").fetchone()[0]
        except sqlite3.Error as error:
            raise StartError(f"{path} cannot be read: {error}") from error

    def galleries(self) -> dict[str, int]:
        """How many verdicts each gallery has, replaced ones included."""
        return dict(self._connection.execute("SELECT gallery, count(*) FROM verdicts GROUP BY gallery"))

    def verdicts(self, gallery: str) -> list[Verdict]:
        """What counts, in the order of the searches' first verdicts."""
        rows = self._connection.execute(
            "SELECT request_id, item_id, verdict FROM verdicts WHERE number IN"
            " (SELECT max(number) FROM verdicts WHERE gallery = ? GROUP BY request_id, item_id) ORDER BY number",
            (gallery,),
        )
        return [Verdict(*row) for row in rows]

    def crop(self, gallery: str, request_id: str) -> bytes:
        """The JPEG of what was searched."""
        row = self._connection.execute(
            "SELECT crop FROM searches WHERE gallery = ? AND request_id = ?", (gallery, request_id)
        ).fetchone()
        assert row is not None, "a verdict is written with its search"
        return bytes(row[0])


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _database(max_bytes: int) -> PrivateDatabase:
    return PrivateDatabase(
        holds="feedback",
        file=FILE,
        schema=_SCHEMA,
        pragmas=(
            f"page_size = {PAGE_BYTES}",
            "journal_mode = WAL",
            "synchronous = FULL",  # an acknowledged verdict outlives a power cut
            f"max_page_count = {max_bytes // PAGE_BYTES}",
        ),
        busy_s=BUSY_S,
        setting="THREADMATCH_FEEDBACK",
        way_out="leave it empty to take none",
        precious=True,
    )


@contextlib.contextmanager
def feedback_of(folder: str, *, max_mib: int, recent_minutes: float) -> Iterator[FeedbackStore | None]:
    """The feedback store of a service while it runs; None where the folder is "".

    Raises:
        StartError: the folder cannot be used, or no recent searches are kept that feedback could be about.
    """
    if not folder:
        yield None
        return
    if recent_minutes == 0:
        raise StartError(
            "feedback is about recent searches, and none are kept: set THREADMATCH_RECENT_MINUTES above 0, or leave "
            "THREADMATCH_FEEDBACK empty"
        )
    store = FeedbackStore(Path(folder), max_bytes=max_mib * 1024 * 1024)
    try:
        yield store
    finally:
        store.close()
