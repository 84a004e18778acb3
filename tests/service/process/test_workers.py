"""Several workers: one that is killed is replaced, counters stay right, and none outlives the parent."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.support.processes import serving
from tests.support.serving import photo

WAIT_S = 240


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def samples(address: str, name: str) -> dict[str, float]:
    """Values of a metric by the worker's pid, "" where it has none."""
    families = text_string_to_metric_families(_metrics(address))
    found = (sample for family in families for sample in family.samples if sample.name == name)
    return {sample.labels.get("pid", ""): sample.value for sample in found}


def _metrics(address: str) -> str:
    """ "" where the worker that took the connection was killed with it."""
    try:
        return httpx.get(f"{address}/metrics", timeout=30).text
    except httpx.TransportError:
        return ""


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_a_killed_worker_is_replaced_and_none_outlives_the_parent(
    gallery_folder: Path, tiny_model_folder: Path
) -> None:
    options = ("--gallery", str(gallery_folder), "--model", str(tiny_model_folder), "--device", "cpu")
    with serving(*options, "--workers", "2") as (parent, address):

        def workers() -> set[int]:
            return {int(pid) for pid in samples(address, "threadmatch_worker_start_time_seconds")}

        def search() -> int:
            with httpx.Client(base_url=address, timeout=60) as client:
                return client.post("/search", files={"image": ("a.jpg", photo(1))}).status_code

        until(lambda: len(workers()) == 2, "both workers say that they run")
        first = workers()
        assert [search() for _ in range(4)] == [200] * 4
        assert set(samples(address, "threadmatch_worker_resident_bytes")) == {str(pid) for pid in first}

        victim = max(first)
        os.kill(victim, signal.SIGKILL)
        until(lambda: gone(victim), "the victim ends")
        assert [search() for _ in range(4)] == [200] * 4, "the other one goes on"
        until(lambda: len(workers() - {victim}) == 2, "a new worker takes the place")
        assert victim not in workers(), "a dead worker's gauges leave"
        assert samples(address, "threadmatch_winner_stage1_rank_count")[""] == 8.0, "what it counted stays"
        assert any('"a worker died and is replaced"' in line for line in parent.log)  # type: ignore[attr-defined]

        last = workers()
        parent.kill()
        parent.wait()
        until(lambda: all(gone(pid) for pid in last), "workers end with their parent")
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("127.0.0.1", int(address.rsplit(":", 1)[1])))
