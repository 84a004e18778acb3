"""`threadmatch` and `python` for shells that tests start, forked from a process that has imported what they import."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from multiprocessing.connection import wait
from pathlib import Path

from tests.support import handed_over
from tests.support.forked import ForkedCommand


@contextlib.contextmanager
def command_server() -> Iterator[Path]:
    """The socket at which such commands are run, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="commands") as folder, socket.socket(socket.AF_UNIX) as listener:
        path = Path(folder) / "socket"  # not in the test's own folder: its path has room for a hundred letters
        listener.bind(str(path))
        listener.listen()
        accepting = threading.Thread(target=_accept, args=(listener,), daemon=True)
        accepting.start()
        yield path
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()


def write_programs(folder: Path, server: Path) -> None:
    """`threadmatch` and `python` into a folder of programs; a `python` that is not given a file is the real one."""
    hand_over = f"exec '{sys.executable}' -ISE '{handed_over.__file__}' '{server}'"
    real = f'[ -f "$1" ] || exec \'{sys.executable}\' "$@"\n'
    for name, before in (("threadmatch", ""), ("python", real)):
        (folder / name).write_text(f'#!/bin/sh\n{before}{hand_over} {name} "$@"\n')
        (folder / name).chmod(0o755)


def _accept(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it is shut
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_run, args=(connection,), daemon=True).start()


def _run(connection: socket.socket) -> None:
    """One command; it is killed where the shell's own process was."""
    with connection:
        size, files, *_ = socket.recv_fds(connection, 4, 3)
        with connection.makefile("rb") as asked:
            words, folder, environment = json.loads(asked.read(int.from_bytes(size, "big")))
        process = ForkedCommand(words, files, environment, Path(folder))
        for number in files:
            os.close(number)
        if process.sentinel not in wait([process.sentinel, connection]):
            process.kill()
        code = process.wait()
        with contextlib.suppress(OSError):  # it was killed
            connection.sendall(str(code if code is None or code >= 0 else 128 - code).encode())
