"""How long the stages of a search take, for its answer and for its trace."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from threadmatch.service.watching import tracing


@contextlib.contextmanager
def timed(timings: dict[str, float], stage: str) -> Iterator[tracing.Span]:
    """Add what the block takes to the milliseconds of a stage, and make a span of it."""
    started = time.perf_counter()
    try:
        with tracing.span(stage) as span:
            yield span
    finally:
        timings[stage] = timings.get(stage, 0.0) + 1000 * (time.perf_counter() - started)
