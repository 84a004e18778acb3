"""Folds changed items into a gallery's index, in the background, once there are enough of them.

The work is a process of its own (`threadmatch gallery compact --fold-only`), at low priority: it needs memory for an
index and a core for a while, and a kill at any moment leaves the gallery as it was. One worker process of several
starts it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.service.process.commands import program
from threadmatch.service.watching.metrics import Metrics

logger = logging.getLogger(__name__)

MARK = ".folding"  # in the gallery's folder, locked by the worker that has a fold running
RETRY_S = 60.0
NICENESS = "10"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldRule:
    """When to fold.

    Args:
        edits: as soon as so many wait; 0 for never.
        after_s: or, with fewer, once they have waited so long.
    """

    edits: int
    after_s: float


class Folding:
    """Watches one gallery. Lives on the event loop.

    Args:
        name: of the gallery, for logs and metrics.
        gallery: to watch.
        rule: when to fold.
        metrics: where folds are counted.
    """

    def __init__(self, name: str, gallery: Gallery, rule: FoldRule, metrics: Metrics) -> None:
        self._name, self._gallery, self._rule, self._metrics = name, gallery, rule, metrics
        self._waiting_since: float | None = None
        self._not_before = 0.0
        self._running: asyncio.Task[None] | None = None

    def look(self, pending: int) -> None:
        """Begin a fold if one is due.

        Args:
            pending: edits that wait, as of now.
        """
        now = time.monotonic()
        if not pending:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = now
        if self._running is not None and not self._running.done():
            return
        if self._rule.edits and now >= self._not_before and self._due(pending, now):
            self._running = asyncio.create_task(self._fold(), name=f"fold-{self._name}")

    async def stop(self) -> None:
        """End a fold under way; the next start of the service begins it anew."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})

    def _due(self, pending: int, now: float) -> bool:
        waited_s = 0.0 if self._waiting_since is None else now - self._waiting_since
        return pending >= self._rule.edits or (pending > 0 and waited_s >= self._rule.after_s)

    async def _fold(self) -> None:
        self._not_before = time.monotonic() + RETRY_S
        try:
            with _marked(self._gallery.folder) as mine:
                if not mine or await asyncio.to_thread(self._gallery.ingesting):
                    return
                started = time.monotonic()
                outcome = await self._run()
        except Exception:  # a fold that fails is tried again; nothing waits for it
            logger.exception("folding changed items failed", extra={"gallery": self._name})
            outcome = None
        else:
            seconds = round(time.monotonic() - started, 3)
            extra = {"gallery": self._name, "seconds": seconds, "outcome": outcome}
            logger.log(logging.INFO if outcome else logging.WARNING, "changed items folded", extra=extra)
        if outcome:
            self._waiting_since, self._not_before = None, 0.0
        self._metrics.folds.labels(self._name, "folded" if outcome else "failed").inc()

    async def _run(self) -> dict[str, object] | None:
        """What the command says it did; None where it failed."""
        nice = shutil.which("nice")
        arguments = [*program(), "gallery", "compact", str(self._gallery.folder), "--fold-only", "--json"]
        process = await asyncio.create_subprocess_exec(
            *([nice, "-n", NICENESS] if nice else []),
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, said = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            logger.warning("no fold", extra={"gallery": self._name, "reason": said.decode("utf-8", "replace")[-500:]})
            return None
        result: dict[str, object] = json.loads(out)
        return result


@contextlib.contextmanager
def _marked(folder: Path) -> Iterator[bool]:
    """Whether this is the one process that folds now; the kernel takes the mark away when it dies."""
    descriptor = os.open(folder / MARK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
