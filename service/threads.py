"""How torch's threads wait for each other; must be said before torch is imported."""

from __future__ import annotations

import os


def let_waiting_threads_sleep() -> None:
    """Let OpenMP's threads sleep at a barrier instead of spinning, unless the environment says otherwise.

    Beside other work on the same cores spinning made reranking 5 to 12 times slower; docs/results.md has the figures.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
