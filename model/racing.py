"""Timing several ways to do one thing in turns, so that a machine that slows down slows them all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

LEAST_ROUNDS: Final = 3


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds a call: the best and the median of `rounds` calls."""

    best_s: float
    median_s: float
    rounds: int


def race(contestants: Mapping[str, Callable[[], object]], *, seconds: float) -> dict[str, Timing]:
    """Call each in turn until the time is up; a first call of each, which warms it up, is not counted."""
    for call in contestants.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < LEAST_ROUNDS or time.perf_counter() < end:
        for name, call in contestants.items():
            started = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - started)
        rounds += 1
    return {name: Timing(min(taken), float(np.median(taken)), rounds) for name, taken in times.items()}
