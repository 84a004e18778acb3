"""A process and all that it started, seen from outside: memory and processor time, where /proc tells."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def family(pid: int) -> list[int]:
    """The process, and all its descendants that live."""
    found = [pid]
    for member in found:
        for children in _read_all(Path(f"/proc/{member}/task").glob("*/children")):
            found.extend(int(child) for child in children.split())
    return found


def peak_kib(pid: int) -> int | None:
    """Highest resident memory of a process; None where that is not told."""
    for status in _read_all([Path(f"/proc/{pid}/status")]):
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return None


def processor_s(pid: int) -> float | None:
    """Seconds of processor time, user and system, of a process and its descendants; None where that is not told."""
    ticks = [sum(map(int, _fields(member)[11:13])) for member in family(pid) if _fields(member)]
    return sum(ticks) / os.sysconf("SC_CLK_TCK") if ticks else None


def _fields(pid: int) -> list[str]:
    """Of /proc/PID/stat behind the name, which may hold anything; empty where there is none."""
    return [field for stat in _read_all([Path(f"/proc/{pid}/stat")]) for field in stat.rpartition(")")[2].split()]


def _read_all(paths: Iterable[Path]) -> list[str]:
    """The files that can still be read: a process may end between two looks."""
    texts = []
    try:
        for path in paths:
            texts.append(path.read_text())
    except OSError:
        pass
    return texts
