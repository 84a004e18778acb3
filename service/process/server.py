"""Runs the app under uvicorn: binds, announces when it answers, drains on SIGTERM."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Final

import uvicorn
from fastapi import FastAPI

from threadmatch.service.config import Settings, variable
from threadmatch.service.errors import StartError
from threadmatch.service.owned_folders import in_memory, owned_folder
from threadmatch.service.process.connections import TimedHead
from threadmatch.service.process.draining import DrainingServer
from threadmatch.service.process.supervisor import Supervisor
from threadmatch.service.search.recent_folder import temporary

# h11 is the one of uvicorn's two parsers that bounds the bytes of a head.
HTTP = "threadmatch.service.process.connections:TimedHead"
# uvloop takes one new connection in each of its rounds: who connects faster than it goes round keeps all others waiting
# to be taken. asyncio's own takes all that wait, and those beyond an address's bound are ended at once.
LOOP: Final = "asyncio"
METRICS_FOLDER = "threadmatch-metrics-"
WORKER_HEALTHCHECK_S = 60  # importing torch may keep a starting worker from answering for seconds


def bind(host: str, port: int) -> socket.socket:
    """Take the address before anything slow is done.

    Raises:
        StartError: the port is taken, or the address is not this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.set_inheritable(True)
    except OSError as error:
        raise StartError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; choose another --port (0 takes a free one) "
            "or --host"
        ) from error
    return listener


def address_of(listener: socket.socket) -> str:
    """The address to type into a browser on this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  compared, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run_here(app: FastAPI, listener: socket.socket, settings: Settings, *, ready: Callable[[], None]) -> None:
    """Serve in this process until SIGTERM or SIGINT, then let searches in progress end.

    Args:
        app: from `create_app`.
        listener: from `bind`.
        ready: called once requests are answered.

    Raises:
        StartError: the app's start failed; its log line has the reason.
    """
    TimedHead.most_of_one_address = settings.max_connections
    config = uvicorn.Config(
        app,
        http=HTTP,
        loop=LOOP,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the app reads them itself, see `http.forwarded`
        timeout_graceful_shutdown=settings.drain_s,
    )
    # Once drained, uvicorn raises the signal again, for the handler it found. Ours makes that end an ordinary one.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _already_drained)
    server = _AnnouncingServer(config, ready)
    try:
        server.run(sockets=[listener])
    except SystemExit as error:
        raise StartError("the service could not start; the log above has the reason") from error


def run_workers(listener: socket.socket, settings: Settings, *, ready: Callable[[], None]) -> None:
    """Serve in `settings.workers` processes until SIGTERM or SIGINT.

    The workers read the settings from the environment, which is set here.

    Raises:
        StartError: a worker could not start.
    """
    for name, value in settings.model_dump(mode="json").items():
        os.environ[variable(name)] = "" if value is None else str(value)
    cores = len(os.sched_getaffinity(0))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // settings.workers)))  # or they fight for the cores
    config = uvicorn.Config(
        "threadmatch.service.app:app_from_env",
        factory=True,
        workers=settings.workers,
        http=HTTP,
        loop=LOOP,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the app reads them itself, see `http.forwarded`
        timeout_graceful_shutdown=settings.drain_s,
        timeout_worker_healthcheck=WORKER_HEALTHCHECK_S,
    )
    with owned_folder(METRICS_FOLDER, within=in_memory()) as folder, contextlib.ExitStack() as ending:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
        if not settings.recent and (remembered := temporary(ending)) is not None:
            os.environ[variable("recent")] = str(remembered)  # one for all workers
        supervisor = Supervisor(config, sockets=[listener])
        address = listener.getsockname()
        threading.Thread(target=_announce, args=(address, ready, supervisor.should_exit), daemon=True).start()
        supervisor.run()
    if not supervisor.asked_to_end:
        raise StartError("a worker could not start; the log above has the reason")


class _AnnouncingServer(DrainingServer):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()


def _already_drained(_number: int, _frame: FrameType | None) -> None:
    """Nothing is left to do."""


def _announce(address: tuple[str, int], ready: Callable[[], None], stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            connection = http.client.HTTPConnection(address[0], address[1], timeout=5)
            connection.request("GET", "/health/live")
            if connection.getresponse().status == 200:
                ready()
                return
        except OSError:
            time.sleep(0.2)
