"""Many clients against a real `threadmatch serve` while things go wrong: nothing acknowledged is lost, no answer wrong.

    python -m threadmatch.service.bench.load --clients 64 --seconds 60 --workers 2

Clients search, put, read and delete items. Meanwhile a worker is killed (SIGKILL), the gallery's changes are folded
into a new generation twice, and at the end the service is told to stop (SIGTERM) with clients still asking. Then the
gallery is opened without the service and held against what was acknowledged.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import numpy as np
import typer

from threadmatch.indexer.errors import ItemNotFoundError
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.model.features import EMBEDDING
from threadmatch.model.images import load_image
from threadmatch.model.inference import Model, load_model
from threadmatch.service.bench.latency import workers_of
from threadmatch.service.bench.ledger import OWN, Ledger, State, Truth, faults_of
from threadmatch.service.process.commands import Service, program, service

CANDIDATES: Final = 40
TOP_K: Final = 20
TIMEOUT_S: Final = 120.0
SHOWN_FAULTS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """What to do.

    Fields:
        gallery: folder; it is copied, and the copy is changed.
        photos: image files' bytes, to search for and to put.
        model: name or folder; "" for the gallery's own.
        work: folder for the copy and the log.
        clients, seconds, workers, seed: of the load.
        writes: whether clients put and delete items, too.
        pause_s: that a client waits between two requests.
        most_own: items that one client keeps at most.
        settings: of the service, by field name.
    """

    gallery: Path
    photos: list[bytes]
    model: str
    work: Path
    clients: int
    seconds: float
    workers: int
    seed: int
    writes: bool = True
    pause_s: float = 0.0
    most_own: int = 1_000_000
    settings: dict[str, str] = field(default_factory=dict)


@dataclass
class Tally:
    """What was seen, by all clients together."""

    statuses: Counter[str] = field(default_factory=Counter)
    took_ms: dict[str, list[float]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    checked: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, kind: str, status: str, took_ms: float, faults: list[str]) -> None:
        """Record one request."""
        with self.lock:
            self.statuses[f"{kind} {status}"] += 1
            self.took_ms.setdefault(f"{kind} {status}", []).append(took_ms)
            self.checked += kind == "search" and status == "200"
            self.faults += faults


class Client:
    """One client: searches mostly, and puts, reads and deletes items that nobody else touches.

    Args:
        number: names its items.
        address: of the service.
        options: of the load.
        shared: truths by photo, ledger and tally of all clients.
        stop: set when it shall end.
    """

    def __init__(
        self, number: int, address: str, options: LoadOptions, shared: tuple[list[Truth], Ledger, Tally],
        stop: threading.Event,
    ) -> None:  # fmt: skip
        self._number, self._options, self._stop = number, options, stop
        self._truths, self._ledger, self._tally = shared
        self._random = random.Random(f"{options.seed}/{number}")  # noqa: S311  not for secrets
        self._http = httpx.Client(base_url=address, timeout=TIMEOUT_S, trust_env=False)
        self._mine: dict[str, int] = {}  # acknowledged as there, with the photo
        self._made = 0

    def run(self) -> None:
        """Ask until told to stop."""
        with self._http:
            while not self._stop.wait(self._options.pause_s):
                draw = self._random.random()
                if draw < 0.7 or not self._options.writes:
                    self._search()
                elif not self._mine or (draw < 0.85 and len(self._mine) < self._options.most_own):
                    self._put()
                elif draw < 0.93:
                    self._read(self._random.choice(list(self._mine)))
                else:
                    self._delete(self._random.choice(list(self._mine)))

    def _search(self) -> None:
        photo = self._random.randrange(len(self._options.photos))
        reranked = self._random.random() < 0.5
        fields = {"candidates": str(CANDIDATES), "top_k": str(TOP_K), "collapse_duplicates": "false",
                  "box": "none", "rerank": str(reranked).lower()}  # fmt: skip
        answer = self._ask("search", "POST", "/v1/search", photo=photo, fields=fields, truth=(photo, reranked))
        if answer is not None and answer.status_code == 429:
            time.sleep(min(1.0, float(answer.headers.get("Retry-After", "1"))) * self._random.random())

    def _put(self) -> None:
        photo = self._random.randrange(len(self._options.photos))
        again = [item_id for item_id in self._mine if self._random.random() < 0.1]
        self._made += 1
        item_id = again[0] if again else f"{OWN}{self._number}-{self._made}"
        self._ledger.note(item_id, State.UNKNOWN, photo)
        self._mine.pop(item_id, None)
        answer = self._ask("put", "PUT", f"/v1/items/{item_id}", photo=photo, fields={"metadata": '{"price": 1}'})
        if answer is not None and answer.status_code in (200, 201):
            self._ledger.note(item_id, State.THERE, photo)
            self._mine[item_id] = photo
            self._read(item_id)

    def _delete(self, item_id: str) -> None:
        photo = self._mine.pop(item_id)
        self._ledger.note(item_id, State.UNKNOWN, photo)
        answer = self._ask("delete", "DELETE", f"/v1/items/{item_id}")
        if answer is not None and answer.status_code == 200:
            self._ledger.note(item_id, State.GONE, photo)

    def _read(self, item_id: str) -> None:
        answer = self._ask("read", "GET", f"/v1/items/{item_id}")
        if answer is not None and answer.status_code == 404:
            with self._tally.lock:
                self._tally.faults.append(f"{item_id} was acknowledged and is not there for its own client")

    def _ask(
        self, kind: str, method: str, path: str, *, photo: int | None = None, fields: dict[str, str] | None = None,
        truth: tuple[int, bool] | None = None,
    ) -> httpx.Response | None:  # fmt: skip
        files = None if photo is None else {"image": ("p.jpg", self._options.photos[photo])}
        started = time.perf_counter()
        try:
            answer = self._http.request(method, path, files=files, data=fields)
        except httpx.TransportError as error:
            self._tally.note(kind, type(error).__name__, 1000 * (time.perf_counter() - started), [])
            time.sleep(0.05)  # the service is ending, or its worker was killed
            return None
        faults = []
        if truth is not None and answer.status_code == 200:
            faults = faults_of(answer.json(), self._truths[truth[0]], reranked=truth[1])
        if answer.status_code == 429 and "Retry-After" not in answer.headers:
            faults.append(f"{kind}: 429 without Retry-After")
        if answer.status_code not in (200, 201, 404, 429, 503):
            faults.append(f"{kind}: {answer.status_code} {answer.text[:200]}")
        self._tally.note(kind, str(answer.status_code), 1000 * (time.perf_counter() - started), faults)
        return answer


Happenings = Callable[[Service, Path, LoadOptions], list[str]]
"""What happens to a service and its gallery's folder while clients ask; ends when the load shall end."""


