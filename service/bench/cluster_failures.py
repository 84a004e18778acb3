"""A cluster whose hosts die under load: what was lost, what was wrong, and how long it took until all was well again.

    python -m threadmatch.service.bench.cluster_failures --out failures.json

Starts a Redis Cluster of three masters with a replica each and a Milvus, copies a gallery of made-up items there, and
lets clients search it and writers edit it, each over connections of its own. Meanwhile a master is killed with -9,
another one is stopped for a while (a host that nobody reaches), and Milvus is killed with -9; what is killed is started
again, as a supervisor does. A search is wrong if it succeeds and its first item is not the one that was asked for, or
that item's features are another's. At the end every write that was answered is looked for.

Hosts are processes of this machine on loopback. Nothing is encoded and no HTTP is spoken: it is the engines that fail.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import platform
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from threadmatch.indexer import keeping
from threadmatch.indexer.edits.live_writes import Edited, Put
from threadmatch.indexer.errors import IndexerError, StoreUnavailableError
from threadmatch.indexer.opening import editor_of, open_gallery
from threadmatch.indexer.store.contents import Content
from threadmatch.indexer.store.versions import Version
from threadmatch.model.features import CELLS
from threadmatch.service.bench.engines import (
    Server,
    lacking_milvus,
    milvus,
    redis_cluster,
    running,
    settings_file,
    until,
)
from threadmatch.service.bench.scale_gallery import SPECS, add_items, items

MEASURED: Final = 100
ASKED_FOR: Final = 500
WRITES: Final = 4_000
"""Items that a writer has to put, at most."""
FAR: Final = 10_000_000
"""Between the numbers of one writer's items and the next one's."""
SHORTLIST: Final = 200
HEADS: Final = 20
"""Items whose features a search gathers."""
CALM_S: Final = 2.0
"""So long without an error, and all is well again."""
PAUSE_S: Final = 0.05
RESTART_S: Final = 8.0
"""Longer than a replica needs to take over, so that both are seen: no master of a slot, then no replica of it."""


@dataclass(frozen=True, slots=True)
class Call:
    """One search or write: when it ended (monotonic seconds), how long it took, and what came of it."""

    kind: str
    end: float
    seconds: float
    outcome: str  # "done", "unavailable" (503 with Retry-After over HTTP), "failed", "wrong"


@dataclass(slots=True)
class Event:
    """One failure, and what followed until the next one.

    Fields:
        recovered_s: from the failure until the last error before CALM_S without one; 0 where there was none.
        stall_s: the longest call.
    """

    name: str
    at: float
    calls: int = 0
    unavailable: int = 0
    failed: int = 0
    wrong: int = 0
    recovered_s: float = 0.0
    stall_s: float = 0.0


@dataclass(slots=True)
class Load:
    """Clients and writers over one gallery.

    Args:
        place: of the gallery.
        count: items in it at the start.
        clients, writers: threads.
    """

    place: str
    count: int
    clients: int
    writers: int
    calls: list[Call] = field(default_factory=list)
    written: dict[str, int] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Begin."""
        for number in range(self.clients):
            self.threads.append(threading.Thread(target=self._search, args=(number,), daemon=True))
        for number in range(self.writers):
            self.threads.append(threading.Thread(target=self._write, args=(number,), daemon=True))
        for thread in self.threads:
            thread.start()

    def end(self) -> None:
        """Let calls in progress end."""
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def _search(self, number: int) -> None:
        gallery = open_gallery(self.place)
        random = np.random.default_rng(number)
        wanted = {version.id: content for version, content in _some(self.count, ASKED_FOR)}
        indexed, cells = SPECS[0], SPECS[1]
        while not self.stop.is_set():
            item_id = f"item-{random.integers(min(self.count, ASKED_FOR))}"
            content = wanted[item_id]
            vector = indexed.unpack([content.features[indexed.key]])[0]

            def ask(item_id: str = item_id, vector: Any = vector, content: Any = content) -> bool:
                snapshot = gallery.current
                found = snapshot.shortlist(vector, HEADS)
                gathered = snapshot.features(CELLS, found)
                expected = cells.unpack([content.features[cells.key]])[0]
                return bool(found) and found[0].id == item_id and bool(np.array_equal(gathered[0], expected))

            self._called("search", ask)
            time.sleep(PAUSE_S)
        gallery.close()

    def _write(self, number: int) -> None:
        gallery = open_gallery(self.place)
        editor = editor_of(gallery, max_pending=0)
        for at, (version, content) in enumerate(items((1 + number) * FAR, WRITES, pictures=False)):
            if self.stop.is_set():
                break

            def put(version: Any = version, content: Any = content) -> bool:
                (outcome,) = editor.apply([Put(version, content)])
                if not isinstance(outcome, Edited):
                    raise StoreUnavailableError(str(outcome)) from outcome
                return True

            if self._called("write", put):
                self.written[version.id] = (1 + number) * FAR + at
            time.sleep(PAUSE_S)
        gallery.close()

    def _called(self, kind: str, call: Callable[[], bool]) -> bool:
        started = time.monotonic()
        try:
            outcome = "done" if call() else "wrong"
        except StoreUnavailableError:
            outcome = "unavailable"
        except IndexerError:
            outcome = "failed"
        end = time.monotonic()
        self.calls.append(Call(kind, end, end - started, outcome))
        return outcome == "done"

    def calm(self, since: float) -> bool:
        """Whether nothing failed for CALM_S, and something was done of each kind."""
        recent = [call for call in self.calls if call.end > max(since, time.monotonic() - CALM_S)]
        kinds = {call.kind for call in recent if call.outcome == "done"}
        return (
            time.monotonic() - since > CALM_S
            and all(call.outcome == "done" for call in recent)
            and kinds == {"search", "write"}
        )


