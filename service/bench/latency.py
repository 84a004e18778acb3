"""Latency of POST /search with several clients at once, each asking again as soon as it was answered."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import httpx
import numpy as np

from threadmatch.service.process.commands import CommandError

TIMEOUT_S: Final = 120.0
LEAST_SEARCHES: Final = 20
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
    stage_share: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Search:
    took_ms: float
    stages_ms: dict[str, float]


def measure_latency(
    address: str, photos: list[bytes], *, clients: int, candidates: int, seconds: float, way: str = "as asked"
) -> Latency:
    """Load a service.

    Args:
        address: of the service.
        photos: asked in turn.
        clients: threads, each with a connection of its own.
        candidates: of each search.
        seconds: how long; goes on until at least LEAST_SEARCHES are answered.
        way: of WAYS or RERANKED.

    Raises:
        CommandError: a search was answered by something else than 200.
    """
    turn = itertools.count()
    lock = threading.Lock()
    found: list[_Search] = []
    fields = {"candidates": str(candidates), **(WAYS | RERANKED)[way]}
    _search_once(address, photos, fields)
    started = time.perf_counter()

    def client() -> None:
        with httpx.Client(base_url=address, timeout=TIMEOUT_S) as connection:
            while time.perf_counter() < started + seconds or len(found) < LEAST_SEARCHES:
                one = _search(connection, photos[next(turn) % len(photos)], fields)
                with lock:
                    found.append(one)

    with ThreadPoolExecutor(clients) as pool:
        for done in [pool.submit(client) for _ in range(clients)]:
            done.result()
    return _summary(found, way, clients, time.perf_counter() - started)


def _search_once(address: str, photos: list[bytes], fields: dict[str, str]) -> None:
    """Warm the path; not counted."""
    with httpx.Client(base_url=address, timeout=TIMEOUT_S) as connection:
        _search(connection, photos[0], fields)


def _search(connection: httpx.Client, photo: bytes, fields: dict[str, str]) -> _Search:
    started = time.perf_counter()
    response = connection.post("/search", files={"image": ("p.jpg", photo)}, data=fields)
    took_ms = (time.perf_counter() - started) * 1000
    if response.status_code != httpx.codes.OK:
        raise CommandError(f"POST /search answered {response.status_code}: {response.text[:500]}")
    return _Search(took_ms, response.json()["timings_ms"])


def _summary(found: list[_Search], way: str, clients: int, seconds: float) -> Latency:
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
        stage_share={stage: round(value, 3) for stage, value in share.items()},
    )
