"""One client shuts nobody out: attacks on a real `threadmatch serve`, and what a bystander notices of them.

    python -m threadmatch.service.bench.siege --gallery DIR --photos FOLDER --seconds 30

The bystander searches all the while: first in quiet, then under each attack, then under all of them together, against
one worker process and two, without keys and with them. Its median has to stay within `MEDIAN_TIMES` its quiet one plus
`MEDIAN_PLUS_S`, its worst within `WORST_S`, and it is never refused for what another client does. Attacker and
bystander have an address each, and a key each where the service asks for keys.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import httpx
import typer

from threadmatch.service.access.keys import add_key
from threadmatch.service.bench.hostile_files import FAR_FETCHED
from threadmatch.service.bench.siege_attacks import ALL, LARGE_SIDE_PX, Attacker, Target
from threadmatch.service.process.commands import service

MEDIAN_TIMES: Final = 2.0
MEDIAN_PLUS_S: Final = 0.5
WORST_S: Final = 3.0
ATTACKER: Final = "127.0.0.2"
"""The bystander comes from 127.0.0.1; on Linux all of 127.0.0.0/8 is this machine."""
QUIET: Final = "quiet"
BEGIN_S: Final = 2.0
"""From the beginning of an attack to the bystander's first search that counts."""
PAUSE_S: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class SiegeOptions:
    """What to do.

    Fields:
        gallery: folder; it is copied.
        photos: JPEG files' bytes for the bystander.
        work: folder for the copy, keys and logs.
        model: name or folder; "" for the gallery's own.
        seconds: of each attack, and of the quiet before.
        least: searches of the bystander in each.
        workers, with_keys: configurations of the service, all pairs of them.
        only: names of attacks; empty takes each alone and then all at once.
        kinds: far-fetched files that are made and sent.
        side_px: of the large photos.
    """

    gallery: Path
    photos: Sequence[bytes]
    work: Path
    model: str = ""
    seconds: float = 30.0
    least: int = 5
    workers: tuple[int, ...] = (1, 2)
    with_keys: tuple[bool, ...] = (False, True)
    only: tuple[str, ...] = ()
    kinds: int = len(FAR_FETCHED)
    side_px: int = LARGE_SIDE_PX


@dataclass
class Row:
    """What the bystander noticed of one attack."""

    attack: str
    workers: int
    with_keys: bool
    searches: int
    median_s: float
    worst_s: float
    refused: dict[str, int]
    memory_mib: float
    attacker_saw: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def run_siege(options: SiegeOptions, say: Callable[[Row], object] = lambda _: None) -> dict[str, Any]:
    """Attack each configuration.

    Args:
        options: what to do.
        say: called with each row as soon as it is there.

    Returns:
        JSON-ready: `passed` and the bystander's table.

    Raises:
        CommandError: the service did not start.
    """
    rows: list[Row] = []
    for workers in options.workers:
        for with_keys in options.with_keys:
            for row in _besiege(options, workers, with_keys):
                say(row)
                rows.append(row)
    return {"passed": not any(row.faults for row in rows), "rows": [asdict(row) for row in rows]}


def table(result: dict[str, Any]) -> str:
    """The bystander's table as text."""
    lines = [f"{'attack':22} {'workers':>7} {'keys':>5} {'n':>5} {'median':>8} {'worst':>8} {'refused':>8} {'MiB':>7}"]
    for row in result["rows"]:
        lines.append(
            f"{row['attack']:22} {row['workers']:>7} {'yes' if row['with_keys'] else 'no':>5} {row['searches']:>5} "
            f"{row['median_s']:>7.2f}s {row['worst_s']:>7.2f}s {sum(row['refused'].values()):>8} "
            f"{row['memory_mib']:>7.0f}"
            f"{'  ' + '; '.join(row['faults']) if row['faults'] else ''}"
        )
    return "\n".join(lines)


def _besiege(options: SiegeOptions, workers: int, with_keys: bool) -> Iterator[Row]:
    """The rows of one configuration."""
    folder = options.work / "siege-gallery"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(options.gallery, folder)
    arguments = ["serve", "--gallery", str(folder), "--port", "0", "--workers", str(workers)]
    arguments += ["--model", options.model] if options.model else []
    mine = theirs = ""
    if with_keys:
        keys = options.work / "siege-keys.json"
        keys.unlink(missing_ok=True)
        mine, _ = add_key(keys, role="search", galleries=("*",), label="bystander")
        theirs, _ = add_key(keys, role="write", galleries=("*",), label="attacker")
        arguments += ["--keys", str(keys)]
    with service(arguments, options.work / f"siege-{workers}-{with_keys}.log") as running:
        where = urlsplit(running.address)
        assert where.hostname is not None
        assert where.port is not None
        target = Target(where.hostname, where.port, ATTACKER, theirs)
        attacker = Attacker(target, with_keys=with_keys, kinds=options.kinds, side_px=options.side_px)
        try:
            watch = _Bystander(running.address, mine, options, running.process.pid)
            watch.searches(QUIET, workers, with_keys)  # the first ones are slow; not counted
            quiet = watch.searches(QUIET, workers, with_keys)
            yield quiet
            for name in options.only or (*attacker.names, ALL):
                if name not in (*attacker.names, ALL):
                    continue  # one that only a service with keys is open to
                attacker.begin(name)
                time.sleep(BEGIN_S)
                row = watch.searches(name, workers, with_keys)
                row.attacker_saw = attacker.end()
                row.faults = _faults(row, quiet)
                yield row
        finally:
            attacker.close()


