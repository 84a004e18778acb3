"""A Ray cluster of this machine, for tests and measurements: a head and nodes, each killable with all that it runs.

Nodes are processes of loopback with a CPU each on paper. What a real cluster has besides (the dashboard, usage
statistics) is left out.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import sys
from pathlib import Path
from typing import Final

from threadmatch.service.bench.engines import LOG, START_S, Server, free_port
from threadmatch.service.replicas import around_proxies

PROXIES: Final = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": f"{around_proxies.__module__}.{around_proxies.__name__}"}
"""In the environment of nodes: what their proxies of Serve put around themselves."""
STORE_BYTES: Final = 200_000_000
"""Of a node's object store: what is on its way, a few batches."""


def lacking_ray() -> str:
    """Why no Ray can be used here; "" where one can."""
    return "" if importlib.util.find_spec("ray") else "the extra `ray` is not installed"


def head(folder: Path, *, cpus: int = 0) -> Server:
    """The node that knows all others, not started yet.

    Args:
        folder: for its log; made when missing. What Ray itself writes is below /tmp: its sockets' names must be short.
        cpus: for tasks; 0: it only manages.
    """
    return _ray(folder, free_port(), cpus, "--head", "--include-dashboard=false")


def node(folder: Path, of: Server, *, cpus: int = 1) -> Server:
    """A further node, not started yet; it joins when it is.

    Args:
        folder: for its log; made when missing.
        of: the head, which runs.
        cpus: for tasks.
    """
    return _ray(folder, of.port, cpus, f"--address={address(of)}")


def address(head: Server) -> str:
    """Of a head's cluster."""
    return f"127.0.0.1:{head.port}"


def processes(server: Server, title: str = "") -> list[int]:
    """What runs on a node, itself too.

    Args:
        server: the node.
        title: part of the command's line.
    """
    if server.process is None:
        return []
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and os.getsid(int(entry.name)) == server.process.pid:
                found += [int(entry.name)] * (title.encode() in (entry / "cmdline").read_bytes())
        except OSError:  # it has ended
            continue
    return found


def _ray(folder: Path, port: int, cpus: int, *options: str) -> Server:
    folder.mkdir(parents=True, exist_ok=True)
    common = (f"--num-cpus={cpus}", "--num-gpus=0", f"--object-store-memory={STORE_BYTES}", "--disable-usage-stats")
    own = (f"--port={port}", f"--ray-client-server-port={free_port()}") if "--head" in options else ()
    program = "from ray.scripts.scripts import main; main()"
    command = [sys.executable, "-c", program, "start", "--block", *options, *own, *common]
    environment = {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),  # nodes import what this process does
        "RAY_raylet_start_wait_time_s": str(START_S),
        **PROXIES,
    }
    return _Node(command, folder, port, lambda: b"Ray runtime started" in (folder / LOG).read_bytes(), environment)


class _Node(Server):
    """A node says in its log that it has joined: each start has a log of its own."""

    def begin(self) -> None:
        """See `Server.begin`."""
        (self.folder / LOG).unlink(missing_ok=True)
        super().begin()

    def kill(self) -> None:
        """With -9, and all that it started: Ray gives each worker a process group of its own."""
        for pid in processes(self):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        super().kill()
