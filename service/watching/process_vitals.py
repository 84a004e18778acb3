"""What a process says about itself: memory, processor time, when it began. One series a worker, named by its pid.

prometheus_client's own process metrics know one process only; with several workers they would be those of whichever
worker answers.
"""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge

_PAGE_BYTES = resource.getpagesize()


class Vitals:
    """The gauges of this process; `observe` brings them up to date.

    Args:
        registry: that the app exposes.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._resident = Gauge(
            "threadmatch_worker_resident_bytes",
            "memory of a worker, shared pages included",
            multiprocess_mode="liveall",
            registry=registry,
        )
        self._files = Gauge(
            "threadmatch_worker_open_files",
            "open files and connections of a worker",
            multiprocess_mode="liveall",
            registry=registry,
        )
        self._started = Gauge(
            "threadmatch_worker_start_time_seconds",
            "when a worker started, seconds since 1970",
            multiprocess_mode="liveall",
            registry=registry,
        )
        self._cpu = Counter(
            "threadmatch_worker_cpu_seconds", "processor time of all workers, dead ones included", registry=registry
        )
        self._cpu_seen = 0.0
        self._started.set(time.time())
        self.observe()

    def observe(self) -> None:
        """Read them now. Cheap; called at every look for a newer gallery and at every scrape."""
        used = sum(os.times()[:2])
        self._cpu.inc(max(0.0, used - self._cpu_seen))
        self._cpu_seen = used
        try:
            self._resident.set(int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES)
            self._files.set(len(os.listdir("/proc/self/fd")))  # noqa: PTH208  a folder that changes while it is read
        except OSError:
            pass  # not Linux
