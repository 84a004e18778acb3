"""Real `threadmatch serve` processes on loopback: started as a user would, or forked where its answers alone count."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.support.forked import PipedCommand
from tests.support.patience import PATIENCE_S

START_S = PATIENCE_S
# Bytecode may be written, or each process would compile torch, torchvision and timm anew.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith("THREADMATCH_") and name != "PYTHONDONTWRITEBYTECODE"
}


@dataclass(frozen=True, slots=True)
class Started:
    """A service's process, the lines of its log so far, and the thread that reads them until it ends."""

    process: subprocess.Popen[str]
    log: list[str]
    reader: threading.Thread


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from threadmatch.service.cli import main; main()", *arguments]


@contextmanager
def started(*arguments: str, **variables: str) -> Iterator[tuple[Started, str]]:
    """A `threadmatch serve` process, started as a user would, and its address, once it said that it serves."""
    process = subprocess.Popen(
        command("serve", "--port", "0", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(variables),
    )
    assert process.stderr is not None
    assert process.stdout is not None
    with _said(process, process.stdout, process.stderr) as (log, reader, address):
        yield Started(process, log, reader), address


@contextmanager
def serving(*arguments: str, **variables: str) -> Iterator[tuple[list[str], str]]:
    """The lines of the log of a `threadmatch serve` process, so far, and its address; for tests of what it answers.

    It is forked from one that has imported everything (`tests.support.forked`), and has one worker.
    """
    process = PipedCommand(["threadmatch", "serve", "--port", "0", *arguments], _environment(variables), Path.cwd())
    with _said(process, process.stdout, process.stderr) as (log, _, address):
        yield log, address


def _environment(variables: dict[str, str]) -> dict[str, str]:
    return {**ENVIRONMENT, "OMP_NUM_THREADS": "1", "THREADMATCH_DETECTOR": "grabcut", **variables}


@contextmanager
def _said(
    process: subprocess.Popen[str] | PipedCommand, stdout: IO[str], stderr: IO[str]
) -> Iterator[tuple[list[str], threading.Thread, str]]:
    """What a service writes to its log, who reads it, and the address; it ends with the block."""
    log: list[str] = []
    reader = threading.Thread(target=lambda: log.extend(stderr), daemon=True)
    reader.start()
    alarm = threading.Timer(START_S, process.kill)
    alarm.start()
    try:
        line = stdout.readline()
        alarm.cancel()  # it has started; what a test does with it may take longer
        assert line.startswith("threadmatch serves http://127.0.0.1:"), (line, log)
        yield log, reader, line.split()[-1]
    finally:
        alarm.cancel()
        if process.poll() is None:
            process.kill()
        process.wait()
        reader.join()
        stdout.close()
        stderr.close()
