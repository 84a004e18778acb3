"""Real `threadmatch serve` processes on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.patience import PATIENCE_S

START_S = PATIENCE_S
# Bytecode may be written, or each of the eight processes would compile torch, torchvision and timm anew.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith("THREADMATCH_") and name != "PYTHONDONTWRITEBYTECODE"
}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from threadmatch.service.cli import main; main()", *arguments]


@contextmanager
def serving(*arguments: str, **variables: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A `threadmatch serve` process and its address, once it said that it serves."""
    process = subprocess.Popen(
        command("serve", "--port", "0", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**ENVIRONMENT, "OMP_NUM_THREADS": "1", "THREADMATCH_DETECTOR": "grabcut", **variables},
    )
    log: list[str] = []
    assert process.stderr is not None
    assert process.stdout is not None
    reader = threading.Thread(target=lambda: log.extend(process.stderr or []), daemon=True)
    reader.start()
    alarm = threading.Timer(START_S, process.kill)
    alarm.start()
    try:
        line = process.stdout.readline()
        alarm.cancel()  # it has started; what a test does with it may take longer
        assert line.startswith("threadmatch serves http://127.0.0.1:"), (line, log)
        process.log, process.reader = log, reader  # type: ignore[attr-defined]
        yield process, line.split()[-1]
    finally:
        alarm.cancel()
        if process.poll() is None:
            process.kill()
        process.wait()
        reader.join()
        process.stdout.close()
        process.stderr.close()
