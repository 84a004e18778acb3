"""Hours of moderate load: nothing lost, nothing wrong, and memory, descriptors and temporary files stay flat.

    python -m threadmatch.service.bench.soak --photos FOLDER --minutes 120 --workers 2

makes a gallery of the photos, serves it, and lets clients search, put, read and delete items at a moderate rate. In
turn, one thing every `EVERY_S` seconds: the catalogue is ingested again with a column changed, changes are folded, the
gallery is rolled back and forth, a worker is killed. Answers and acknowledged writes are checked as
`service.bench.load` checks them.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from threadmatch.service.bench.load import LoadOptions, kill_a_worker, run_load
from threadmatch.service.bench.siege import memory_of
from threadmatch.service.process.commands import Service, program, run_command

EVERY_S: Final = 20.0
SAMPLE_S: Final = 5.0
OWN_ITEMS: Final = 20
GROWTH: Final = 1.15
"""The last quarter's median may be so many times the second one's, beside what follows."""
SPARE: Final = {"memory_mib": 32.0, "descriptors": 16.0, "temporary_files": 4.0, "gallery_mib": 16.0}


@dataclass
class Watch:
    """What a service holds over time: a list of samples for each of `SPARE`."""

    samples: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in SPARE})

    def look(self, pid: int, gallery: Path) -> None:
        """Take one sample of a process, all below it, and what lies on the disk."""
        sizes = []
        for path in gallery.rglob("*"):
            with contextlib.suppress(OSError):  # removed meanwhile
                sizes.append(path.stat().st_size)
        found = {
            "memory_mib": memory_of(pid),
            "descriptors": float(descriptors_of(pid)),
            "temporary_files": float(sum(1 for folder in _temporary_of(pid) for _ in folder.rglob("*"))),
            "gallery_mib": sum(sizes) / 2**20,
        }
        for name, value in found.items():
            self.samples[name].append(round(value, 1))

    def faults(self) -> list[str]:
        """What has grown: the last quarter against the second; the first one warms up."""
        found = []
        for name, (early, late) in self.quarters().items():
            if late > GROWTH * early + SPARE[name]:
                found.append(f"{name} grew from {early:g} to {late:g}")
        return found

    def quarters(self) -> dict[str, tuple[float, float]]:
        """Medians of the second and of the last quarter of the time; what has too few samples is left out."""
        told = {}
        for name, values in self.samples.items():
            if (part := len(values) // 4) > 0:
                told[name] = (statistics.median(values[part : 2 * part]), statistics.median(values[-part:]))
        return told


def _temporary_of(pid: int) -> set[Path]:
    """Where a service keeps temporary files: the folder of such files, and that of its workers' counters."""
    found = {Path(os.environ["TMPDIR"])}
    with contextlib.suppress(OSError):  # a worker ended
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            for line in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
                if line.startswith(b"PROMETHEUS_MULTIPROC_DIR="):
                    found.add(Path(os.fsdecode(line.partition(b"=")[2])))
    return found


def descriptors_of(pid: int) -> int:
    """Open files of a process and all below it."""
    total = 0
    with contextlib.suppress(OSError):  # it ended
        total += len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208  names only
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(descriptors_of(int(child)) for child in (task / "children").read_text().split())
    return total


def write_catalogue(path: Path, photos: Sequence[Path], turn: int) -> Path:
    """Each photo an item; one column says which turn it is, so that an ingestion has something to publish."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "image", "turn"])
        writer.writerows([f"item-{number:05}", photo.name, turn] for number, photo in enumerate(photos))
    return path


@dataclass
class _Turns:
    """What happens in turn to a service that is soaked."""

    photos: Sequence[Path]
    model: str
    work: Path
    every_s: float
    watch: Watch = field(default_factory=Watch)

    def __call__(self, running: Service, folder: Path, options: LoadOptions) -> list[str]:
        told: list[str] = []
        ended = threading.Event()

        def sample() -> None:
            while not ended.wait(SAMPLE_S):
                self.watch.look(running.process.pid, folder)

        sampling = threading.Thread(target=sample)
        sampling.start()
        acts = self._acts(running, folder, options)
        until = time.monotonic() + options.seconds
        turn = 0
        try:
            while time.monotonic() + self.every_s < until:
                time.sleep(self.every_s)
                told.append(acts[turn % len(acts)](turn))
                turn += 1
            time.sleep(max(0.0, until - time.monotonic()))
        finally:
            ended.set()
            sampling.join()
        return told

    def _acts(self, running: Service, folder: Path, options: LoadOptions) -> list[Callable[[int], str]]:
        def ingest(turn: int) -> str:
            catalogue = write_catalogue(self.work / "soak.csv", self.photos, turn + 1)
            return _told("ingest", str(catalogue), "--gallery", str(folder), *_from(self.photos, self.model))

        acts = [
            ingest,
            lambda _: _told("gallery", "compact", str(folder), "--keep", "3"),
            ingest,
            lambda _: _told("gallery", "rollback", str(folder)),
        ]
        return [*acts, lambda _: kill_a_worker(running)] if options.workers > 1 else acts


@contextlib.contextmanager
def _own_temporary(folder: Path) -> Iterator[None]:
    """Let commands that begin meanwhile keep their temporary files there, where nobody else does."""
    folder.mkdir(exist_ok=True)
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(folder.absolute())
    try:
        yield
    finally:
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before


def _from(photos: Sequence[Path], model: str) -> list[str]:
    """Where an ingestion's photos lie, and its model."""
    return ["--images", str(photos[0].parent), *(["--model", model] if model else [])]


