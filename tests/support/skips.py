"""What a run of the tests left out, in one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


def skipped_line(skips: Iterable[tuple[str, str]]) -> str:
    """One line about skipped tests.

    Args:
        skips: of each its file and its reason.

    Returns:
        Such as "skipped 3: 2 in tests/a.py (no browser here); 1 in tests/b.py (no GPU here)"; "skipped nothing".
    """
    counted = Counter(skips)
    if not counted:
        return "skipped nothing"
    parts = [f"{number} in {file} ({reason})" for (file, reason), number in sorted(counted.items())]
    return f"skipped {counted.total()}: {'; '.join(parts)}"
