"""`threadmatch` commands as processes of their own, as a user would start them: for the demo and the benchmark.

Each command is said before it runs, so that whoever reads the output can type it.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import Final

import httpx

from threadmatch.service.config import variable

START_S: Final = 180.0
STOP_S: Final = 40.0
"""A little more than the service gives to searches in progress."""

NOT_OURS: Final = frozenset(
    variable(name)
    for name in (
        "allow_anonymous", "allowed_hosts", "cors_origins", "feedback", "galleries", "gallery", "host", "keys", "model",
        "port", "rate_limit", "recent", "wait_for_gallery",
    )
)  # fmt: skip
"""Settings of the user's own service that must not reach ours: who may ask, what it serves, where it keeps things."""


class CommandError(Exception):
    """A command did not go well; the message names it and is for the person who started it."""


def program() -> list[str]:
    """How to start `threadmatch` with the interpreter that runs now."""
    script = Path(sys.executable).with_name("threadmatch")
    return (
        [str(script)]
        if script.is_file()
        else [sys.executable, "-c", "from threadmatch.service.cli import main; main()"]
    )


def print_command(arguments: Sequence[str]) -> None:
    """Show a command as one would type it."""
    print(f"\n$ {shlex.join(['threadmatch', *arguments])}", flush=True)


def run_command(arguments: Sequence[str]) -> None:
    """Print a command, run it, and wait; its output is the user's to read.

    Raises:
        CommandError: it failed.
    """
    print_command(arguments)
    code = subprocess.run([*program(), *arguments], check=False).returncode  # noqa: S603 - our own command
    if code:
        raise CommandError(f"`threadmatch {arguments[0]}` ended with exit code {code}")


@dataclass(slots=True)
class Service:
    """A running `threadmatch serve`."""

    address: str
    process: subprocess.Popen[str]
    log: Path

    def wait(self) -> int:
        """Until it ends by itself; its exit code."""
        return self.process.wait()

    def stop(self) -> int:
        """SIGTERM, and the exit code; a service that does not end, or is not waited for, is killed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=STOP_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):  # a second Ctrl-C does not wait
            self.process.kill()
            return self.process.wait()


@contextlib.contextmanager
def service(arguments: Sequence[str], log: Path, settings: Mapping[str, str] | None = None) -> Iterator[Service]:
    """Run `threadmatch serve` until the block ends; it is stopped whatever happens.

    It gets the environment without what `NOT_OURS` names, so that a key file or a second gallery of the user's own
    service changes nothing here; limits and sizes of batches stay as the user set them.

    Args:
        arguments: of `threadmatch`, beginning with "serve".
        log: file for the service's own log.
        settings: by field name; they win over the environment.

    Raises:
        CommandError: it did not start.
    """
    environment = {name: value for name, value in os.environ.items() if name.upper() not in NOT_OURS}
    environment |= {variable(name): value for name, value in (settings or {}).items()}
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [*program(), *arguments],
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            env=environment,
            start_new_session=True,  # Ctrl-C is for us, who then stop the service in order
        )
        running = Service("", process, log)
        try:
            running.address = _address(running)
            yield running
        finally:
            running.stop()
            assert process.stdout is not None
            process.stdout.close()


def _address(running: Service) -> str:
    """Wait for the line in which the service says where it is, then until it is ready."""
    lines: Queue[str] = Queue()
    stdout = running.process.stdout
    assert stdout is not None

    def read() -> None:
        with contextlib.suppress(ValueError):  # closed under us, at the end
            for line in stdout:
                lines.put(line)

    threading.Thread(target=read, daemon=True).start()
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with contextlib.suppress(Empty):
            line = lines.get(timeout=0.2)
            if "http" in line:
                address = line.split()[-1]
                _wait_until_ready(running, address, deadline)
                return address
        if running.process.poll() is not None and lines.empty():
            break
    said = running.log.read_text("utf-8", "replace")[-2000:].strip()
    raise CommandError(f"the service did not start; it said:\n{said}")


def _wait_until_ready(running: Service, address: str, deadline: float) -> None:
    while time.monotonic() < deadline and running.process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{address}/health/ready", timeout=10).status_code == httpx.codes.OK:
                return
        time.sleep(0.1)