def _some(count: int, few: int) -> Iterator[tuple[Version, Content]]:
    """The first of a gallery's items: what an item is depends on how many are made with it."""
    return itertools.islice(items(0, count, pictures=False), few)


def summed(calls: list[Call], events: list[Event]) -> list[Event]:
    """Count each call to the failure that it ended after."""
    ends = [*(event.at for event in events[1:]), float("inf")]
    for event, end in zip(events, ends, strict=True):
        mine = [call for call in calls if event.at <= call.end < end]
        bad = [call.end for call in mine if call.outcome != "done"]
        event.calls = len(mine)
        event.unavailable = sum(call.outcome == "unavailable" for call in mine)
        event.failed = sum(call.outcome == "failed" for call in mine)
        event.wrong = sum(call.outcome == "wrong" for call in mine)
        event.stall_s = round(max((call.seconds for call in mine), default=0.0), 2)
        event.recovered_s = round(max(bad, default=event.at) - event.at, 2)
    return events


def lost(place: str, written: dict[str, int]) -> list[str]:
    """Of the items whose write was answered, those that a search for them does not give."""
    gallery = open_gallery(place)
    indexed, gone = SPECS[0], []
    for first in sorted({number - number % FAR for number in written.values()}):
        for version, content in items(first, WRITES, pictures=False):
            if version.id in written:
                vector = indexed.unpack([content.features[indexed.key]])[0]
                if version.id not in {found.id for found in gallery.current.shortlist(vector, 3)}:
                    gone.append(version.id)
    gallery.close()
    return gone


def calm_figures(place: str, stores: list[Server], count: int) -> dict[str, float]:
    """What an item takes and a search costs while nothing fails and nobody else asks: medians of MEASURED searches."""
    import redis

    memory = 0.0
    for server in stores[: len(stores) // 2]:  # the masters
        with redis.Redis(port=server.port) as client:
            info: Any = client.info("memory")
            memory += float(info["used_memory_dataset"])
    gallery, times = open_gallery(place), []
    for _, content in _some(count, MEASURED):
        vector = SPECS[0].unpack([content.features[SPECS[0].key]])[0]
        started = time.perf_counter()
        snapshot = gallery.current
        asked = time.perf_counter()
        found = snapshot.shortlist(vector, SHORTLIST)
        listed = time.perf_counter()
        snapshot.features(CELLS, found)
        times.append((asked - started, listed - asked, time.perf_counter() - listed))
    gallery.close()
    moment, shortlist, gather = (round(1000 * float(value), 2) for value in np.median(np.array(times), axis=0))
    return {
        "store_bytes_an_item": round(memory / max(1, count)),
        "moment_ms": moment,
        "shortlist_ms": shortlist,
        "gather_ms": gather,
    }


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    """A host that nobody reaches: its process is there and does nothing."""
    assert server.process is not None, "it was started"
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.process.pid, signal.SIGCONT)


