"""Clients that search and write over HTTP while hosts fail, and hold every answer to what they know.

Each client puts, changes and deletes items of its own, with photos that nobody else has, so it knows what every later
answer must be: after a write was answered, a search with the item's photo finds it first, as it was written, or does
not find it any more. Photos of the catalogue must have the distances and scores that model and gallery give without
the service. A write that was told 503 is repeated until it is answered; one whose answer never came is left alone.
"""

from __future__ import annotations

import io
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from PIL import Image, ImageEnhance, ImageOps

from threadmatch.service.bench.balancing import Balancer, Known, Sent
from threadmatch.service.bench.ledger import OWN, TOLERANCE, State, Truth, faults_of

CANDIDATES: Final = 40
TOP_K: Final = 20
PHOTOS: Final = 4
"""That a client has; so many items of its own are there at most."""
PAUSE_S: Final = 0.05
MADE_UP: Final = "item-"
"""How ids of made-up items begin (`scale_gallery`); they come among the answers as their vectors have it."""
_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class Call:
    """One request of a client: when it ended (monotonic seconds), how long it took, and what came of it.

    Fields:
        kind: "search" or "write".
        outcome: "done", "unavailable" (503 with Retry-After), "failed" or "wrong".
        passed_over: replicas that the balancer passed over for it.
    """

    kind: str
    end: float
    seconds: float
    outcome: str
    passed_over: int = 0


@dataclass(slots=True)
class Own:
    """An item of a client: its photo, the lot it was last written with, and whether it is there."""

    photo: int
    lot: int
    state: State = State.UNKNOWN


@dataclass(slots=True)
class Seen:
    """Of all clients together."""

    calls: list[Call] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, call: Call, faults: Sequence[str]) -> None:
        """Take a call in, and what was wrong with it."""
        with self.lock:
            self.calls.append(call)
            self.faults += faults[: max(0, _SHOWN - len(self.faults))]


@dataclass(frozen=True, slots=True)
class Asked:
    """What clients ask for: photos of the catalogue, what each must find, and the matcher whose scores those are."""

    photos: Sequence[bytes]
    truths: Sequence[Truth]
    matcher: str


class Client:
    """One client.

    Args:
        number: names its items.
        known: the replicas.
        asked: photos of the catalogue.
        seen: of all clients.
        seed: of what it does.
    """

    def __init__(self, number: int, known: Known, asked: Asked, seen: Seen, *, seed: int) -> None:
        self._number, self._asked, self._seen = number, asked, seen
        self._random = random.Random(f"{seed}/{number}")  # noqa: S311 - not for secrets
        self._balancer = Balancer(known, first=number)
        self.photos = [
            variant(asked.photos[(number + at) % len(asked.photos)], f"{seed}/{number}/{at}") for at in range(PHOTOS)
        ]
        self.items: dict[str, Own] = {}
        self._again: Callable[[], None] | None = None  # a write that was told 503

    def run(self, stop: threading.Event) -> None:
        """Ask until told to stop; a write that was told 503 is not left so where that can be helped."""
        while not stop.wait(PAUSE_S):
            if self._again is not None:
                self._again()
            else:
                self._step()
        self._balancer.close()

    def _step(self) -> None:
        there = [item_id for item_id, own in self.items.items() if own.state is State.THERE]
        draw = self._random.random()
        if draw < 0.4:
            self._search_catalogue()
        elif len(there) < PHOTOS and (draw < 0.6 or not there):
            free = set(range(PHOTOS)) - {self.items[item_id].photo for item_id in there}
            item_id = f"{OWN}{self._number}-{len(self.items)}"
            self.items[item_id] = Own(self._random.choice(sorted(free)), 0)
            self._put(item_id)
        elif draw < 0.75 and there:
            self._find(self._random.choice(there))
        elif draw < 0.9 and there:
            self._change(self._random.choice(there))
        elif there:
            self._delete(self._random.choice(there))

    def _search_catalogue(self) -> None:
        at, reranked = self._random.randrange(len(self._asked.photos)), self._random.random() < 0.5

        def check(answer: dict[str, Any]) -> list[str]:
            return faults_of(answer, self._asked.truths[at], reranked=reranked, others=(OWN, MADE_UP))

        ordered = {"matcher": self._asked.matcher} if reranked else {"rerank": "false"}
        self._search(self._asked.photos[at], check, **ordered)

    def _find(self, item_id: str) -> None:
        own = self.items[item_id]
        self._search(self.photos[own.photo], lambda answer: self.faults_of_own(item_id, answer), rerank="false")

    def faults_of_own(self, item_id: str, answer: dict[str, Any]) -> list[str]:
        """What is wrong with a search for an item of this client by its photo."""
        own = self.items[item_id]
        found = {match["id"]: match for match in answer["matches"]}
        faults = [
            f"{other} was deleted and is found"
            for other, one in self.items.items()
            if one.state is State.GONE and other in found
        ]
        if own.state is State.THERE:
            match = found.get(item_id)
            if match is None or match["distance"] > TOLERANCE:
                faults.append(f"{item_id} is not found by its own photo: {list(found)[:5]}")
            elif match["metadata"].get("lot") != own.lot:
                faults.append(f"{item_id} is of lot {match['metadata'].get('lot')}, written was {own.lot}")
        return faults

    def _put(self, item_id: str) -> None:
        own = self.items[item_id]
        body = {
            "files": {"image": ("photo.jpg", self.photos[own.photo])},
            "data": {"metadata": f'{{"lot": {own.lot}}}', "box": "none"},
        }
        self._write(item_id, State.THERE, "PUT", **body)

    def _change(self, item_id: str) -> None:
        own = self.items[item_id]
        own.lot += 1
        self._write(item_id, State.THERE, "PATCH", json={"metadata": {"lot": own.lot}})

    def _delete(self, item_id: str) -> None:
        self._write(item_id, State.GONE, "DELETE")

    def _write(self, item_id: str, then: State, method: str, **body: Any) -> None:
        """Write, and look at once whether it is so."""
        own = self.items[item_id]
        own.state, self._again = State.UNKNOWN, None
        outcome = self._ask("write", method, f"/v1/items/{item_id}", lambda _: [], **body)
        if outcome == "done":
            own.state = then
            self._find(item_id)
        elif outcome == "unavailable":
            self._again = lambda: self._write(item_id, then, method, **body)

    def _search(self, photo: bytes, check: Callable[[dict[str, Any]], list[str]], **fields: str) -> None:
        data = {"candidates": str(CANDIDATES), "top_k": str(TOP_K), "collapse_duplicates": "false", "box": "none"}
        body = {"files": {"image": ("photo.jpg", photo)}, "data": data | fields}
        outcome = self._ask("search", "POST", "/v1/search", check, **body)
        if outcome == "unavailable":
            time.sleep(self._random.random())  # as Retry-After asks, but shorter: so that the outage's end is seen

    def _ask(self, kind: str, method: str, path: str, check: Callable[[dict[str, Any]], list[str]], **body: Any) -> str:
        started = time.monotonic()
        sent = self._balancer.send(method, path, **body)
        outcome, faults = judged(sent, check)
        end = time.monotonic()
        told = [f"{method} {path}: {fault}" for fault in faults]
        self._seen.add(Call(kind, end, end - started, outcome, sent.passed_over), told)
        return outcome


