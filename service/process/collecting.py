"""How often Python looks for circles of dead objects."""

from __future__ import annotations

import gc
from typing import Final

THRESHOLDS: Final = (10_000, 20, 20)
"""New objects after which the young are looked through, and how many times that after which the older ones are. A start
imports half a million objects that stay; with Python's own 700 a tenth of it goes into looking through them."""


def collect_seldom() -> None:
    """Let imports go undisturbed."""
    gc.set_threshold(*THRESHOLDS)