class _Bystander:
    """A client that searches, one photo at a time."""

    def __init__(self, address: str, key: str, options: SiegeOptions, pid: int) -> None:
        self._address, self._options, self._pid = address, options, pid
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def searches(self, attack: str, workers: int, with_keys: bool) -> Row:
        """Search for as long as an attack lasts."""
        took: list[float] = []
        refused: dict[str, int] = {}
        memory_mib = 0.0
        until = time.monotonic() + self._options.seconds
        # A connection each: with several workers any of them may get it. The client is one: making it takes 30 ms.
        single = httpx.Limits(max_keepalive_connections=0)
        with httpx.Client(headers=self._headers, limits=single, timeout=120, trust_env=False) as client:
            while time.monotonic() < until or len(took) < self._options.least:
                photo = self._options.photos[len(took) % len(self._options.photos)]
                started = time.monotonic()
                try:
                    answer = client.post(f"{self._address}/v1/search", files={"image": ("a.jpg", photo)})
                    status = str(answer.status_code)
                except httpx.TransportError as error:
                    status = type(error).__name__
                took.append(time.monotonic() - started)
                if status != "200":
                    refused[status] = refused.get(status, 0) + 1
                memory_mib = max(memory_mib, memory_of(self._pid))
                time.sleep(PAUSE_S)
        median_s, worst_s = round(statistics.median(took), 3), round(max(took), 3)
        return Row(attack, workers, with_keys, len(took), median_s, worst_s, refused, memory_mib)


def memory_of(pid: int) -> float:
    """Memory of a process and all below it in MiB, shared pages counted in proportion."""
    total = 0.0
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(memory_of(int(child)) for child in (task / "children").read_text().split())
    return round(total, 1)


def _faults(row: Row, quiet: Row) -> list[str]:
    """What the bystander has to complain of."""
    found = []
    if row.refused:
        found.append(f"refused: {row.refused}")
    if row.median_s > (most := MEDIAN_TIMES * quiet.median_s + MEDIAN_PLUS_S):
        found.append(f"median {row.median_s:.2f} s, at most {most:.2f}")
    if row.worst_s > WORST_S:
        found.append(f"worst {row.worst_s:.2f} s, at most {WORST_S:g}")
    two = [answer for answer in row.attacker_saw if answer.startswith("two lengths: ")]
    smuggled = [answer for answer in two if "400, 1 answers" not in answer and "0 answers" not in answer]
    if smuggled:
        found.append(f"a body of two lengths: {smuggled}")
    return found


def _photos(folder: Path) -> list[bytes]:
    """A few photos for the bystander; typer.BadParameter where the folder has none."""
    found = [path.read_bytes() for path in sorted(folder.rglob("*.jpg"))[:8]]
    if not found:
        raise typer.BadParameter(f"{folder} holds no .jpg", param_hint="--photos")
    return found


def siege(
    *,
    gallery: Annotated[Path, typer.Option(help="Folder of a gallery; it is copied.")],
    photos: Annotated[Path, typer.Option(help="Folder of photos to search for (JPEG).")],
    seconds: Annotated[float, typer.Option(min=1, help="Of each attack.")] = 30.0,
    workers: Annotated[str, typer.Option(help="How many worker processes, in turn.")] = "1,2",
    keys: Annotated[str, typer.Option(help="no, yes, or both in turn.")] = "no,yes",
    only: Annotated[list[str] | None, typer.Option(help=f"An attack, or {ALL!r}; give it once for each.")] = None,
    model: Annotated[str, typer.Option(help="Model name or folder; else the gallery's own.")] = "",
    work: Annotated[Path, typer.Option(help="Folder for the copy, keys and logs.")] = Path("bench-data"),
    as_json: Annotated[bool, typer.Option("--json", help="The result as JSON on stdout.")] = False,
) -> None:
    """Attack a service; the bystander's table on stdout, exit code 1 where the bystander was shut out or slowed."""
    work.mkdir(parents=True, exist_ok=True)
    result = run_siege(
        SiegeOptions(
            gallery=gallery,
            photos=[path.read_bytes() for path in sorted(photos.rglob("*.jpg"))[:8]],
            work=work,
            model=model,
            seconds=seconds,
            workers=tuple(int(count) for count in workers.split(",")),
            with_keys=tuple(given.strip() == "yes" for given in keys.split(",")),
            only=tuple(only or ()),
        ),
        lambda row: sys.stderr.write(f"{row.attack}: median {row.median_s:.2f} s, worst {row.worst_s:.2f} s\n"),
    )
    sys.stdout.write((json.dumps(result, indent=2) if as_json else table(result)) + "\n")
    raise typer.Exit(0 if result["passed"] else 1)


if __name__ == "__main__":
    typer.run(siege)
