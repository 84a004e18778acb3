"""The parent of several workers: replaces one that died and takes all along at its own end."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from socket import socket
from typing import Final

import uvicorn
from prometheus_client import multiprocess as shared_metrics
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from threadmatch.service.process.collecting import collect_seldom
from threadmatch.service.process.draining import DrainingServer
from threadmatch.service.watching.dead_workers import take_over

logger = logging.getLogger(__name__)

START_AGAIN_S: Final = 5.0
"""Pause before a worker that could not start is started again, while others serve."""


class Worker(Process):
    """One worker process. Its parent asks for its health and does not wait for the answer: it goes on listening."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket]) -> None:
        super().__init__(config, sockets)
        self.serves = False  # as of its last answer
        self._asked_at: float | None = None

    @property
    def server(self) -> uvicorn.Server:
        """What runs in the worker."""
        if self._server is None:
            self._server = DrainingServer(config=self.config)
        return self._server

    def target(self, sockets: list[socket] | None = None) -> None:
        """Serve, in the worker."""
        collect_seldom()
        _ = self.server  # made before the thread that answers for it begins, or each would make one
        super().target(sockets)

    def is_well(self, patience_s: float) -> bool:
        """Whether it lives and no question has been open for longer than `patience_s`."""
        if not self.process.is_alive():
            return False
        try:
            if self._asked_at is None:
                self.parent_conn.send(b"ping")
                self._asked_at = time.monotonic()
            elif self.parent_conn.poll():
                self.serves = self.parent_conn.recv()
                self._asked_at = None
        except (OSError, EOFError):
            return False
        return self._asked_at is None or time.monotonic() - self._asked_at < patience_s


class Supervisor(Multiprocess):
    """uvicorn's, with these differences.

    - It knows whether it ended because it was asked to, or because the service could not start.
    - The gauges of a dead worker leave the metrics; what it counted stays, in one file for all of them.
    - A replacement that cannot start does not end the workers that serve; it is tried again.
    - A worker that is slow to say how it is does not keep it from hearing SIGTERM, or from replacing another one.
    - The number of workers is fixed: SIGHUP, SIGTTIN and SIGTTOU change nothing.
    """

    processes: list[Worker]  # type: ignore[assignment]  # made here, all of them

    def __init__(self, config: uvicorn.Config, sockets: list[socket]) -> None:
        super().__init__(config, sockets)
        self.asked_to_end = False
        self._served = False  # whether any worker was ready at some time
        self._start_at: dict[Worker, float] = {}  # dead workers, and when to put another in their place

    def handle_int(self) -> None:
        """SIGINT."""
        self.asked_to_end = True
        super().handle_int()

    def handle_term(self) -> None:
        """SIGTERM."""
        self.asked_to_end = True
        super().handle_term()

    def handle_hup(self) -> None:
        """SIGHUP: settings are read at the start only."""

    def handle_ttin(self) -> None:
        """SIGTTIN."""

    def handle_ttou(self) -> None:
        """SIGTTOU."""

    def init_processes(self) -> None:
        """Start all workers."""
        self.processes = [self._started() for _ in range(self.processes_num)]

    def keep_subprocess_alive(self) -> None:
        """Replace each worker that has died or no longer answers."""
        for place, worker in enumerate(self.processes):
            if self.should_exit.is_set():
                return
            if worker in self._start_at:
                if time.monotonic() >= self._start_at[worker]:
                    del self._start_at[worker]
                    self.processes[place] = self._started()
            elif not worker.is_well(self.config.timeout_worker_healthcheck):
                self._bury(worker)
            else:
                self._served |= worker.serves

    def _bury(self, worker: Worker) -> None:
        worker.kill()  # it hangs, or is dead already
        worker.join()
        assert worker.pid is not None
        shared_metrics.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
        try:
            take_over(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]), worker.pid)
        except (OSError, ValueError) as error:  # a full disk, a torn file: the worker's own files stay and are counted
            logger.warning("a dead worker's counters stay where they are", extra={"reason": str(error)})
        could_not_start = worker.exitcode == STARTUP_FAILURE
        if could_not_start and not self._served:
            self.should_exit.set()  # it would fail the same way again
            return
        pause_s = START_AGAIN_S if could_not_start else 0.0
        logger.error(
            "a worker died and is replaced",
            extra={"worker": worker.pid, "exit_code": worker.exitcode, "pause_s": pause_s},
        )
        self._start_at[worker] = time.monotonic() + pause_s

    def _started(self) -> Worker:
        worker = Worker(self.config, self.sockets)
        worker.start()
        return worker


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
