"""How torch's threads wait for each other; must be said before torch is imported."""

from __future__ import annotations

import os

SPIN_COUNT = "3000"
"""Rounds that a thread of GNU OpenMP spins at a barrier before it sleeps; its own default is a hundred times more.
Alone reranking is as fast as with the default, beside other work several times faster (docs/results.md)."""


def let_waiting_threads_sleep() -> None:
    """Let OpenMP's threads spin briefly and then sleep, unless the environment says otherwise."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
