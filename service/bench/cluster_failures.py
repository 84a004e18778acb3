"""A shop on three hosts that die under load: what was lost, what was wrong, how long it took until all was well again.

    python -m threadmatch.service.bench.cluster_failures --out failures.json

Starts three hosts (`bench.hosts`: network namespaces, else addresses of loopback) with a Redis Cluster, a Milvus and a
replica of `threadmatch serve` each (`bench.cluster_site`). Ingests photos by `threadmatch ingest`, adds made-up items,
and searches by `curl`'s request and in Python. Then clients search and write through a balancer over HTTP and hold
every answer to what they know (`bench.cluster_clients`), while a master of the store, a replica, Milvus and a host are
killed with -9 in turn, and a host's cable is pulled. At the end every answered write is looked for, and the gallery is
moved to a folder and back. Exits with 1 where anything was lost or wrong, or failed otherwise than by 503 with
Retry-After.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from threadmatch.indexer.errors import IndexerError
from threadmatch.service.bench.balancing import Known
from threadmatch.service.bench.cluster_clients import Asked, Call, Client, Seen, lost_writes
from threadmatch.service.bench.cluster_shop import Shop, move_there_and_back
from threadmatch.service.bench.cluster_site import HOSTS, Site, site
from threadmatch.service.bench.engines import lacking_milvus, until
from threadmatch.service.bench.hosts import enter_own_network, hosts
from threadmatch.service.errors import StartError
from threadmatch.service.process.commands import NOT_OURS, CommandError

CALM_S: Final = 2.0
"""So long without an error, and all is well again."""
DOWN_S: Final = 10.0
"""Longer than a replica needs to take over: both are seen, a master away, then one replica fewer."""
SHORT_ITEMS: Final = 500
STEPS: Final = ("nothing", "master", "replica", "milvus", "host", "cut")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do.

    Fields:
        items: made-up ones beside the photos.
        clients: of the load.
        down_s, cut_s: how long what is killed is down, and a cable pulled.
        seed: of what clients do.
        photos: a folder of photos; None for those that ship.
        most_photos: that are ingested.
        model: name or folder; "" for the shipped one.
        steps: of STEPS, in their order; none for all.
    """

    items: int
    clients: int
    down_s: float = DOWN_S
    cut_s: float = DOWN_S
    seed: int = 7
    photos: Path | None = None
    most_photos: int = 300
    model: str = ""
    steps: tuple[str, ...] = ()


@dataclass(slots=True)
class Event:
    """One failure, and what followed until the next one.

    Fields:
        passed_over: replicas that refused, broke a connection or said 503, where another one then answered.
        recovered_s: from the failure until the last error before CALM_S without one; 0 where there was none.
        stall_s: the longest call.
    """

    name: str
    at: float
    calls: int = 0
    passed_over: int = 0
    unavailable: int = 0
    failed: int = 0
    wrong: int = 0
    recovered_s: float = 0.0
    stall_s: float = 0.0


class Load:
    """Clients over the replicas of a site.

    Args:
        shop: what they ask for.
        known: the replicas.
        plan: how many, and what they do.
    """

    def __init__(self, shop: Shop, known: Known, plan: Plan) -> None:
        self.seen = Seen()
        asked = Asked(shop.photos, shop.truths, shop.model.chain[0].matcher)
        self.clients = [Client(number, known, asked, self.seen, seed=plan.seed) for number in range(plan.clients)]
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(plan.clients)
        self._running = [self._pool.submit(client.run, self._stop) for client in self.clients]

    def end(self) -> None:
        """Let calls in progress end; an error of a client is raised here."""
        self._stop.set()
        self._pool.shutdown(wait=True)
        for one in self._running:
            one.result()

    def is_calm(self, since: float) -> bool:
        """Whether nothing failed for CALM_S, and a call of each kind has been done since the last one that did."""
        if any(one.done() for one in self._running):
            raise ChildProcessError("a client has ended before its time")
        calls = list(self.seen.calls)
        last = max((call.end for call in calls if call.outcome != "done"), default=since)
        last = max(last, since)
        done = {call.kind for call in calls if call.end > last}
        return time.monotonic() - last > CALM_S and done == {"search", "write"}


