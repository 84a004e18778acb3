"""How the failure run counts and judges, and a short form of it; the one of docs/cluster.md takes many minutes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.processes import ENVIRONMENT
from tests.support.serving import photo
from threadmatch.service.bench.balancing import Balancer, Known, Sent
from threadmatch.service.bench.cluster_clients import Asked, Call, Client, Own, Seen, judged, variant
from threadmatch.service.bench.cluster_failures import STEPS, Event, is_bad, summed, table
from threadmatch.service.bench.engines import free_port, lacking_milvus
from threadmatch.service.bench.ledger import State, Truth

EVENT: dict[str, Any] = {
    "name": "one", "calls": 3, "passed_over": 4, "unavailable": 1, "failed": 0, "wrong": 0, "recovered_s": 2.5,
    "stall_s": 1.0,
}  # fmt: skip
RESULT: dict[str, Any] = {
    "events": [EVENT], "searches": 9, "writes_answered": 7, "writes_lost": [], "faults": [],
    "moved": {"items": 5, "same": True, "seconds": 3.0},
}  # fmt: skip


def test_a_call_counts_for_the_failure_that_it_ended_after() -> None:
    calls = [
        Call("search", 9.0, 0.1, "failed"),  # before anything: nobody's
        Call("search", 10.5, 0.2, "done", 1),
        Call("write", 12.0, 1.5, "unavailable", 2),
        Call("search", 13.0, 0.1, "wrong"),
        Call("search", 20.0, 7.0, "done"),
    ]
    first, second = summed(calls, [Event("one", 10.0), Event("two", 20.0)])
    assert (first.calls, first.unavailable, first.wrong, first.failed, first.passed_over) == (3, 1, 1, 0, 3)
    assert (first.recovered_s, first.stall_s) == (3.0, 1.5)
    assert (second.calls, second.recovered_s, second.stall_s) == (1, 0.0, 7.0)


def test_the_table_names_what_was_lost_and_only_503_is_no_fault() -> None:
    assert "| one | 3 | 4 | 1 | 0 | 0 | 2.5 s | 1.0 s |" in table(RESULT)
    assert not is_bad(RESULT)
    told = table(RESULT | {"writes_lost": ["load-3"]})
    assert "7 writes were answered; 1 items are not as their last one says ['load-3']." in told
    for bad in (
        {"writes_lost": ["load-3"]},
        {"events": [EVENT | {"failed": 1}]},
        {"events": [EVENT | {"wrong": 1}]},
        {"faults": ["no replica answers"]},
        {"moved": {"items": 5, "same": False, "seconds": 3.0}},
    ):
        assert is_bad(RESULT | bad), bad


@pytest.mark.parametrize(
    ("status", "headers", "outcome"),
    [
        (200, {}, "done"),
        (201, {}, "done"),
        (503, {"Retry-After": "5"}, "unavailable"),
        (503, {}, "failed"),
        (500, {}, "failed"),
        (429, {"Retry-After": "5"}, "failed"),
        (404, {}, "wrong"),
    ],
)
def test_an_answer_is_judged_by_its_status(status: int, headers: dict[str, str], outcome: str) -> None:
    assert judged(Sent(httpx.Response(status, headers=headers, json={}), 0), lambda _: [])[0] == outcome
    if outcome == "done":
        assert judged(Sent(httpx.Response(status, json={}), 0), lambda _: ["it is another"])[0] == "wrong"


def test_where_nobody_answers_a_call_has_failed() -> None:
    assert judged(Sent(None, 3), lambda _: []) == ("failed", ["no replica answers"])


def test_a_client_sees_an_item_that_is_lost_stale_or_back() -> None:
    asked = Asked([photo(1)], [Truth({}, {}, [])], "dense")
    client = Client(0, Known(["127.0.0.1:1"]), asked, Seen(), seed=1)
    client.items = {"load-0-0": Own(0, 2, State.THERE), "load-0-1": Own(1, 0, State.GONE)}

    def faults(*matches: tuple[str, float, int]) -> list[str]:
        found = [{"id": item_id, "distance": far, "metadata": {"lot": lot}} for item_id, far, lot in matches]
        return client.faults_of_own("load-0-0", {"matches": found})

    assert faults(("load-0-0", 0.0, 2)) == []
    assert "is not found by its own photo" in faults(("item-1", 0.0, 2))[0]
    assert "is not found by its own photo" in faults(("load-0-0", 0.3, 2))[0]
    assert "is of lot 1, written was 2" in faults(("load-0-0", 0.0, 1))[0]
    assert "was deleted and is found" in faults(("load-0-0", 0.0, 2), ("load-0-1", 0.4, 0))[0]


def test_each_client_has_photos_of_its_own() -> None:
    assert variant(photo(1), "a") == variant(photo(1), "a") != variant(photo(1), "b")


@contextmanager
def replica(answer: Callable[[], int | None]) -> Iterator[str]:
    """A server that answers each request with a status, or breaks the connection."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = answer()
            if status is None:
                self.connection.close()
                return
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_the_balancer_asks_the_next_one_where_one_refuses_breaks_off_or_says_503() -> None:
    asked: list[str] = []

    def said(name: str, status: int | None) -> int | None:
        asked.append(name)
        return status

    with (
        replica(lambda: said("away", 503)) as away,
        replica(lambda: said("broken", None)) as broken,
        replica(lambda: said("well", 200)) as well,
    ):
        nobody = f"127.0.0.1:{free_port()}"
        balancer = Balancer(Known([away, broken, nobody, well]))
        sent = balancer.send("GET", "/")
        assert (sent.answer.status_code if sent.answer else None, sent.passed_over) == (200, 3)
        assert asked == ["away", "broken", "well"]
        assert balancer.send("GET", "/").passed_over == 0, "its turn is the broken one's, which is known to be down"
        balancer.close()
        balancer = Balancer(Known([away, nobody]))
        sent = balancer.send("GET", "/")
        assert (sent.answer.status_code if sent.answer else None, sent.passed_over) == (503, 1)
        balancer.close()
    balancer = Balancer(Known([nobody]))
    assert balancer.send("GET", "/") == Sent(None, 1)
    balancer.close()


@pytest.mark.cluster
@pytest.mark.skipif(bool(lacking_milvus()), reason=lacking_milvus())
def test_hosts_that_die_under_load_lose_nothing_and_answer_nothing_wrong(
    tmp_path: Path, tiny_model_folder: Path
) -> None:
    """Three hosts, in namespaces where they can be had: a master, a replica and a host die, a cable is pulled."""
    for number in range(12):
        (tmp_path / f"{number}.jpg").write_bytes(photo(number))
    out = tmp_path / "failures.json"
    command = [sys.executable, "-m", "threadmatch.service.bench.cluster_failures", "--short", "--out", str(out)]
    command += [
        "--photos",
        str(tmp_path),
        "--model",
        str(tiny_model_folder),
        "--only",
        "master",
        "replica",
        "host",
        "cut",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    result = json.loads(out.read_text("utf-8"))
    assert result["writes_lost"] == []
    assert result["writes_answered"] > 0
    assert len(result["events"]) == 4 < len(STEPS)
    assert result["moved"]["same"]