def run_load(options: LoadOptions, happenings: Happenings | None = None) -> dict[str, Any]:
    """Load a service and hold it to what it said.

    Args:
        options: what to do.
        happenings: what goes wrong meanwhile; else two folds and a kill in `options.seconds`.

    Returns:
        JSON-ready: `passed`, `faults`, and what was counted.

    Raises:
        CommandError: the service did not start.
    """
    folder = options.work / "load-gallery"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(options.gallery, folder)
    before = Gallery.open(folder)
    model = load_model(options.model or before.manifest.model.name, device="cpu")
    shared = (truths_of(before, model, options.photos), Ledger(), Tally())
    before.close()
    named = ["--model", options.model] if options.model else []
    arguments = ["serve", "--gallery", str(folder), "--port", "0", "--workers", str(options.workers), *named]
    stop = threading.Event()
    log = options.work / "load.log"
    with service(arguments, log, options.settings) as running, ThreadPoolExecutor(options.clients) as pool:
        done = [
            pool.submit(Client(number, running.address, options, shared, stop).run) for number in range(options.clients)
        ]
        try:
            told = (happenings or _go_wrong)(running, folder, options)
            started = time.perf_counter()
            exit_code = running.stop()
            drained_s = time.perf_counter() - started
        finally:
            stop.set()
        for one in done:
            one.result()
    _, ledger, tally = shared
    if exit_code != 0:
        tally.faults.append(f"the service ended with exit code {exit_code}")
    lost = lost_writes(folder, ledger)
    verify = [*program(), "gallery", "verify", str(folder)]
    verified = subprocess.run(verify, capture_output=True, text=True, check=False)  # noqa: S603  our own command
    if verified.returncode:
        tally.faults.append(f"gallery verify: {verified.stdout[-300:]}{verified.stderr[-300:]}")
    return _report(options, shared, lost, told) | {"drained_s": round(drained_s, 2)}