def summed(calls: list[Call], events: list[Event]) -> list[Event]:
    """Count each call to the failure that it ended after."""
    ends = [*(event.at for event in events[1:]), float("inf")]
    for event, end in zip(events, ends, strict=True):
        mine = [call for call in calls if event.at <= call.end < end]
        bad = [call.end for call in mine if call.outcome != "done"]
        event.calls = len(mine)
        event.passed_over = sum(call.passed_over for call in mine)
        event.unavailable = sum(call.outcome == "unavailable" for call in mine)
        event.failed = sum(call.outcome == "failed" for call in mine)
        event.wrong = sum(call.outcome == "wrong" for call in mine)
        event.stall_s = round(max((call.seconds for call in mine), default=0.0), 2)
        event.recovered_s = round(max(bad, default=event.at) - event.at, 2)
    return events


def failures(load: Load, on: Site, plan: Plan) -> list[Event]:
    """Let things fail one after the other, each when all is well again.

    Raises:
        TimeoutError: something was not well again in time; with what was seen last.
    """
    down, cut = plan.down_s, plan.cut_s
    steps: dict[str, tuple[str, Callable[[], None]]] = {
        "nothing": ("nothing (for comparison)", lambda: time.sleep(cut)),
        "master": (
            f"a Redis master killed with -9, started again after {down:g} s",
            lambda: on.kill_a_master(down),
        ),
        "replica": (
            f"a replica of serve killed with -9, started again after {down:g} s",
            lambda: on.kill_a_replica(down),
        ),
        "milvus": ("Milvus (one process) killed with -9, started again at once", on.kill_milvus),
        "host": (
            f"a host without Milvus loses power, all of it started again after {down:g} s",
            lambda: on.kill_a_host(down),
        ),
        "cut": (f"a host's cable pulled for {cut:g} s", lambda: on.cut_a_host(cut)),
    }
    events: list[Event] = []

    def wait_until_well(what: str) -> None:
        since = events[-1].at if events else 0.0
        try:
            until(lambda: load.is_calm(since) and on.is_whole(), what)
        except TimeoutError as error:
            last = Counter((call.kind, call.outcome) for call in load.seen.calls[-100:])
            raise TimeoutError(f"{error}; not up: {on.missing()}; last calls {last}; {load.seen.faults}") from error

    for step in plan.steps or tuple(steps):
        name, happen = steps[step]
        wait_until_well(f"calm before: {name}")
        events.append(Event(name, time.monotonic()))
        say(f"{name} ...")
        happen()
    wait_until_well("calm at the end")
    return events


def run(plan: Plan, work: Path) -> dict[str, Any]:
    """Start everything, let it fail, and say what became of it; JSON-ready.

    Raises:
        CommandError: a command of ours did not go well.
        TimeoutError: something was not well again in time.
    """
    with hosts(HOSTS) as on, site(on, work) as here:
        say(f"engines run on {', '.join(host.address for host in on)}")
        shop = Shop.ingest(here, work, plan.photos, most=plan.most_photos, model=plan.model)
        if plan.items:
            say(f"adding {plan.items} made-up items")
            shop.add(plan.items)
        say("starting a replica of serve on each host")
        here.serve(shop.name, work, plan.model)
        shop.search(here.replicas)
        known = Known([replica.place for replica in here.replicas])
        load = Load(shop, known, plan)
        try:
            events = failures(load, here, plan)
        finally:
            load.end()
        say("looking for every answered write")
        lost = [fault for client in load.clients for fault in lost_writes(client, known)]
        moved = move_there_and_back(here, shop, work)
        return _report(plan, load, events, cables=bool(on[0].cable)) | {
            "writes_lost": lost,
            "moved": moved,
            "photos": shop.count,
        }


