"""How long one search takes on this machine, as part of an evaluation: encoding one photo, and ranking for it.

A benchmark of a service under load is `threadmatch bench`; this is the share of it that the model decides.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from threadmatch.model.data.encoded import EncodedSet
from threadmatch.model.data.pairs import LabelledImage
from threadmatch.model.data.photo_reading import decoded
from threadmatch.model.evaluate.ranking import FINAL, Method, rank_encoded
from threadmatch.model.inference import Model
from threadmatch.model.matchers import named

ROUNDS: Final = 15
"""Photos that are timed; the first call of either kind is not counted."""


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
    model: Model, queries: Sequence[LabelledImage], *, candidates: int, rounds: int = ROUNDS
) -> Latency:
    """Time a model on some of the queries.

    Args:
        model: to be timed.
        queries: photos; the first few are taken.
        candidates: items that are ranked: the queries' own features stand for them, since no stage's work depends on
            what an item shows.
        rounds: photos at most.

    Raises:
        DataError: a photo cannot be read.
    """
    images = list(queries[:rounds])
    pixels = np.concatenate(list(decoded(images, image_px=model.image_px, framing=model.framing)))
    model.encode(pixels[:1])
    encoding = [_milliseconds(lambda n=n: model.encode(pixels[n : n + 1])) for n in range(len(images))]  # type: ignore[misc]
    features = model.encode(pixels)
    at = np.resize(np.arange(len(images)), candidates)
    shop = EncodedSet([images[n] for n in at], {name: values[at] for name, values in features.items()})
    chain = Method(tuple((named(model.matchers, stage.matcher), stage.items) for stage in model.chain))

    def search(n: int) -> None:
        street = EncodedSet(images[n : n + 1], {name: values[n : n + 1] for name, values in features.items()})
        rank_encoded(shop, street, {FINAL: chain}, candidates=candidates)

    search(0)
    ranking = [_milliseconds(lambda n=n: search(n)) for n in range(len(images))]  # type: ignore[misc]
    return Latency(statistics.median(encoding), statistics.median(ranking), candidates, len(images))


def _milliseconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - started)