def failures(load: Load, stores: list[Server], vectors: Server, cut_s: float) -> list[Event]:
    """Let hosts fail one after the other, each when all is well again."""
    events: list[Event] = []

    def happens(name: str) -> None:
        until(lambda: load.calm(events[-1].at if events else 0.0), f"calm before: {name}")
        events.append(Event(name, time.monotonic()))
        print(f"{name} ...", file=sys.stderr, flush=True)

    happens("nothing (for comparison)")
    time.sleep(cut_s)
    happens(f"a Redis master killed with -9, started again after {RESTART_S:g} s")
    stores[0].kill()
    time.sleep(RESTART_S)
    stores[0].start()
    happens(f"a Redis master out of reach for {cut_s:g} s, then back")
    with stopped(stores[1]):
        time.sleep(cut_s)
    happens("Milvus killed with -9 and started at once")
    vectors.kill()
    vectors.start()
    until(lambda: load.calm(events[-1].at), "calm at the end")
    return events


def run(*, count: int, clients: int, writers: int, cut_s: float, work: Path) -> dict[str, Any]:
    """Start everything, let hosts fail, and say what became of it."""
    add_items(work / "gallery", 0, count, lambda *_: None, pictures=False)
    stores = redis_cluster(work / "redis")
    try:
        vectors = milvus(work / "milvus", Path.home() / ".cache" / "threadmatch" / "milvus")
        with running(vectors):
            settings = settings_file(
                work, stores=stores, milvus=vectors, cluster=True, wait_replicas=1, wait_s=1, timeout_s=2, retry_s=15
            )
            place = f"cluster://failures@{settings}"
            started = time.monotonic()
            copied = keeping.copy(work / "gallery", place)
            copy_s = time.monotonic() - started
            figures = calm_figures(place, stores, count)
            load = Load(place, count, clients, writers)
            load.start()
            try:
                events = failures(load, stores, vectors, cut_s)
            finally:
                load.end()
            return {
                "items": count,
                "clients": clients,
                "writers": writers,
                "calm": figures,
                "copy": copied | {"seconds": round(copy_s, 1)},
                "events": [asdict(event) for event in summed(load.calls, events)],
                "searches": sum(call.kind == "search" for call in load.calls),
                "writes_answered": len(load.written),
                "writes_lost": lost(place, load.written),
                "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            }
    finally:
        for server in stores:
            server.kill()


def table(result: dict[str, Any]) -> str:
    """The outcome as a table in Markdown."""
    lines = [
        "| failure | calls after it | 503 | other errors | wrong | until the last error | longest call |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        "| {name} | {calls} | {unavailable} | {failed} | {wrong} | {recovered_s} s | {stall_s} s |".format(**event)
        for event in result["events"]
    ]
    lost_ids = result["writes_lost"]
    calm = result["calm"]
    lines += [
        "",
        f"While nothing failed: {calm['store_bytes_an_item']} bytes an item in the store's masters; of a search "
        f"{calm['moment_ms']} ms to ask what is new, {calm['shortlist_ms']} ms for {SHORTLIST} items, "
        f"{calm['gather_ms']} ms for their features; copied in {result['copy']['seconds']} s.",
    ]
    told = f"{result['writes_answered']} writes were answered; {len(lost_ids)} of them are lost {lost_ids[:5]}."
    return "\n".join([*lines, "", told])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Hosts of a cluster die under load; prints a table.")
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--writers", type=int, default=2)
    parser.add_argument("--cut", type=float, default=10.0, metavar="SECONDS", help="how long a host is out of reach")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    given = parser.parse_args()
    if reason := lacking_milvus():
        sys.exit(f"cannot start: {reason} (docs/cluster.md)")
    logging.disable(logging.ERROR)  # every failure is counted, none needs a line
    with tempfile.TemporaryDirectory(prefix="threadmatch-failures-") as work:
        result = run(count=given.items, clients=given.clients, writers=given.writers, cut_s=given.cut, work=Path(work))
    print(table(result))
    if given.out:
        given.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    if result["writes_lost"] or any(event["wrong"] or event["failed"] for event in result["events"]):
        sys.exit("answered writes were lost, answers were wrong, or calls failed otherwise than by 503")


if __name__ == "__main__":
    main()
