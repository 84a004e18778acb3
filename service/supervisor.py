"""The parent of several workers: replaces one that died and takes all along at its own end."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from socket import socket
from typing import Final

import uvicorn
from prometheus_client import multiprocess as shared_metrics
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

logger = logging.getLogger(__name__)

START_AGAIN_S: Final = 5.0
"""Pause before a worker that could not start is started again, while others serve."""


class Supervisor(Multiprocess):
    """uvicorn's, with three differences.

    - It knows whether it ended because it was asked to, or because the service could not start.
    - The gauges of a dead worker leave the metrics; what it counted stays.
    - A replacement that cannot start does not end the workers that serve; it is tried again.
    """

    def __init__(self, config: uvicorn.Config, sockets: list[socket]) -> None:
        super().__init__(config, sockets)
        self.asked_to_end = False
        self._served = False  # whether any worker was ready at some time
        self._start_at: dict[Process, float] = {}  # dead workers, and when to put another in their place

    def handle_int(self) -> None:
        """SIGINT."""
        self.asked_to_end = True
        super().handle_int()

    def handle_term(self) -> None:
        """SIGTERM."""
        self.asked_to_end = True
        super().handle_term()

    def keep_subprocess_alive(self) -> None:
        """Replace each worker that has died or no longer answers."""
        for place, process in enumerate(self.processes):
            if self.should_exit.is_set():
                return
            if process in self._start_at:
                if time.monotonic() >= self._start_at[process]:
                    self._start(place)
            elif not process.is_alive(timeout=self.config.timeout_worker_healthcheck):
                self._bury(process)
            elif not self._served:
                self._served = process.is_ready(timeout=self.config.timeout_worker_healthcheck)

    def _bury(self, process: Process) -> None:
        process.kill()  # it hangs, or is dead already
        process.join()
        assert process.pid is not None
        shared_metrics.mark_process_dead(process.pid)  # type: ignore[no-untyped-call]
        could_not_start = process.exitcode == STARTUP_FAILURE
        if could_not_start and not self._served:
            self.should_exit.set()  # it would fail the same way again
            return
        pause_s = START_AGAIN_S if could_not_start else 0.0
        logger.error(
            "a worker died and is replaced",
            extra={"worker": process.pid, "exit_code": process.exitcode, "pause_s": pause_s},
        )
        self._start_at[process] = time.monotonic() + pause_s

    def _start(self, place: int) -> None:
        self._start_at.pop(self.processes[place], None)
        self.processes[place] = process = Process(self.config, self.sockets)
        process.start()


def end_with_parent() -> None:
    """Let this worker drain and end when its parent ends, killed included: else it would hold the port for ever."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        logger.error("the parent process is gone; this worker ends too")
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()
