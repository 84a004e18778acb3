"""Calls to the engines of a cluster's galleries, counted. A gallery in a folder makes none, and these stay empty."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from threadmatch.indexer.cluster.calls import Engine, Kind, Outcome

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class EngineCalls:
    """What `indexer.cluster.calls.Calls` hears, as metrics.

    Args:
        registry: that the app exposes.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "threadmatch_cluster_call_seconds",
            "seconds of one call to an engine, tries and pauses included: store (read, write) or milvus (search, list, "
            "write, manage)",
            ["engine", "kind"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._failed = Counter(
            "threadmatch_cluster_calls_failed",
            "calls that an engine did not answer in time (unavailable) or refused",
            ["engine", "kind", "outcome"],
            registry=registry,
        )
        self._retries = Counter(
            "threadmatch_cluster_retries", "calls that were tried again", ["engine"], registry=registry
        )

    def ended(self, engine: Engine, kind: Kind, seconds: float, outcome: Outcome) -> None:
        """Count a call."""
        self._seconds.labels(engine, kind).observe(seconds)
        if outcome != "answered":
            self._failed.labels(engine, kind, outcome).inc()

    def retried(self, engine: Engine) -> None:
        """Count another try."""
        self._retries.labels(engine).inc()