def _told(*arguments: str) -> str:
    """Run a command; what it was and its exit code, and the end of what it said where that is not 0."""
    done = subprocess.run([*program(), *arguments], capture_output=True, text=True, check=False)  # noqa: S603
    said = f": {done.stderr.strip()[-300:]}" if done.returncode else ""
    return (
        f"{' '.join(arguments[:2]) if arguments[0] == 'gallery' else arguments[0]}: exit code {done.returncode}{said}"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakOptions:
    """What to do.

    Fields:
        photos: JPEG files of one folder; each becomes an item, and the first eight are searched for and put.
        work: folder for gallery, copy and log; what a former run left there is replaced.
        model: name or folder; "" for the one shipped.
        seconds, clients, workers, seed: of the load.
        pause_s: between two requests of one client.
        every_s: between two things that happen.
    """

    photos: Sequence[Path]
    work: Path
    model: str = ""
    seconds: float = 7200.0
    clients: int = 4
    workers: int = 2
    seed: int = 7
    pause_s: float = 0.25
    every_s: float = EVERY_S


def run_soak(options: SoakOptions) -> dict[str, Any]:
    """Soak a service.

    Returns:
        JSON-ready: as of `run_load`, and `held` (medians of the second and the last quarter of the time) and `acts`.

    Raises:
        CommandError: the gallery cannot be made, or the service did not start.
    """
    gallery = options.work / "soak-gallery"
    catalogue = write_catalogue(options.work / "soak.csv", options.photos, 0)
    made = _from(options.photos, options.model)
    run_command(["ingest", str(catalogue), "--gallery", str(gallery), "--fresh", "--prune", *made])
    turns = _Turns(options.photos, options.model, options.work, options.every_s)
    load = LoadOptions(
        gallery=gallery, photos=[path.read_bytes() for path in options.photos[:8]], model=options.model,
        work=options.work, clients=options.clients, seconds=options.seconds, workers=options.workers,
        seed=options.seed, pause_s=options.pause_s, most_own=OWN_ITEMS,
    )  # fmt: skip
    with _own_temporary(options.work / "soak-tmp"):
        result = run_load(load, turns)
    acts: list[str] = result.pop("faults_made")
    failed = [act for act in acts if "exit code" in act and not act.endswith("exit code 0")]
    grown = turns.watch.faults()
    return result | {
        "passed": result["passed"] and not failed and not grown,
        "acts": len(acts),
        "acts_failed": failed,
        "grown": grown,
        "held": {name: {"early": early, "late": late} for name, (early, late) in turns.watch.quarters().items()},
    }


def soak(
    *,
    photos: Annotated[Path, typer.Option(help="Folder of photos (JPEG): the items, and what is searched for.")],
    minutes: Annotated[float, typer.Option(min=0.1)] = 120.0,
    clients: Annotated[int, typer.Option(min=1)] = 4,
    pause_s: Annotated[float, typer.Option(min=0, help="Between two requests of one client.")] = 0.25,
    workers: Annotated[int, typer.Option(min=1)] = 2,
    model: Annotated[str, typer.Option(help="Model name or folder; else the one shipped.")] = "",
    seed: Annotated[int, typer.Option(min=0)] = 7,
    work: Annotated[Path, typer.Option(help="Folder for gallery, copy and log.")] = Path("bench-data"),
) -> None:
    """Soak a service; JSON on stdout, exit code 1 where anything was lost, wrong, or grew."""
    work.mkdir(parents=True, exist_ok=True)
    files = sorted(photos.glob("*.jpg"))
    if not files:
        raise typer.BadParameter(f"{photos} holds no photos (*.jpg)")
    result = run_soak(
        SoakOptions(
            photos=files, work=work, model=model, seconds=60 * minutes, clients=clients, workers=workers, seed=seed,
            pause_s=pause_s,
        )
    )  # fmt: skip
    json.dump(result, sys.stdout, indent=2)
    sys.stdout.write("\n")
    raise typer.Exit(0 if result["passed"] else 1)


if __name__ == "__main__":
    typer.run(soak)
