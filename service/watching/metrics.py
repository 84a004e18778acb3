"""What the service counts about itself, in Prometheus' form.

With `--workers` above 1 each process writes its numbers into a shared folder (PROMETHEUS_MULTIPROC_DIR, set by
`threadmatch serve`), and whichever worker answers /metrics adds them up.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

from threadmatch.service.watching.engine_calls import EngineCalls
from threadmatch.service.watching.process_vitals import Vitals
from threadmatch.service.watching.search_outcomes import Outcomes

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class Waiting(Protocol):
    """A queue that says how many wait in it."""

    @property
    def name(self) -> str:
        """Of the stage behind it."""
        ...

    @property
    def waiting(self) -> int:
        """How many items wait now."""
        ...


class Metrics:
    """One set of counters an app; its own registry, so that a test may build many apps."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        here = self.registry
        self.requests = Counter(
            "threadmatch_http_requests", "requests answered", ["route", "method", "status"], registry=here
        )
        self.stage_seconds = self._by_stage("search_stage_seconds", "seconds of each stage of a search", SECONDS)
        self.model_seconds = self._by_stage("model_call_seconds", "seconds of one call of the model", SECONDS)
        self.batch_size = self._by_stage("model_batch_size", "photos or pairs in one call", SIZES)
        self.batch_requests = self._by_stage("model_batch_requests", "requests in one call", SIZES)
        self.model_failures = Counter(
            "threadmatch_model_failures", "calls of the model that failed", ["stage"], registry=here
        )
        self.rejects = Counter(
            "threadmatch_rejected_requests", "requests refused, by the name of the error", ["reason"], registry=here
        )
        self.waiting = Gauge(
            "threadmatch_queue_waiting",
            "items that wait for the model",
            ["stage"],
            multiprocess_mode="livesum",
            registry=here,
        )
        self.searches = Gauge(
            "threadmatch_searches_in_progress", "searches begun", multiprocess_mode="livesum", registry=here
        )
        self.outcomes = Outcomes(here)
        self.engine_calls = EngineCalls(here)
        self.vitals = Vitals(here)
        self.gallery_damaged = self._by_gallery("damaged_items", "items that searches could not read", "livemax")
        self.gallery_items = self._by_gallery("items", "items of the gallery in service", "livemax")
        self.gallery_generation = self._by_gallery(
            "generation", "number of the generation in service; 0 while there is none", "livemin"
        )
        self.gallery_refusals = self._by_gallery(
            "newer_refused", "1 while a newer generation cannot be taken", "livemax"
        )
        self.gallery_unfolded = self._by_gallery(
            "unfolded", "changed items that are searched beside the index", "livemax"
        )
        self.edits = Counter(
            "threadmatch_gallery_edits",
            "items put (created, replaced, unchanged) or deleted (deleted, absent), and edits refused",
            ["gallery", "outcome"],
            registry=here,
        )
        self.folds = Counter(
            "threadmatch_gallery_folds", "times changed items were folded into the index", ["gallery", "outcome"],
            registry=here,
        )  # fmt: skip
        self.ready = Gauge(
            "threadmatch_ready", "1 when the last readiness check passed", multiprocess_mode="livemin", registry=here
        )

    def _by_stage(self, name: str, meaning: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(f"threadmatch_{name}", meaning, ["stage"], buckets=buckets, registry=self.registry)

    def _by_gallery(self, name: str, meaning: str, mode: Literal["livemax", "livemin"]) -> Gauge:
        return Gauge(
            f"threadmatch_gallery_{name}", meaning, ["gallery"], multiprocess_mode=mode, registry=self.registry
        )

    def reject(self, reason: str) -> None:
        """Count a refusal by the name of its error, out of a bounded set."""
        self.rejects.labels(reason).inc()

    def observe_stages(self, timings_ms: dict[str, float]) -> None:
        """Record the stages of one search, milliseconds in, seconds out."""
        for stage, milliseconds in timings_ms.items():
            self.stage_seconds.labels(stage).observe(milliseconds / 1000)

    def observe_call(self, stage: str, weight: int, seconds: float, failed: bool, *, requests: int) -> None:
        """Record one call of the model."""
        if failed:
            self.model_failures.labels(stage).inc()
            return
        self.batch_size.labels(stage).observe(weight)
        self.batch_requests.labels(stage).observe(requests)
        self.model_seconds.labels(stage).observe(seconds)

    def observe_gallery(self, name: str, generation: str, items: int) -> None:
        """Record what is in service of a gallery."""
        self.gallery_generation.labels(name).set(int(generation) if generation.isdigit() else 0)
        self.gallery_items.labels(name).set(items)

    def observe_queues(self, *batchers: Waiting) -> None:
        """Record how many items wait, at the moment of a scrape."""
        for batcher in batchers:
            self.waiting.labels(batcher.name).set(batcher.waiting)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """The metrics as text and its content type, in the format the scraper asks for."""
        self.vitals.observe()
        registry = self.registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        encode, content_type = choose_encoder(accept)
        return encode(registry), content_type
