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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import threadmatch
from threadmatch.indexer.catalogue.decoding.deadlines import DEADLINES
from threadmatch.indexer.catalogue.decoding.worker import read_message, write_message
from threadmatch.indexer.errors import IndexerError
from threadmatch.model.errors import InvalidImageError
from threadmatch.model.framing import SQUASHED, Framing
from threadmatch.model.images import DecodedImage, ImageLimits

T = TypeVar("T")

logger = logging.getLogger(__name__)

TIME_LIMIT_S = 20.0
START_LIMIT_S = 60.0
TRIES = 2
START_TRIES = 3
_NOTHING: Final[dict[str, Any]] = {"nothing": True}
PACKAGES = Path(threadmatch.__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One image: a file's path or its bytes, the box to cut ("" for all), and digests whose decoding is not needed.

    The JPEG to show has the whole photo, the box alone, or is left out. The picture as a whole comes too where a long
    side is given that it is needed no finer than, unless its ground is plain: whoever asks looks for a garment in it.
    """

    path: str | None = None
    data: bytes | None = None
    box: str = ""
    known: frozenset[str] = frozenset()
    show: Literal["all", "box", "nothing"] = "all"
    view_px: int = 0


class Stopping(Protocol):
    """Tells a caller's wish to have its image's process killed."""

    @property
    def asked(self) -> bool:
        """Whether it was wished."""

    def calls(self, call: Callable[[], None] | None) -> None:
        """What to call when it is."""


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """An image ready for the model: (S, S, 3) uint8 pixels, display photo, size of the upright original, box used; and
    the picture as a whole, where it was asked for.
    """

    sha256: str
    width: int
    height: int
    box: tuple[float, float, float, float]
    pixels: NDArray[np.uint8]
    photo: bytes
    view: DecodedImage | None = None


@dataclass(frozen=True, slots=True)
class Same:
    """An image whose bytes are among the known ones."""

    sha256: str


class DecodePool:
    """Decoding processes. Thread-safe. Use as a context manager: leaving it ends them.

    Args:
        workers: processes.
        image_px: S.
        framing: how a photo becomes the model's square.
        limits: on one image.
        time_limit_s: for one image.
        memory_bytes: address space of one process; None for `worker.MEMORY_LIMIT_BYTES`.
        nice: by how much its processes stand back for others.
        program: what each process runs, for tests.
    """

    def __init__(
        self,
        workers: int,
        *,
        image_px: int,
        framing: Framing = SQUASHED,
        limits: ImageLimits | None = None,
        time_limit_s: float = TIME_LIMIT_S,
        memory_bytes: int | None = None,
        nice: int = 0,
        program: tuple[str, ...] = ("-m", "threadmatch.indexer.catalogue.decoding.worker"),
    ) -> None:
        self.image_px, self.framing, self.limits = image_px, framing, limits or ImageLimits()
        self.time_limit_s = time_limit_s
        self._program = (*program, *([] if memory_bytes is None else [str(memory_bytes)]))
        self._nice = nice
        self._workers = workers
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

    def warm(self) -> None:
        """Start all processes, which else begin with their first image.

        Raises:
            IndexerError: they do not start.
        """
        with ThreadPoolExecutor(self._workers) as threads:
            list(threads.map(lambda _: self._ask_again(_NOTHING, []), range(self._workers)))

    def decode(self, task: Task, *, stop: Stopping | None = None) -> Decoded | Same:
        """Decode one image.

        Args:
            task: the image.
            stop: kills the process when the caller has no use for the answer any more.

        Raises:
            InvalidImageError: it cannot be used; also reasons "too_slow", "decoder_crashed" and "stopped".
            IndexerError: the processes do not start at all.
        """
        header = {
            "path": task.path,
            "box": task.box,
            "known": sorted(task.known),
            "show": task.show,
            "view_px": task.view_px,
            "image_px": self.image_px,
            "framing": self.framing.to_dict(),
        }
        answer, blobs = self._ask_again(header, [] if task.data is None else [task.data], stop)
        if answer["status"] == "same":
            return Same(answer["sha256"])
        pixels = np.frombuffer(blobs[0], np.uint8).reshape(self.image_px, self.image_px, 3)
        x0, y0, x1, y1 = answer["box"]
        view = _picture(answer, blobs[2]) if len(blobs) > 2 else None
        return Decoded(answer["sha256"], answer["width"], answer["height"], (x0, y0, x1, y1), pixels, blobs[1], view)

    def picture(self, data: bytes, *, long_side_px: int, stop: Stopping | None = None) -> DecodedImage:
        """Decode one image as a whole, its longer side no finer than asked.

        Raises:
            InvalidImageError, IndexerError: as for `decode`.
        """
        answer, blobs = self._ask_again({"path": None, "long_side_px": long_side_px}, [data], stop)
        return _picture(answer, blobs[0])

    def _ask_again(
        self, header: dict[str, Any], blobs: list[bytes], stop: Stopping | None = None
    ) -> tuple[dict[str, Any], list[bytes]]:
        """The answer, in as many tries as an image gets."""
        header = header | {"max_bytes": self.limits.max_bytes, "max_pixels": self.limits.max_pixels}
        crashes = starts = 0
        while crashes < TRIES:
            try:
                answer = self._ask(header, blobs, stop)
            except _NotStartedError as error:  # no fault of the image
                starts += 1
                if starts == START_TRIES:
                    raise IndexerError(
                        f"decoding processes do not start; see `{sys.executable} {' '.join(self._program)}`"
                    ) from error
                continue
            if answer is not None and answer[0]["status"] == "rejected":
                raise InvalidImageError(answer[0]["message"], reason=answer[0]["reason"])
            if answer is not None:
                return answer
            if stop is not None and stop.asked:
                raise InvalidImageError("nobody waits for this image any more; send it again", reason="stopped")
            crashes += 1
        raise InvalidImageError(
            "the decoder crashed on this image, twice; convert it to another format", reason="decoder_crashed"
        )

    def _ask(
        self, header: dict[str, Any], blobs: list[bytes], stop: Stopping | None
    ) -> tuple[dict[str, Any], list[bytes]] | None:
        """One try in one process; None when the process died."""
        worker = self._idle.get()
        good = False
        try:
            if worker is None:
                worker = self._start()
            if stop is not None:
                stop.calls(worker.stop)
            answer = worker.ask(header, blobs, self.time_limit_s)
            good = True
            return answer
        except TimeoutError as error:
            raise InvalidImageError(
                f"decoding took more than {self.time_limit_s:g} s and was stopped; convert the image", reason="too_slow"
            ) from error
        except (EOFError, OSError):
            if not self._closed and not (stop is not None and stop.asked):
                logger.warning("a decoding process died and is replaced")
            return None
        finally:
            if stop is not None:
                stop.calls(None)
                good = good and not stop.asked  # the wish may have come with the answer
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
            worker = _Worker(self._program, self._nice)
            self._all.add(worker)
        return worker


def _picture(answer: dict[str, Any], pixels: bytes) -> DecodedImage:
    shape = (answer["rows"], answer["columns"], 3)
    return DecodedImage(
        Image.fromarray(np.frombuffer(pixels, np.uint8).reshape(shape)), answer["width"], answer["height"]
    )


class _NotStartedError(Exception):
    """A process that ended before it was ready."""


class _Worker:
    """One process and its pipes; used by one thread at a time."""

    _stdin: BinaryIO
    _stdout: BinaryIO

    def __init__(self, program: tuple[str, ...], nice: int) -> None:
        paths = [str(PACKAGES), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "MALLOC_MMAP_THRESHOLD_": str(4 * 2**20),  # glibc's own grows, and what a large image took stays
        }
        # -P: the current folder may hold another `model` or `indexer`
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", *program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # libtiff and the like write there what the reject's message says already
            env=environment,
        )
        with contextlib.suppress(ProcessLookupError):  # it has ended; whoever asks it will hear so
            os.setpriority(os.PRIO_PROCESS, self._process.pid, os.nice(0) + nice)  # while it starts, too
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

        try:
            with DEADLINES.within(limit_s, stop):
                return call()
        except (EOFError, OSError) as error:
            if late.is_set():
                raise TimeoutError from error
            raise
