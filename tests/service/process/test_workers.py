"""Several workers: one that is killed is replaced, counters stay right, and none outlives the parent."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.support.patience import PATIENCE_S, wait_until
from tests.support.processes import started
from tests.support.serving import photo
from threadmatch.service.bench.latency import wait_for_workers, workers_of


def samples(address: str, name: str) -> dict[str, float]:
    """Values of a metric by the worker's pid, "" where it has none."""
    families = text_string_to_metric_families(_metrics(address))
    found = (sample for family in families for sample in family.samples if sample.name == name)
    return {sample.labels.get("pid", ""): sample.value for sample in found}


def _metrics(address: str) -> str:
    """ "" where the worker that took the connection was killed with it."""
    try:
        return httpx.get(f"{address}/metrics", timeout=PATIENCE_S).text
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
    with started(*options, "--workers", "2") as (parent, address):

        def workers() -> set[int]:
            return {int(pid) for pid in samples(address, "threadmatch_worker_start_time_seconds")}

        def search() -> int:
            with httpx.Client(base_url=address, timeout=PATIENCE_S) as client:
                return client.post("/search", files={"image": ("a.jpg", photo(1))}).status_code

        wait_for_workers(address, 2)
        wait_until(lambda: len(workers()) == 2, "both workers say that they run", every_s=0.2)
        first = workers()
        assert set(workers_of(address)) == first
        assert [search() for _ in range(4)] == [200] * 4
        assert set(samples(address, "threadmatch_worker_resident_bytes")) == {str(pid) for pid in first}

        victim = max(first)
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: gone(victim), "the victim ends", every_s=0.2)
        assert [search() for _ in range(4)] == [200] * 4, "the other one goes on"
        wait_until(lambda: len(workers() - {victim}) == 2, "a new worker takes the place", every_s=0.2)
        assert victim not in workers(), "a dead worker's gauges leave"
        assert samples(address, "threadmatch_winner_stage1_rank_count")[""] == 8.0, "what it counted stays"
        assert any('"a worker died and is replaced"' in line for line in parent.log)

        last = workers()
        parent.process.kill()
        parent.process.wait()
        wait_until(lambda: all(gone(pid) for pid in last), "workers end with their parent", every_s=0.2)
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("127.0.0.1", int(address.rsplit(":", 1)[1])))
