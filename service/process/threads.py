"""How threads of the libraries that compute wait for work; must be said before torch and numpy are imported."""

from __future__ import annotations

import os
from typing import Final

SPIN_COUNT: Final = "3000"
"""Rounds that a thread of GNU OpenMP spins at a barrier before it sleeps; its own default is a hundred times more.
Alone reranking is as fast as with the default, beside other work several times faster (docs/results.md)."""
BLAS_TIMEOUT: Final = "10"
"""Binary logarithm of the clock ticks for which a thread of OpenBLAS, with which numpy multiplies, spins for more work
before it sleeps. As numpy is built it spins for 2^28 of them, a tenth of a second: after an exact index of some
thousand items was compared with a photo, it took a core from the encoding of the next (docs/results.md)."""
CV_THREADS: Final = "1"
"""OpenCV's, which spin between two filters of one photo; where many photos are worked on, threads of ours share them.
Comparing two display photos takes as long by the clock with two as with one, and half as much more processor time."""


def let_waiting_threads_sleep() -> None:
    """Let threads spin briefly and then sleep, unless the environment says otherwise."""
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", BLAS_TIMEOUT)
    os.environ.setdefault("OPENCV_FOR_THREADS_NUM", CV_THREADS)
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
