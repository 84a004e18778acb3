"""Decoding in processes that may hang, crash or be killed without harm to the ingestion.

`decode` is called from many threads; each call borrows one process. A process that takes too long is killed and its
image rejected; one that dies is replaced and its image tried once more in a fresh one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

import threadmatch
from threadmatch.indexer.catalogue.decoding.worker import read_message, write_message
from threadmatch.indexer.errors import IndexerError
from threadmatch.model.errors import InvalidImageError
from threadmatch.model.images import ImageLimits

T = TypeVar("T")

logger = logging.getLogger(__name__)

TIME_LIMIT_S = 20.0
START_LIMIT_S = 60.0
TRIES = 2
START_TRIES = 3
PACKAGES = Path(threadmatch.__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One image: a file's path or its bytes, the box to cut ("" for all), and digests whose decoding is not needed."""

    path: str | None = None
    data: bytes | None = None
    box: str = ""
    known: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """An image ready for the model: (S, S, 3) uint8 pixels, display photo, size of the upright original, box used."""

    sha256: str
    width: int
    height: int
    box: tuple[float, float, float, float]
    pixels: NDArray[np.uint8]
    photo: bytes


@dataclass(frozen=True, slots=True)
class Same:
    """An image whose bytes are among the known ones."""

    sha256: str


class DecodePool:
    """Decoding processes. Thread-safe. Use as a context manager: leaving it ends them.

    Args:
        workers: processes.
        image_px: S.
        limits: on one image.
        time_limit_s: for one image.
        program: what each process runs, for tests.
    """

    def __init__(
        self,
        workers: int,
        *,
        image_px: int,
        limits: ImageLimits | None = None,
        time_limit_s: float = TIME_LIMIT_S,
        program: tuple[str, ...] = ("-m", "threadmatch.indexer.catalogue.decoding.worker"),
    ) -> None:
        self.image_px, self.limits = image_px, limits or ImageLimits()
        self.time_limit_s = time_limit_s
        self._program = program
        self._idle: queue.SimpleQueue[_Worker | None] = queue.SimpleQueue()
        for _ in range(workers):
            self._idle.put(None)  # started when first needed
        self._all: set[_Worker] = set()
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes; calls under way fail."""
        with self._lock:
            self._closed = True
            for worker in self._all:
                worker.stop()  # whoever waits for its answer is told, and closes it
            self._all.clear()
        while True:
            try:
                idle = self._idle.get_nowait()
            except queue.Empty:
                # A place that every later call takes, finds closed and gives back: nobody waits for one for ever.
                self._idle.put(None)
                return
            if idle is not None:
                idle.close()

    def decode(self, task: Task) -> Decoded | Same:
        """Decode one image.

        Raises:
            InvalidImageError: it cannot be used; also reasons "too_slow" and "decoder_crashed".
            IndexerError: the processes do not start at all.
        """
        header = {
            "path": task.path,
            "box": task.box,
            "known": sorted(task.known),
            "image_px": self.image_px,
            "max_bytes": self.limits.max_bytes,
            "max_pixels": self.limits.max_pixels,
        }
        crashes = starts = 0
        while crashes < TRIES:
            try:
                answer = self._ask(header, [] if task.data is None else [task.data])
            except _NotStartedError as error:  # no fault of the image
                starts += 1
                if starts == START_TRIES:
                    raise IndexerError(
                        f"decoding processes do not start; see `{sys.executable} {' '.join(self._program)}`"
                    ) from error
                continue
            if answer is not None:
                return self._read(*answer)
            crashes += 1
        raise InvalidImageError(
            "the decoder crashed on this image, twice; convert it to another format", reason="decoder_crashed"
        )

    def _ask(self, header: dict[str, Any], blobs: list[bytes]) -> tuple[dict[str, Any], list[bytes]] | None:
        """One try in one process; None when the process died."""
        worker = self._idle.get()
        good = False
        try:
            if worker is None:
                worker = self._start()
            answer = worker.ask(header, blobs, self.time_limit_s)
            good = True
            return answer
        except TimeoutError as error:
            raise InvalidImageError(
                f"decoding took more than {self.time_limit_s:g} s and was stopped; convert the image", reason="too_slow"
            ) from error
        except (EOFError, OSError):
            if not self._closed:
                logger.warning("a decoding process died and is replaced")
            return None
        finally:
            if worker is not None and (self._closed or not good):
                good = False
                worker.close()
                with self._lock:
                    self._all.discard(worker)
            self._idle.put(worker if good else None)

    def _start(self) -> _Worker:
        with self._lock:
            if self._closed:
                raise EOFError
            worker = _Worker(self._program)
            self._all.add(worker)
        return worker

    def _read(self, header: dict[str, Any], blobs: list[bytes]) -> Decoded | Same:
        if header["status"] == "rejected":
            raise InvalidImageError(header["message"], reason=header["reason"])
        if header["status"] == "same":
            return Same(header["sha256"])
        pixels = np.frombuffer(blobs[0], np.uint8).reshape(self.image_px, self.image_px, 3)
        x0, y0, x1, y1 = header["box"]
        return Decoded(header["sha256"], header["width"], header["height"], (x0, y0, x1, y1), pixels, blobs[1])


class _NotStartedError(Exception):
    """A process that ended before it was ready."""


class _Worker:
    """One process and its pipes; used by one thread at a time."""

    _stdin: BinaryIO
    _stdout: BinaryIO

    def __init__(self, program: tuple[str, ...]) -> None:
        paths = [str(PACKAGES), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        # -P: the current folder may hold another `model` or `indexer`
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", *program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # libtiff and the like write there what the reject's message says already
            env=environment,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout  # type: ignore[assignment]
        self._ready = False

    def ask(self, header: dict[str, Any], blobs: list[bytes], limit_s: float) -> tuple[dict[str, Any], list[bytes]]:
        """Send a task and wait for its answer.

        Raises:
            TimeoutError: no answer in time; the process is dead now.
            EOFError, OSError: the process died.
            _NotStartedError: it never began to work.
        """
        if not self._ready:
            try:
                self._within(START_LIMIT_S, lambda: read_message(self._stdout))
            except (EOFError, OSError) as error:
                raise _NotStartedError from error
            self._ready = True

        def exchange() -> tuple[dict[str, Any], list[bytes]]:
            write_message(self._stdin, header, *blobs)
            return read_message(self._stdout)

        return self._within(limit_s, exchange)

    def stop(self) -> None:
        """End the process at once; a read or write that waits for it fails."""
        self._process.kill()

    def close(self) -> None:
        """End the process and let go of its pipes; for the thread that used it last."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._stdin, self._stdout):
            with contextlib.suppress(OSError):  # unsent bytes for a process that is gone
                pipe.close()

    def _within(self, limit_s: float, call: Callable[[], T]) -> T:
        late = threading.Event()

        def stop() -> None:
            late.set()
            self.stop()

        timer = threading.Timer(limit_s, stop)
        timer.daemon = True
        timer.start()
        try:
            return call()
        except (EOFError, OSError) as error:
            if late.is_set():
                raise TimeoutError from error
            raise
        finally:
            timer.cancel()
