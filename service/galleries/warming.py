"""Warms what a gallery's searches read, in the background, as far as memory is free: see `indexer.reading.warming`."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path
from typing import Final

from threadmatch.indexer.reading.gallery import Gallery

logger = logging.getLogger(__name__)

NICENESS: Final = 10
CONTAINER: Final = Path("/sys/fs/cgroup")


class Warming:
    """Warms one gallery, again for each new generation. Searches do not wait for it.

    Args:
        name: of the gallery, for logs.
        gallery: to warm.
        share: of the memory that is free when it begins which the files may take; 0 for none.
    """

    def __init__(self, name: str, gallery: Gallery, share: float) -> None:
        self._name, self._gallery, self._share = name, gallery, share
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin; nothing where it is not wanted, or under way: that goes on with the newer generation by itself."""
        if self._share and (self._thread is None or not self._thread.is_alive()) and not self._stopped.is_set():
            self._thread = threading.Thread(target=self._warm, name=f"warm-{self._name}", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Leave off; in a moment."""
        self._stopped.set()

    def join(self, timeout_s: float) -> bool:
        """Whether it ended within so many seconds."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        return self._thread is None or not self._thread.is_alive()

    def _warm(self) -> None:
        """Until the generation in service is the one that was warmed."""
        generation = None
        while generation != self._gallery.generation and not self._stopped.is_set():
            generation = self._gallery.generation
            self._warm_one(generation)

    def _warm_one(self, generation: str) -> None:
        def left_off() -> bool:
            return self._stopped.is_set() or self._gallery.generation != generation

        started, room = time.monotonic(), int(self._share * available_bytes())
        try:
            _be_nice()
            warmed, whole = self._gallery.warm(room, left_off)
        except OSError as error:  # a generation that was removed meanwhile, or a disk that fails: searches say so
            logger.warning("warming left off", extra={"gallery": self._name, "reason": str(error)})
            return
        extra = {"gallery": self._name, "mib": warmed >> 20, "of_mib": whole >> 20, "room_mib": room >> 20}
        logger.info("gallery warmed", extra=extra | {"seconds": round(time.monotonic() - started, 3)})


def available_bytes(container: Path = CONTAINER) -> int:
    """Memory that can be had without swapping, of the machine and of its container's limit; 0 if unknown."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text("ascii").splitlines())
        available = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # no Linux
        return 0
    try:
        limit = int((container / "memory.max").read_text("ascii"))  # "max" where there is none
        used = int((container / "memory.current").read_text("ascii"))
        stat = dict(line.split() for line in (container / "memory.stat").read_text("ascii").splitlines())
        return max(0, min(available, limit - used + int(stat["active_file"]) + int(stat["inactive_file"])))
    except (OSError, KeyError, ValueError):
        return available


def _be_nice() -> None:
    """This thread alone; on Linux a thread has a priority of its own."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
