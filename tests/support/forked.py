"""Programs of the tests as processes that can be killed, forked from one that has imported what they need.

A start of the interpreter and of the indexer takes a second, and some tests start and kill a dozen. What is forked is a
process of its own all the same: it shares no lock, no thread and no open file with the tests.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Final

import pytest

from tests.support.checkout import IMPORT_PATH

CONTEXT: Final = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.support.edits", "tests.support.shop", "tests.support.upgrading"])


class Forked:
    """As much of a `subprocess.Popen` with pipes and text as tests of kills need.

    Args:
        main: a program's; it reads `sys.argv` and standard input, and prints.
        arguments: what it finds in `sys.argv`.
    """

    def __init__(self, main: Callable[[], None], *arguments: str) -> None:
        self._pipe, theirs = CONTEXT.Pipe()
        self._process = CONTEXT.Process(target=_run, args=(main, arguments, theirs), daemon=True)
        with pytest.MonkeyPatch.context() as environment:  # of the process that is forked from, at the first start
            environment.setenv("OMP_NUM_THREADS", "1")
            environment.setenv("PYTHONPATH", IMPORT_PATH)
            self._process.start()
        theirs.close()
        self.stdout: Final = _lines(self._pipe)

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()

    @property
    def returncode(self) -> int | None:
        """Its exit code, minus the signal's number where one ended it; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self.returncode

    def send_signal(self, number: int) -> None:
        """To a process that runs still."""
        if self.returncode is None and self._process.pid is not None:
            os.kill(self._process.pid, number)

    def wait(self, timeout: float | None = None) -> int | None:
        """Until it ends; its exit code."""
        self._process.join(timeout)
        return self.returncode

    def communicate(self, line: str = "", timeout: float | None = None) -> tuple[str, str]:
        """Let it read a line; all that it printed until it ended, and "": its errors are among the test's own."""
        with contextlib.suppress(OSError):  # it may have ended without reading
            self._pipe.send(line)
        said = "".join(self.stdout)
        self.wait(timeout)
        return said, ""


def _lines(pipe: Connection) -> Iterator[str]:
    """What the process prints, a line at a time, until it ends."""
    while True:
        try:
            yield pipe.recv()
        except (EOFError, OSError):
            return


class _Lines:
    """Standard input and output of a forked process: a message a line. What `communicate` gives is all of the input."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._begun, self._given = pipe, "", False

    def readline(self) -> str:
        if self._given:
            return ""
        line: str = self._pipe.recv()
        self._given = True
        return line

    def write(self, text: str) -> int:
        *whole, self._begun = (self._begun + text).split("\n")
        for line in whole:
            self._pipe.send(f"{line}\n")
        return len(text)

    def flush(self) -> None:
        """A line is sent once it is whole."""


def _run(main: Callable[[], None], arguments: tuple[str, ...], pipe: Connection) -> None:
    sys.argv = ["program", *arguments]
    sys.stdin = sys.stdout = _Lines(pipe)  # type: ignore[assignment]
    main()
