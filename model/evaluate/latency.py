"""How long one search takes on this machine, as part of an evaluation: encoding one photo, and ranking for it.

A benchmark of a service under load is `threadmatch bench`; this is the share of it that the model decides.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from threadmatch.model.data.encoded import EncodedSet
from threadmatch.model.data.pairs import LabelledImage
from threadmatch.model.data.photo_reading import decoded
from threadmatch.model.evaluate.ranking import FINAL, chain_of, rank_encoded
from threadmatch.model.inference import Model

ROUNDS: Final = 15
"""Photos that are timed; the first call of either kind is not counted."""

Call = Callable[[int], None]
"""Of the number of a photo."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Medians of `rounds` photos one at a time.

    Fields:
        encode_ms: a prepared photo to its features.
        rank_ms: the shortlist and every stage of the chain, over `items` items.
    """

    encode_ms: float
    rank_ms: float
    items: int
    rounds: int


def measure_latency(
    models: Mapping[str, Model], queries: Sequence[LabelledImage], *, candidates: int, rounds: int = ROUNDS
) -> dict[str, Latency]:
    """Time models on some of the queries, by turns: what else the machine does then slows all of them.

    Args:
        models: to be timed, by name.
        queries: photos; the first few are taken.
        candidates: items that are ranked: the queries' own features stand for them, since no stage's work depends on
            what an item shows.
        rounds: photos at most.

    Returns:
        By name.

    Raises:
        DataError: a photo cannot be read.
    """
    images = list(queries[:rounds])
    calls = {name: _calls(model, images, candidates) for name, model in models.items()}
    for encode, search in calls.values():  # the first call of either is not counted
        encode(0)
        search(0)
    encoding: dict[str, list[float]] = {name: [] for name in models}
    ranking: dict[str, list[float]] = {name: [] for name in models}
    for n in range(len(images)):
        for name, (encode, search) in calls.items():
            encoding[name].append(_milliseconds(encode, n))
            ranking[name].append(_milliseconds(search, n))
    return {
        name: Latency(statistics.median(encoding[name]), statistics.median(ranking[name]), candidates, len(images))
        for name in models
    }


def _calls(model: Model, images: list[LabelledImage], candidates: int) -> tuple[Call, Call]:
    """What encodes photo n, and what searches with it."""
    pixels = np.concatenate(list(decoded(images, image_px=model.image_px, framing=model.framing)))
    features = model.encode(pixels)
    at = np.resize(np.arange(len(images)), candidates)
    shop = EncodedSet([images[n] for n in at], {name: values[at] for name, values in features.items()})
    chain = chain_of(model)

    def encode(n: int) -> None:
        model.encode(pixels[n : n + 1])

    def search(n: int) -> None:
        street = EncodedSet(images[n : n + 1], {name: values[n : n + 1] for name, values in features.items()})
        rank_encoded(shop, street, {FINAL: chain}, candidates=candidates)

    return encode, search


def _milliseconds(call: Call, n: int) -> float:
    started = time.perf_counter()
    call(n)
    return 1000 * (time.perf_counter() - started)