def truths_of(gallery: Gallery, model: Model, photos: list[bytes], *, matcher: str = "") -> list[Truth]:
    """What each photo must find, by the model and the gallery's own reading, without the service.

    Args:
        gallery: that is served.
        model: that serves it.
        photos: image files' bytes.
        matcher: that scores; "" for the chain's last.
    """
    scoring = model.matchers[matcher or model.chain[-1].matcher]
    truths = []
    for photo in photos:
        prepared, _ = load_image(photo, image_px=model.image_px, framing=model.framing)
        features = model.encode(prepared.pixels[None])
        candidates = gallery.shortlist(features[EMBEDDING][0], gallery.item_count)
        held = {name: gallery.current.features(name, candidates) for name in scoring.needs}
        [scores] = scoring.score_many([{name: features[name][0] for name in scoring.needs}], [held])
        truths.append(
            Truth(
                distances={candidate.id: candidate.distance for candidate in candidates},
                scores={candidate.id: float(score) for candidate, score in zip(candidates, scores, strict=True)},
                order=[candidate.id for candidate in candidates],
            )
        )
    return truths


def lost_writes(folder: Path, ledger: Ledger) -> list[str]:
    """Acknowledged writes that the gallery, opened anew without the service, does not hold."""
    gallery = Gallery.open(folder)
    lost = []
    for item_id, (state, _) in sorted(ledger.acknowledged().items()):
        try:
            gallery.item(item_id)
            there = True
        except ItemNotFoundError:
            there = False
        if there != (state is State.THERE):
            lost.append(f"{item_id}: acknowledged as {state.value}, found {'there' if there else 'gone'}")
    gallery.close()
    return lost


def _go_wrong(running: Service, folder: Path, options: LoadOptions) -> list[str]:
    """Let the load run, with its faults at fixed moments; what was done."""
    told: list[str] = []
    fold = [*program(), "gallery", "compact", str(folder)]
    for moment in ("fold", "kill", "fold", "end"):
        time.sleep(options.seconds / 4)
        if moment == "kill" and options.workers > 1:
            told.append(kill_a_worker(running))
        elif moment == "fold":
            done = subprocess.run(fold, capture_output=True, text=True, check=False)  # noqa: S603
            told.append(f"gallery compact: exit code {done.returncode} {done.stderr.strip()[-200:]}".strip())
    return told


def kill_a_worker(running: Service) -> str:
    """SIGKILL to the newest of several workers; which one, in words."""
    victim = max(workers_of(running.address), default=0)
    if victim:
        os.kill(victim, signal.SIGKILL)
    return f"killed worker {victim}"


def _report(
    options: LoadOptions, shared: tuple[list[Truth], Ledger, Tally], lost: list[str], told: list[str]
) -> dict[str, Any]:
    _, ledger, tally = shared
    times = {
        kind: {
            "n": len(took),
            **{f"p{at}_ms": round(float(np.percentile(took, at)), 1) for at in (50, 95, 99)},
        }
        for kind, took in sorted(tally.took_ms.items())
    }
    return {
        "passed": not tally.faults and not lost and tally.checked > 0,
        "clients": options.clients,
        "workers": options.workers,
        "seconds": options.seconds,
        "seed": options.seed,
        "faults_made": told,
        "searches_checked": tally.checked,
        "writes_acknowledged": len(ledger.acknowledged()),
        "writes_lost": lost[:SHOWN_FAULTS],
        "faults": tally.faults[:SHOWN_FAULTS],
        "faults_found": len(tally.faults),
        "requests": times,
    }


def load(
    *,
    gallery: Annotated[Path, typer.Option(help="Folder of a gallery; it is copied.")],
    photos: Annotated[Path, typer.Option(help="Folder of photos to search for and to put (JPEG).")],
    clients: Annotated[int, typer.Option(min=1)] = 64,
    seconds: Annotated[float, typer.Option(min=1)] = 60.0,
    workers: Annotated[int, typer.Option(min=1)] = 2,
    model: Annotated[str, typer.Option(help="Model name or folder; else the gallery's own.")] = "",
    seed: Annotated[int, typer.Option(min=0)] = 7,
    work: Annotated[Path, typer.Option(help="Folder for the copy and the log.")] = Path("bench-data"),
) -> None:
    """Load a service with clients and faults; JSON on stdout, exit code 1 where anything was lost or wrong."""
    work.mkdir(parents=True, exist_ok=True)
    files = [path.read_bytes() for path in sorted(photos.rglob("*.jpg"))[:8]]
    result = run_load(
        LoadOptions(
            gallery=gallery, photos=files, model=model, work=work, clients=clients, seconds=seconds, workers=workers,
            seed=seed,
        )
    )  # fmt: skip
    json.dump(result, sys.stdout, indent=2)
    sys.stdout.write("\n")
    raise typer.Exit(0 if result["passed"] else 1)


if __name__ == "__main__":
    typer.run(load)
