"""Pace and memory of an ingestion, measured on the command itself from outside."""

from __future__ import annotations

import csv
import json
import subprocess
import threading
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from threadmatch.service.bench.processes import family, peak_kib
from threadmatch.service.process.commands import CommandError, program

SAMPLE_S: Final = 0.1
KIB_PER_MIB: Final = 1024


@dataclass(frozen=True, slots=True)
class IngestionSpeed:
    """One ingestion of drawn garments into an empty gallery.

    Fields:
        items: in the gallery afterwards.
        seconds: of the whole command, start and index included.
        images_per_second: as the command says.
        main_peak_mib: highest resident memory of the process that runs the model; None where /proc does not tell.
        workers_peak_mib: the same of its decoding processes, each at its highest, added up.
    """

    items: int
    seconds: float
    images_per_second: float
    main_peak_mib: int | None
    workers_peak_mib: int | None


def first_rows(catalogue: Path, rows: int, out: Path) -> Path:
    """A catalogue of the first rows of another one."""
    with catalogue.open(newline="", encoding="utf-8") as source, out.open("w", newline="", encoding="utf-8") as target:
        csv.writer(target).writerows(islice(csv.reader(source), rows + 1))
    return out


def measure_ingestion(arguments: list[str]) -> IngestionSpeed:
    """Run `threadmatch ingest ... --json` and watch its memory.

    Args:
        arguments: of `threadmatch`, beginning with "ingest".

    Raises:
        CommandError: it failed.
    """
    process = subprocess.Popen(  # noqa: S603 - our own command
        [*program(), *arguments, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    peaks: dict[int, int] = {}
    ended = threading.Event()
    watch = threading.Thread(target=_watch, args=(process.pid, peaks, ended), daemon=True)
    watch.start()
    try:
        stdout, stderr = process.communicate()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        ended.set()
        watch.join()
    if process.returncode:
        raise CommandError(f"`threadmatch ingest` ended with exit code {process.returncode}: {stderr[-1000:]}")
    result: dict[str, Any] = json.loads(stdout)
    main = peaks.pop(process.pid, None)
    return IngestionSpeed(
        items=result["items"],
        seconds=result["seconds"],
        images_per_second=result["images_per_second"],
        main_peak_mib=main and main // KIB_PER_MIB,
        workers_peak_mib=sum(peaks.values()) // KIB_PER_MIB if main else None,
    )


def _watch(pid: int, peaks: dict[int, int], ended: threading.Event) -> None:
    """Keep the highest resident size of a process and all its descendants, KiB."""
    while not ended.wait(SAMPLE_S):
        for member in family(pid):
            peak = peak_kib(member)
            if peak is not None:
                peaks[member] = max(peak, peaks.get(member, 0))
