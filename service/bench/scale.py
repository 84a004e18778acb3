"""What a gallery costs at ten thousand, a hundred thousand and a million items, less the encoding of the photo.

    python -m threadmatch.service.bench.scale --items 10000,100000,1000000 --folder BIG_DISK --markdown

Makes galleries (`service.bench.scale_gallery`), publishes one per cent more, then opens each twice in a process of its
own and measures the steps of a search as the service takes them, those of the model that ships (its dense match and its
graph) among them: medians of ROUNDS searches, one at a time, of processor time on one core, in which other work on the
machine hardly shows. Cold: the gallery's files have left the page cache before it is opened, as
after a restart of the machine, and each search is another one; how long it waits for the disk is by the clock. Warm:
all files are read first, as `serve` does where there is room, and each search was made once before. Publishing and
opening are by the clock. Galleries are removed again, unless `--keep`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from threadmatch.indexer.index import VectorIndex, Vectors
from threadmatch.indexer.index_building import sample_queries
from threadmatch.indexer.reading.duplicates import Duplicates, Verdicts
from threadmatch.indexer.reading.gallery import Candidate, Gallery, Item, Snapshot
from threadmatch.indexer.store import generations
from threadmatch.indexer.store.database import DATABASE
from threadmatch.model.chain import Ranking
from threadmatch.model.features import CELLS
from threadmatch.model.inference import Model, load_model
from threadmatch.model.matching import Items, Photo, Told, tell_many
from threadmatch.service.bench.scale_gallery import SHARES, add_items, put_items
from threadmatch.service.search.gathering import in_one_go

ROUNDS: Final = 40
CANDIDATES: Final = 200
EDITS: Final = 1000
MORE_SHARE: Final = 0.01
FILTER_SHARES: Final = (0.001, 0.1, 0.9)
LINE_EVERY_S: Final = 20.0

STEPS: Final = {
    "shortlist": "shortlist of 200",
    "gather": "gathering cells",
    "metadata": "metadata",
    "rank": "matching 200 and reranking",
    "duplicates": "near-duplicates",
    "search": "a search less its encoding",
}
"""Of a search, and their words; the last is all the others together."""

ROWS: Final[tuple[tuple[str, str, str], ...]] = (
    ("write_s", "items written, s", ".0f"),
    ("publish_s", "published, s", ".1f"),
    ("more_publish_s", "1 % more published, s", ".1f"),
    ("index", "index", ""),
    ("open_s", "opened, cold, s", ".2f"),
    ("private_mb", "memory of one process, MB", ".0f"),
    ("shared_mb", "mapped beside it, shared, MB", ".0f"),
    ("bytes_item", "disk an item, bytes", ".0f"),
    ("side_bytes_item", "of it side files", ".0f"),
    ("index_bytes_item", "of it the index", ".0f"),
    *(
        (f"{state}{step}{clock}_ms", f"{words}, {state[:-1]}, ms{' by the clock' if clock else ''}", ".2f")
        for state, clock in (("cold_", "_clock"), ("cold_", ""), ("warm_", ""))
        for step, words in STEPS.items()
    ),
    *(
        row
        for share in FILTER_SHARES
        for row in (
            (f"filter_{share}_new_ms", f"filter of {share:.1%}, met first, ms", ".1f"),
            (f"filter_{share}_ms", "shortlist with it again, ms", ".2f"),
        )
    ),
    ("edits_a_second", "edits a second, 32 a commit", ".0f"),
    ("edits_shortlist_ms", f"shortlist with {EDITS} edits beside, ms", ".2f"),
)
"""Keys of a result, their words, and how they are written."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--items", default="10000,100000", help="sizes of galleries, with commas")
    parser.add_argument("--folder", type=Path, help="where to make them; a temporary folder by default")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--keep", action="store_true", help="leave the galleries")
    parser.add_argument("--no-pictures", action="store_true", help="photos that are none: comparing is not measured")
    parser.add_argument("--probe", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--cold", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.probe:
        json.dump(probe_cold(options.probe) if options.cold else probe_warm(options.probe), sys.stdout)
        return
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
    results = {}
    for items in (int(text) for text in options.items.split(",")):
        root = Path(tempfile.mkdtemp(prefix=f"scale-{items}-", dir=options.folder))
        try:
            results[items] = measure(root / "gallery", items, pictures=not options.no_pictures)
            sys.stderr.write(json.dumps({items: results[items]}) + "\n")
        finally:
            if not options.keep:
                shutil.rmtree(root)
    sys.stdout.write(table(results, markdown=options.markdown))


def measure(folder: Path, items: int, *, pictures: bool = True) -> dict[str, Any]:
    """Make a gallery of this size and measure it."""
    before = os.getloadavg()[0]
    told = _Told()
    started = time.perf_counter()
    _, publish_s = add_items(folder, 0, items, told, pictures=pictures)
    result: dict[str, Any] = {"write_s": time.perf_counter() - started - publish_s, "publish_s": publish_s}
    result["stages_s"] = dict(told.seconds)
    more, result["more_publish_s"] = add_items(folder, items, max(1, int(MORE_SHARE * items)), told, pictures=pictures)
    result["index"] = more.index.type
    sizes = {path: path.stat().st_size for path in _newest(folder)}
    count = more.items
    result["bytes_item"] = (sum(sizes.values()) + (folder / DATABASE).stat().st_size) / count
    result["index_bytes_item"] = sum(size for path, size in sizes.items() if path.suffix == ".faiss") / count
    result["side_bytes_item"] = sum(size for path, size in sizes.items() if path.suffix == ".rows") / count
    result |= measure_searches(folder)
    result["load"] = (round(before, 1), round(os.getloadavg()[0], 1))
    return result


def measure_searches(folder: Path) -> dict[str, Any]:
    """Both probes of a gallery that is there, each in a process of its own."""
    command = [sys.executable, "-m", "threadmatch.service.bench.scale", "--probe", str(folder)]
    one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # waiting threads count as processor time
    result: dict[str, Any] = {}
    _forget(folder)
    for also in (["--cold"], []):
        probed = subprocess.run([*command, *also], check=True, capture_output=True, text=True, env=os.environ | one)  # noqa: S603
        result |= json.loads(probed.stdout)
    return result


def _forget(folder: Path) -> None:
    """Have the kernel drop a gallery's files from memory; no process has them open."""
    for path in (folder / DATABASE, *_newest(folder)):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class _Told:
    """Prints how far it is now and then, and keeps the seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._stage, self._since, self._line = "", time.perf_counter(), float("-inf")

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        now = time.perf_counter()
        self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._since
        self._stage, self._since = stage, now
        if now - self._line > LINE_EVERY_S:
            self._line = now
            sys.stderr.write(f"{stage}: {done} of {total} {note}\n")


def _newest(folder: Path) -> Iterator[Path]:
    yield from generations.generation_folder(folder, str(generations.current_name(folder))).iterdir()


def probe_cold(folder: Path) -> dict[str, Any]:
    """Open a gallery and measure searches of which none was made before, in this process alone."""
    model = _model()
    started = time.perf_counter()
    gallery = Gallery.open(folder)
    result: dict[str, Any] = {"open_s": time.perf_counter() - started}
    taken = _searches(gallery, _queries(folder, gallery), model)
    result |= {f"cold_{step}_ms": processor for step, (processor, _) in taken.items()}
    return result | {f"cold_{step}_clock_ms": clock for step, (_, clock) in taken.items()}


def probe_warm(folder: Path) -> dict[str, Any]:
    """Bring a gallery into memory and measure searches that were made before, filters and edits."""
    model = _model()
    before = _memory()
    gallery = Gallery.open(folder)
    gallery.warm(sys.maxsize, lambda: False)
    queries = _queries(folder, gallery)
    snapshot = gallery.current
    _searches(gallery, queries, model)
    result = {f"warm_{step}_ms": processor for step, (processor, _) in _searches(gallery, queries, model).items()}
    for share in FILTER_SHARES:
        result |= _filtered(snapshot.shortlist, queries, share)
    result |= {name: megabytes - before[name] for name, megabytes in _memory().items()}
    result["edits_a_second"] = put_items(folder, 10**9, EDITS)
    changed = gallery.current
    result["edits_shortlist_ms"] = _median_ms(lambda n: changed.shortlist(queries[n], CANDIDATES))
    return result


def _model() -> Model:
    """What ships, on one thread. It encodes nothing here, so no network is compiled."""
    return load_model(engine="torch", threads=1)


def _searches(gallery: Gallery, queries: Vectors, model: Model) -> dict[str, tuple[float, float]]:
    """Of each step of a search, and of all, medians of processor time and of time by the clock, ms."""
    snapshot, verdicts = gallery.current, Verdicts()
    _, needs = in_one_go(model.chain, CANDIDATES, model)
    taken: dict[str, list[tuple[float, float]]] = {step: [] for step in STEPS}

    def timed(step: str, work: Callable[..., Any], *given: Any) -> Any:
        processor, clock = time.process_time(), time.perf_counter()
        made = work(*given)
        taken[step].append((1000 * (time.process_time() - processor), 1000 * (time.perf_counter() - clock)))
        return made

    for query in queries:
        candidates = timed("shortlist", snapshot.shortlist, query, CANDIDATES)
        gathered = timed("gather", _gather, snapshot, candidates, needs)
        items = timed("metadata", snapshot.items, candidates)
        photo = {name: snapshot.features(name, candidates[-1:])[0] for name in needs}  # like an item: it costs the same
        timed("rank", _rank, model, photo, gathered)
        timed("duplicates", _twins, snapshot, candidates, items, verdicts)
        taken["search"].append(tuple(np.sum([taken[step][-1] for step in STEPS if step != "search"], axis=0)))
    return {step: tuple(np.median(times, axis=0).tolist()) for step, times in taken.items()}


def _gather(snapshot: Snapshot, candidates: list[Candidate], needs: Iterable[str]) -> Items:
    return {name: snapshot.stored_features(name, candidates) for name in needs}


def _rank(model: Model, photo: Photo, items: Items) -> None:
    """Let the model's chain go over a shortlist."""

    def told(matcher: str, head: NDArray[np.int64]) -> Told:
        given = items if len(head) == len(items[CELLS]) else {name: values[head] for name, values in items.items()}
        [found] = tell_many(model.matchers[matcher], [photo], [given])
        return found

    Ranking(len(items[CELLS])).through(model.chain, told)


def _twins(snapshot: Snapshot, candidates: list[Candidate], items: list[Item], verdicts: Verdicts) -> None:
    """Compare each candidate with ten before it, as an answer does."""
    found = Duplicates(snapshot, candidates, items, verdicts)
    for place in range(1, len(candidates)):
        found.twin(place, range(min(10, place)))


def _queries(folder: Path, gallery: Gallery) -> Vectors:
    """(ROUNDS, E) vectors between two items, as `indexer.index.sample_queries` makes them."""
    path = generations.generation_folder(folder, gallery.generation) / generations.INDEX_FILE
    return sample_queries(VectorIndex.read(path, gallery.manifest.index), ROUNDS)


def _filtered(shortlist: Callable[..., Any], queries: Vectors, share: float) -> dict[str, float]:
    """A filter that was never met before, each time another one; then one that was."""
    bound = int(share * SHARES)

    def again(n: int) -> None:
        shortlist(queries[n], CANDIDATES, filter=f"part < {bound} and price > 0")

    def first(n: int) -> None:
        shortlist(queries[n], CANDIDATES, filter=f'part < {bound} and price > 0.{n + 1:03d} and brand != "no {n}"')

    again(0)
    return {f"filter_{share}_new_ms": _median_ms(first), f"filter_{share}_ms": _median_ms(again)}


def _median_ms(step: Callable[[int], Any]) -> float:
    taken = []
    for n in range(ROUNDS):
        started = time.process_time()
        step(n)
        taken.append(1000 * (time.process_time() - started))
    return float(np.median(taken))


def _memory() -> dict[str, float]:
    """Of this process: its own, and what it maps and shares, in MB."""
    lines = Path("/proc/self/smaps_rollup").read_text("ascii").splitlines()[1:]
    kib = {name: int(value.split()[0]) for name, value in (line.split(":", 1) for line in lines)}
    private = kib["Private_Dirty"] + kib["Private_Clean"] if "Anonymous" not in kib else kib["Anonymous"]
    return {"private_mb": private / 1000 * 1.024, "shared_mb": (kib["Rss"] - private) / 1000 * 1.024}


def table(results: Mapping[int, Mapping[str, Any]], *, markdown: bool) -> str:
    """The figures, a column a size."""
    rows = [["items", *(f"{items:,}" for items in results)]]
    for key, words, form in ROWS:
        rows.append([words, *(format(result[key], form) for result in results.values())])
    rows.append(["load before, after", *("{}, {}".format(*result["load"]) for result in results.values())])
    rows.append(["stages of publishing, s", *(_stages(result["stages_s"]) for result in results.values())])
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n"
    if not markdown:
        widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        return machine + "\n".join(lines) + "\n"
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]) + f"\n\n{machine}"


def _stages(seconds: Mapping[str, float]) -> str:
    named = {name: value for name, value in seconds.items() if name and name != "writing items"}
    return ", ".join(f"{name} {value:.1f}" for name, value in named.items())


if __name__ == "__main__":
    main()
