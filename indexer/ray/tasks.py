"""Batches as tasks of a Ray cluster: the one module of this wing that imports Ray, when it is asked to connect.

A task that dies with its node is given to another one by Ray itself, nodes that join get tasks at once, and nothing
has to keep a pool whole.
"""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Sequence
from typing import Any, Final, Self

from threadmatch.indexer.errors import IndexerError
from threadmatch.indexer.making import Wanted
from threadmatch.indexer.ray.worker import Answer, Job, make_batch

logger = logging.getLogger(__name__)

REACH_S: Final = 5.0
"""In which an address must take a connection; Ray itself tries for minutes."""

TRIES: Final = 10
"""Nodes that may die under one batch, one after the other, before the batch is to blame."""
SAY_SO_S: Final = 60.0
"""After so long without an answer the log says that it is waited for."""


class RayTasks:
    """Batches on a Ray cluster; `maker.Tasks`. Use as a context manager.

    A process that is connected to a cluster already stays so, whatever the address.

    Args:
        address: as Ray writes it.
        gpus: that each batch needs.

    Raises:
        IndexerError: on entering: Ray is not installed, or no cluster answers at the address.
    """

    def __init__(self, address: str, *, gpus: int) -> None:
        self._address, self._gpus = address, gpus

    def __enter__(self) -> Self:
        _check_reach(self._address)
        try:
            import ray
            import ray.exceptions
        except ImportError as error:
            raise IndexerError("Ray is not installed: pip install 'threadmatch[ray]', on every node") from error
        self._ray: Any = ray
        self._ours = not ray.is_initialized()
        if self._ours:
            ended = signal.getsignal(signal.SIGTERM)
            try:
                ray.init(address=self._address, log_to_driver=False, logging_level=logging.WARNING)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise IndexerError(f"no Ray cluster answers at {self._address!r}: {error}") from error
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, ended)  # Ray takes it for itself
        self._task: Any = ray.remote(num_cpus=1, num_gpus=self._gpus, max_retries=TRIES)(make_batch)
        return self

    def __exit__(self, *_: object) -> None:
        if self._ours:
            self._ray.shutdown()  # tasks under way end, too

    def cpus(self) -> int:
        """Of all nodes that are alive; IndexerError where the head does not say."""
        try:
            return int(self._ray.cluster_resources().get("CPU", 0))
        except self._ray.exceptions.RayError as error:
            raise IndexerError(f"the head of the Ray cluster does not answer any more: {error}") from error

    def send(self, job: Job, photos: Sequence[Wanted]) -> object:
        """Begin a batch; what `wait` takes."""
        return self._task.remote(job, photos)

    def wait(self, sent: object) -> list[Answer]:
        """The answers of a batch.

        Raises:
            IndexerError: a node cannot do it, or none outlived it.
        """
        while not self._ray.wait([sent], timeout=SAY_SO_S)[0]:
            logger.warning("no answer from the Ray cluster yet", extra={"cpus": self.cpus(), "waited_s": SAY_SO_S})
        try:
            answers: list[Answer] = self._ray.get(sent)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, IndexerError):
                raise error.cause from None
            raise IndexerError(f"encoding failed on a node of the Ray cluster: {error.cause!r}") from error
        except self._ray.exceptions.RayError as error:
            raise IndexerError(f"no node of the Ray cluster outlived them, in {TRIES + 1} tries: {error}") from error
        return answers


def _check_reach(address: str) -> None:
    """IndexerError where nobody listens at an address; one without a port, such as "auto", is Ray's to find."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=REACH_S).close()
    except (OSError, OverflowError) as error:
        raise IndexerError(f"no Ray cluster answers at {address!r}: {error}") from error
