"""Counters of workers that died: kept, in one file, and added up as before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from threadmatch.service.watching.dead_workers import take_over

WORKER = """
import os
from prometheus_client import Counter, Histogram
Counter("asked", "requests", ["status"]).labels("200").inc(3)
Histogram("seconds", "of each", buckets=(1, 2)).observe(1.5)
print(os.getpid())
"""


def dead_worker(folder: Path) -> int:
    """A process that counts and ends; its number."""
    done = subprocess.run(
        [sys.executable, "-c", WORKER], env={"PROMETHEUS_MULTIPROC_DIR": str(folder)}, capture_output=True, check=True
    )
    return int(done.stdout)


def counted(folder: Path) -> dict[str, float]:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(folder))  # type: ignore[no-untyped-call]
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for metric in registry.collect()
        for sample in metric.samples
    }


def test_what_dead_workers_counted_is_kept_in_one_file_of_each_kind(tmp_path: Path) -> None:
    pids = [dead_worker(tmp_path) for _ in range(3)]
    before = counted(tmp_path)
    assert before["asked_total[('status', '200')]"] == 9
    assert before["seconds_count[]"] == 3
    for pid in pids:
        take_over(tmp_path, pid)
        assert counted(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["counter_dead.db", "histogram_dead.db"]
    take_over(tmp_path, 1)  # one that counted nothing
    assert counted(tmp_path) == before