def judged(sent: Sent, check: Callable[[dict[str, Any]], list[str]]) -> tuple[str, list[str]]:
    """The outcome of a request (see `Call`), and what was wrong with it, in words."""
    answer = sent.answer
    if answer is None:
        return "failed", ["no replica answers"]
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE and "Retry-After" in answer.headers:
        return "unavailable", []
    if answer.status_code == httpx.codes.NOT_FOUND:
        return "wrong", ["404: an item whose write was answered is not there"]
    if answer.status_code not in (200, 201):
        return "failed", [f"{answer.status_code} {answer.text[:200]}"]
    faults = check(answer.json())
    return ("wrong" if faults else "done"), faults


def lost_writes(client: Client, known: Known) -> list[str]:
    """Of a client's items, those that are not as their last answered write said, by each replica.

    To be called when the load has ended and all is well.
    """
    lost = []
    for item_id, own in client.items.items():
        if own.state is State.UNKNOWN:
            continue
        for address in known.addresses:
            answer = httpx.get(f"http://{address}/v1/items/{item_id}", timeout=60, trust_env=False)
            there = answer.status_code == httpx.codes.OK
            if there != (own.state is State.THERE) or (there and answer.json()["metadata"].get("lot") != own.lot):
                lost.append(f"{item_id}, {own.state.value} in lot {own.lot}: {answer.status_code} {answer.text[:120]}")
    return lost


def variant(photo: bytes, seed: str) -> bytes:
    """Another photo of what this one shows: mirrored or not, cut a little, lighter or darker. JPEG."""
    draw = random.Random(seed)  # noqa: S311 - not for secrets
    with Image.open(io.BytesIO(photo)) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    width, height = image.size
    left, top, right, bottom = (draw.uniform(0.02, 0.12) for _ in range(4))
    image = image.crop((int(left * width), int(top * height), int((1 - right) * width), int((1 - bottom) * height)))
    if draw.random() < 0.5:
        image = ImageOps.mirror(image)
    image = ImageEnhance.Brightness(image).enhance(draw.uniform(0.8, 1.2))
    with io.BytesIO() as file:
        image.save(file, "JPEG", quality=90)
        return file.getvalue()