def _report(plan: Plan, load: Load, events: list[Event], *, cables: bool) -> dict[str, Any]:
    calls = load.seen.calls
    return {
        "items": plan.items,
        "clients": plan.clients,
        "seed": plan.seed,
        "hosts": "network namespaces" if cables else "addresses of loopback",
        "events": [asdict(event) for event in summed(calls, events)],
        "searches": sum(call.kind == "search" and call.outcome == "done" for call in calls),
        "writes_answered": sum(call.kind == "write" and call.outcome == "done" for call in calls),
        "faults": load.seen.faults,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def table(result: dict[str, Any]) -> str:
    """The outcome as a table in Markdown, and what it says beside."""
    lines = [
        "| failure | calls after it | passed over by the balancer | 503 | other errors | wrong | until the last error "
        "| longest call |",
        "|---|---|---|---|---|---|---|---|",
    ]
    row = "| {name} | {calls} | {passed_over} | {unavailable} | {failed} | {wrong} | {recovered_s} s | {stall_s} s |"
    lines += [row.format(**event) for event in result["events"]]
    lost, moved = result["writes_lost"], result["moved"]
    lines += [
        "",
        f"{result['searches']} searches were answered as they should be. {result['writes_answered']} writes were "
        f"answered; {len(lost)} items are not as their last one says {lost[:5]}.",
        f"Moved to a folder and back: {moved['items']} items, the same checksum on all sides: {moved['same']}, in "
        f"{moved['seconds']} s.",
        *(f"- {fault}" for fault in result["faults"]),
    ]
    return "\n".join(lines)


def is_bad(result: dict[str, Any]) -> bool:
    """Whether anything was lost or wrong, or failed otherwise than by 503."""
    failed = any(event["wrong"] or event["failed"] for event in result["events"])
    return bool(result["writes_lost"]) or bool(result["faults"]) or failed or not result["moved"]["same"]


def say(text: str) -> None:
    """Tell whoever watches, on stderr."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="A shop on three hosts that die under load; prints a table.")
    parser.add_argument("--photos", type=Path, help="folder of photos to ingest; default: the 300 that ship")
    parser.add_argument("--most-photos", type=int, default=300)
    parser.add_argument("--items", type=int, default=20_000, help="made-up items beside them")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--cut", type=float, default=DOWN_S, metavar="SECONDS", help="how long a host is out of reach")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--model", default="", help="name or folder; default: the shipped one")
    parser.add_argument("--only", nargs="+", choices=STEPS, default=[], help="what fails; default: all of it")
    parser.add_argument("--short", action="store_true", help=f"{SHORT_ITEMS} items, 4 clients, 2 s")
    parser.add_argument("--loopback", action="store_true", help="no network namespaces, even where they can be had")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--work", type=Path, help="folder for what everything keeps; default: one that is removed")
    given = parser.parse_args()
    if reason := lacking_milvus():
        sys.exit(f"cannot start: {reason} (docs/cluster.md)")
    if not given.loopback and (reason := enter_own_network("threadmatch.service.bench.cluster_failures", sys.argv[1:])):
        say(f"hosts are addresses of loopback: {reason}")
    for name in [name for name in os.environ if name.upper() in NOT_OURS]:
        del os.environ[name]
    plan = Plan(
        items=SHORT_ITEMS if given.short else given.items, clients=4 if given.short else given.clients,
        down_s=2.0 if given.short else DOWN_S, cut_s=2.0 if given.short else given.cut, seed=given.seed,
        photos=given.photos, most_photos=given.most_photos, model=given.model,
        steps=tuple(given.only),
    )  # fmt: skip
    with suppress(KeyboardInterrupt), tempfile.TemporaryDirectory(prefix="threadmatch-failures-") as folder:
        work = (given.work or Path(folder)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        try:
            result = run(plan, work)
        except (CommandError, TimeoutError, ChildProcessError, IndexerError, StartError) as error:
            sys.exit(f"it did not come to an end: {error}")
        print(table(result))
        if given.out:
            given.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
        if is_bad(result):
            sys.exit("answered writes were lost, answers were wrong, or calls failed otherwise than by 503")


if __name__ == "__main__":
    main()
