"""Latency of POST /search with several clients at once, each asking again as soon as it was answered.

The clients are threads of this process, on the same cores as the service; each sends a body that was made before, over
a connection of the standard library's, so that they take little of the processor time. How much is measured too.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import threading
import time
import urllib.parse
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from threadmatch.service.bench.engines import until
from threadmatch.service.bench.processes import processor_s
from threadmatch.service.process.commands import CommandError, Service

TIMEOUT_S: Final = 120.0
WORKER_START: Final = "threadmatch_worker_start_time_seconds"
LEAST_SEARCHES: Final = 20
BOUNDARY: Final = "threadmatch-bench"
BATCHES: Final = "threadmatch_model_batch_requests"
WAYS: Final[dict[str, dict[str, str]]] = {
    "as asked": {},
    "box=none": {"box": "none"},
    "one vector": {"box": "none", "matcher": "global"},
}
"""What is asked in turns: a photo alone, whose garment is found; the chain over the whole photo; and a search with
one vector a photo."""
RERANKED: Final[dict[str, dict[str, str]]] = {"grnet": {"box": "none", "matcher": "grnet"}}
"""What is asked besides where a GPU reranks: the paper's graph over the whole shortlist, for models that have it."""
STAGES: Final[tuple[str, ...]] = ("decode", "encode", "shortlist", "gather", "rerank", "pick", "explain")
"""Parts of a search that lie beside each other; the matchers' own times are within rerank."""


@dataclass(frozen=True, slots=True)
class Latency:
    """What a number of clients saw.

    Fields:
        way: of WAYS or RERANKED.
        clients: asking at once.
        searches: answered in the time measured.
        searches_per_s: answered a second, all clients together.
        p50_ms, p95_ms, p99_ms: from the first byte sent to the last received.
        processor_ms: of the service with all its processes, user and system, by search; None where /proc does not tell.
        clients_ms: processor time of the clients by search.
        batches: mean number of photos or searches in one call, by queue in front of the model.
        stage_share: each stage's share of that time, 0..1, waiting for its turn included; "http" is what lies outside
            the stages: the transfer, the parsing of the form, the JSON.
    """

    way: str
    clients: int
    searches: int
    searches_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    processor_ms: float | None
    clients_ms: float
    batches: dict[str, float]
    stage_share: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Search:
    took_ms: float
    stages_ms: dict[str, float]


def measure_latency(
    running: Service,
    photos: list[bytes],
    *,
    clients: int,
    candidates: int,
    seconds: float,
    way: str = "as asked",
    least: int = LEAST_SEARCHES,
) -> Latency:
    """Load a service.

    Args:
        running: the service.
        photos: asked in turn.
        clients: threads, each with a connection of its own.
        candidates: of each search.
        seconds: how long; goes on until `least` searches are answered.
        way: of WAYS or RERANKED.
        least: how many searches at least, of all clients together.

    Raises:
        CommandError: a search was answered by something else than 200.
    """
    turn = itertools.count()
    lock = threading.Lock()
    found: list[_Search] = []
    bodies = [_body(photo, {"candidates": str(candidates), **(WAYS | RERANKED)[way]}) for photo in photos]
    with _connection(running.address) as connection:
        _search(connection, bodies[0])  # warms the path; not counted
    before = _Used.now(running)
    started = time.perf_counter()

    def client() -> None:
        with _connection(running.address) as connection:
            while time.perf_counter() < started + seconds or len(found) < least:
                one = _search(connection, bodies[next(turn) % len(bodies)])
                with lock:
                    found.append(one)

    with ThreadPoolExecutor(clients) as pool:
        for done in [pool.submit(client) for _ in range(clients)]:
            done.result()
    took_s = time.perf_counter() - started
    return _summary(found, way, clients, took_s, used=_Used.now(running).since(before))


def workers_of(address: str) -> list[int]:
    """Process ids of those of several workers that answer, or are about to; none where there is one."""
    text = httpx.get(f"{address}/metrics", timeout=TIMEOUT_S).text
    return [
        int(sample.labels["pid"])
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == WORKER_START
    ]


def wait_for_workers(address: str, count: int) -> None:
    """Until so many answer: a service is ready with the first, and the others' start takes a core from its searches.

    Raises:
        CommandError: they do not.
    """
    try:
        until(lambda: count == 1 or len(workers_of(address)) >= count, f"{count} workers that answer")
    except TimeoutError as error:
        raise CommandError(str(error)) from error


@dataclass(frozen=True, slots=True)
class _Used:
    """Seconds of processor time of the service and of this process, and (calls, items in them) by queue."""

    service_s: float | None
    own_s: float
    calls: Mapping[str, tuple[float, float]]

    @classmethod
    def now(cls, running: Service) -> _Used:
        text = httpx.get(f"{running.address}/metrics", timeout=TIMEOUT_S).text
        values = {
            (sample.name.removeprefix(BATCHES), sample.labels["stage"]): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name in (f"{BATCHES}_count", f"{BATCHES}_sum")
        }
        calls = {stage: (values["_count", stage], values["_sum", stage]) for name, stage in values if name == "_sum"}
        return cls(processor_s(running.process.pid), time.process_time(), calls)

    def since(self, before: _Used) -> _Used:
        calls = {}
        for stage, (count, items) in self.calls.items():
            former = before.calls.get(stage, (0.0, 0.0))
            if count > former[0]:
                calls[stage] = (count - former[0], items - former[1])
        spent = None if self.service_s is None or before.service_s is None else self.service_s - before.service_s
        return _Used(spent, self.own_s - before.own_s, calls)


def _connection(address: str) -> contextlib.closing[http.client.HTTPConnection]:
    parts = urllib.parse.urlsplit(address)
    assert parts.hostname is not None, "the service says where it is"
    return contextlib.closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S))


def _body(photo: bytes, fields: Mapping[str, str]) -> bytes:
    """A form with the photo as its file."""
    texts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="p.jpg"\r\n\r\n'
    return "".join((*texts, head)).encode() + photo + f"\r\n--{BOUNDARY}--\r\n".encode()


def _search(connection: http.client.HTTPConnection, body: bytes) -> _Search:
    started = time.perf_counter()
    connection.request("POST", "/search", body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"})
    response = connection.getresponse()
    answer = response.read()
    took_ms = (time.perf_counter() - started) * 1000
    if response.status != http.client.OK:
        raise CommandError(f"POST /search answered {response.status}: {answer[:500].decode(errors='replace')}")
    return _Search(took_ms, json.loads(answer)["timings_ms"])


def _summary(found: list[_Search], way: str, clients: int, seconds: float, *, used: _Used) -> Latency:
    took = np.array([search.took_ms for search in found])
    p50, p95, p99 = (round(float(value), 1) for value in np.percentile(took, [50, 95, 99]))
    stages = [stage for stage in STAGES if stage in found[0].stages_ms]
    share = {stage: sum(search.stages_ms.get(stage, 0.0) for search in found) / float(took.sum()) for stage in stages}
    share["http"] = max(0.0, 1 - sum(share.values()))
    return Latency(
        way=way,
        clients=clients,
        searches=len(found),
        searches_per_s=round(len(found) / seconds, 2),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        processor_ms=None if used.service_s is None else round(1000 * used.service_s / len(found), 1),
        clients_ms=round(1000 * used.own_s / len(found), 1),
        batches={stage: round(items / count, 1) for stage, (count, items) in used.calls.items()},
        stage_share={stage: round(value, 3) for stage, value in share.items()},
    )
