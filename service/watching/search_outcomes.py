"""What searches found, counted: whether there was a match, how sure, and what reranking moved."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

RANKS = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
PROBABILITIES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)


class Outcomes:
    """The counters of found matches.

    Args:
        registry: that the app exposes.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._searches = Counter(
            "threadmatch_searches",
            "searches answered, by gallery and outcome: match, no_match, or empty (nothing meets the conditions)",
            ["gallery", "outcome"],
            registry=registry,
        )
        self._winner = Histogram(
            "threadmatch_winner_stage1_rank",
            "place in the first stage's shortlist of the item that came first after reranking; 1: nothing moved",
            buckets=RANKS,
            registry=registry,
        )
        self._probability = Histogram(
            "threadmatch_winner_probability",
            "probability of the item that came first, where it is calibrated",
            buckets=PROBABILITIES,
            registry=registry,
        )

    def observe(
        self, outcome: str, *, gallery: str, stage1_rank: int | None = None, probability: float | None = None
    ) -> None:
        """Count one answered search.

        Args:
            outcome: match, no_match or empty.
            gallery: its name.
            stage1_rank: of the first match, where a further stage had its say.
            probability: of the first match, 0..1, where it is calibrated.
        """
        self._searches.labels(gallery, outcome).inc()
        if stage1_rank is not None:
            self._winner.observe(stage1_rank)
        if probability is not None:
            self._probability.observe(probability)
