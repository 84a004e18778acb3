"""How far long work is, on stderr: a bar on a terminal that can draw over a line, a line now and then elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

LINE_EVERY_S = 5.0
"""Between lines of one stage."""

NEW_STAGE_S = 1.0
"""Between lines of two stages: those that are over sooner get none."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class Shown:
    """Shows progress while it is entered; hears it as `threadmatch.model.progress.Progress` says.

    Args:
        console: to show it on; None: stderr.
        clock: seconds, rising.
    """

    def __init__(self, console: Console | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        from rich.console import Console

        self._console = console or Console(stderr=True)
        self._clock = clock
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._stage: str | None = None
        self._began = (0.0, 0)  # when this stage did, and what was done by then
        self._last_line = float("-inf")

    def __enter__(self) -> Shown:
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task("starting", total=None, rate="", note="")
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Show it, if it is time; a total of 0 says that nobody knows it."""
        now = self._clock()
        new = stage != self._stage
        if new:
            self._stage, self._began = stage, (now, done)
        seconds, before = now - self._began[0], self._began[1]
        rate = (done - before) / seconds if seconds > 0 else 0.0
        if self._bar is not None and self._task is not None:
            if new:
                self._bar.reset(self._task, description=stage, total=total or None)
            shown = f"{rate:.1f}/s" if rate else ""
            self._bar.update(self._task, completed=done, total=total or None, rate=shown, note=note)
        elif now - self._last_line >= (NEW_STAGE_S if new else LINE_EVERY_S):
            self._last_line = now
            self._console.print(_line(stage, done, total, rate, note), highlight=False, markup=False, soft_wrap=True)


def _line(stage: str, done: int, total: int, rate: float, note: str) -> str:
    parts = [f"{done} of {total}" if total else f"{done}" if done else ""]
    if rate:
        parts.append(f"{rate:.1f}/s")
        if total > done:
            parts.append(f"about {(total - done) / rate:.0f} s left")
    said = ", ".join(part for part in (*parts, note) if part)
    return f"{stage}: {said}" if said else stage


class FieldFormatter(logging.Formatter):
    """A message with the fields that were given as `extra`, for people: `evaluated: step 250, grnet_mrr 0.871`."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        said = ", ".join(f"{name} {f'{v:.4g}' if isinstance(v, float) else v}" for name, v in fields.items())
        return f"{record.getMessage()}: {said}" if said else record.getMessage()


def log_to_stderr() -> None:
    """Send log lines to stderr, for people. For the start of a command, once its `Shown` is entered."""
    handler = logging.StreamHandler()
    handler.setFormatter(FieldFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
