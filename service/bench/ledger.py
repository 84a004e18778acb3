"""What a load test may hold the service to: which writes were acknowledged, and which answers are right."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

OWN: Final = "load-"
"""How ids of items that the load test puts begin; the others are the gallery's own and never change."""
TOLERANCE: Final = 2e-3
"""Of scores and distances: batches of another size round differently."""


class State(Enum):
    """What is known of an item."""

    THERE = "there"
    GONE = "gone"
    UNKNOWN = "unknown"  # a write was sent and nothing came back: either is right


@dataclass
class Ledger:
    """Acknowledged writes. Each id is written by one client only, so the last acknowledgement is the truth."""

    states: dict[str, tuple[State, int]] = field(default_factory=dict)  # and which photo was put
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, item_id: str, state: State, photo: int) -> None:
        """Record what a write became."""
        with self.lock:
            self.states[item_id] = (state, photo)

    def acknowledged(self) -> dict[str, tuple[State, int]]:
        """The ids whose state is known."""
        with self.lock:
            return {item_id: entry for item_id, entry in self.states.items() if entry[0] is not State.UNKNOWN}


@dataclass(frozen=True, slots=True)
class Truth:
    """What one photo must find, computed without the service, over the gallery's own items.

    Fields:
        distances: of the first stage, by id.
        scores: of the second stage, by id.
        order: ids, closest first.
    """

    distances: Mapping[str, float]
    scores: Mapping[str, float]
    order: Sequence[str]


def faults_of(
    answer: Mapping[str, Any], truth: Truth, *, reranked: bool, others: tuple[str, ...] = (OWN,)
) -> list[str]:
    """What is wrong with a search's answer; empty where nothing is.

    Items whose ids begin with one of `others` come and go, so they are passed over; the gallery's own must have the
    distance and the score that they have without the service, stand in their order, and none may be missing before a
    farther one.
    """
    faults: list[str] = []
    matches = answer["matches"]
    ids = [match["id"] for match in matches]
    if len(set(ids)) != len(ids) or [match["rank"] for match in matches] != list(range(1, len(matches) + 1)):
        faults.append(f"ranks or ids repeat: {ids[:5]}")
    for match in matches:
        if match["id"].startswith(others):
            continue
        if match["id"] not in truth.distances:
            faults.append(f"{match['id']} is not in the gallery")
        elif abs(match["distance"] - truth.distances[match["id"]]) > TOLERANCE:
            faults.append(f"{match['id']}: distance {match['distance']}, expected {truth.distances[match['id']]}")
        elif reranked and abs(match["score"] - truth.scores[match["id"]]) > TOLERANCE * (1 + abs(match["score"])):
            faults.append(f"{match['id']}: score {match['score']}, expected {truth.scores[match['id']]}")
    keys = [-match["score"] if reranked else match["distance"] for match in matches]
    if any(later < earlier - TOLERANCE for earlier, later in itertools.pairwise(keys)):
        faults.append("the matches are not in order")
    if not reranked:
        own = [match["id"] for match in matches if not match["id"].startswith(others)]
        nearest = [truth.distances[item_id] for item_id in truth.order[: len(own)]]
        found = [truth.distances.get(item_id, 9.0) for item_id in own]
        if any(abs(one - other) > TOLERANCE for one, other in zip(found, nearest, strict=True)):
            faults.append(f"a nearer item is missing: found {own[:5]}, expected {list(truth.order[:5])}")
    return faults
