"""Programs of the tests, and `threadmatch` itself, as processes forked from one that has imported what they need.

To start the interpreter and import torch and the service takes two and a half seconds of a core, and the tests do it
dozens of times. What is forked is a process of its own all the same: it shares no lock, no thread and no open file with
the tests. What a fresh start alone can show (what is imported when, threads, workers) is tested with fresh starts.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import pytest

from tests.support.checkout import IMPORT_PATH

CONTEXT: Final = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "tests.support.edits", "tests.support.shop", "tests.support.upgrading", "threadmatch.service.cli",
        "threadmatch.service.app", "threadmatch.service.galleries.loading", "threadmatch.service.process.server",
    ]
)  # fmt: skip


class _Process:
    """As much of a `subprocess.Popen` as those who wait for one, or end it, need."""

    def __init__(self, target: Callable[..., None], *given: object, daemon: bool) -> None:
        self._process = CONTEXT.Process(target=target, args=given, daemon=daemon)
        with pytest.MonkeyPatch.context() as environment:  # of the process that is forked from, at the first start
            environment.setenv("OMP_NUM_THREADS", "1")
            environment.setenv("PYTHONPATH", IMPORT_PATH)
            self._process.start()

    @property
    def returncode(self) -> int | None:
        """Its exit code, minus the signal's number where one ended it; None while it runs."""
        return self._process.exitcode

    @property
    def sentinel(self) -> int:
        """Readable once it has ended; see `multiprocessing.connection.wait`."""
        return self._process.sentinel

    def poll(self) -> int | None:
        """The same as `returncode`."""
        return self.returncode

    def send_signal(self, number: int) -> None:
        """To a process that runs still."""
        if self.returncode is None and self._process.pid is not None:
            os.kill(self._process.pid, number)

    def kill(self) -> None:
        """At once."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int | None:
        """Until it ends; its exit code."""
        self._process.join(timeout)
        return self.returncode


class Forked(_Process):
    """As much of a `subprocess.Popen` with pipes and text as tests of kills need.

    Args:
        main: a program's; it reads `sys.argv` and standard input, and prints.
        arguments: what it finds in `sys.argv`.
    """

    def __init__(self, main: Callable[[], None], *arguments: str) -> None:
        self._pipe, theirs = CONTEXT.Pipe()
        super().__init__(_run, main, arguments, theirs, daemon=True)
        theirs.close()
        self.stdout: Final = _lines(self._pipe)

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()

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
    sys.stdin = sys.stdout = _Lines(pipe)
    main()


class ForkedCommand(_Process):
    """A `threadmatch` command, or a program as `python FILE` would run it.

    Args:
        words: "threadmatch", or "python" and a file, and what comes behind it on the command line.
        files: numbers of what it has as standard input, output and error.
        environment: all of it, but for how many threads compute: one.
        folder: that it runs in.
    """

    def __init__(
        self, words: Sequence[str], files: Sequence[int], environment: Mapping[str, str], folder: Path
    ) -> None:
        passed = [Connection(os.dup(number)) for number in files]
        super().__init__(_command, list(words), passed, dict(environment), folder, daemon=False)
        for each in passed:
            each.close()


class PipedCommand(ForkedCommand):
    """One that is told nothing and whose output is read here: as much of a `subprocess.Popen` as tests of one need."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        (stdout, its_stdout), (stderr, its_stderr) = os.pipe(), os.pipe()
        with Path(os.devnull).open() as nothing:
            super().__init__(words, (nothing.fileno(), its_stdout, its_stderr), environment, folder)
        os.close(its_stdout)
        os.close(its_stderr)
        self.stdout, self.stderr = os.fdopen(stdout), os.fdopen(stderr)

    def communicate(self, _: str = "", timeout: float | None = None) -> tuple[str, str]:
        """All that it printed until it ended, and its log."""
        with self.stdout, self.stderr, ThreadPoolExecutor(1) as reader:
            logged = reader.submit(self.stderr.read)
            said = self.stdout.read()
            log = logged.result(timeout)
        self.wait(timeout)
        return said, log


def _command(words: list[str], files: list[Connection], environment: dict[str, str], folder: Path) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, file in enumerate(files):
        os.dup2(file.fileno(), number)
        file.close()
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115 - while it runs
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    if words[0] == "threadmatch":
        from threadmatch.service.cli import main

        sys.argv = words
        main()
    else:
        sys.argv, sys.path[:0] = words[1:], [str(Path(words[1]).parent)]
        runpy.run_path(words[1], run_name="__main__")
