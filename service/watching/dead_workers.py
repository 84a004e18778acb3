"""What dead workers counted, in one place: else each leaves files for ever, and every scrape reads them all."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from prometheus_client.mmap_dict import MmapedDict

KINDS: Final = ("counter", "histogram")
"""Kinds of metrics that outlive their process; the gauges of a dead one go."""
DEAD: Final = "dead"


def take_over(folder: Path, pid: int) -> None:
    """Add what a dead worker counted to what all dead ones did, and remove its files.

    A scrape that comes between the two last steps counts it twice, once; the other order would look like a reset.

    Args:
        folder: that the workers of one service share (PROMETHEUS_MULTIPROC_DIR).
        pid: of the worker, which has ended.
    """
    for kind in KINDS:
        own, all_dead = folder / f"{kind}_{pid}.db", folder / f"{kind}_{DEAD}.db"
        if not own.is_file():
            continue
        together = folder / f"{kind}_{DEAD}.new"
        together.unlink(missing_ok=True)
        sums = MmapedDict(str(together))  # type: ignore[no-untyped-call]
        try:
            for part in (all_dead, own):
                for key, value, timestamp, _ in _values(part):
                    before, _ = sums.read_value(key)  # type: ignore[no-untyped-call]
                    sums.write_value(key, before + value, timestamp)  # type: ignore[no-untyped-call]
        finally:
            sums.close()  # type: ignore[no-untyped-call]
        together.replace(all_dead)
        own.unlink()


def _values(path: Path) -> list[tuple[str, float, float, int]]:
    return list(MmapedDict.read_all_values_from_file(str(path))) if path.is_file() else []  # type: ignore[no-untyped-call]
