"""The model as all galleries share it: its one thread, the queues in front of it, and the thread pools around it.

A process has one `ModelQueues`, however many galleries it serves: their searches meet in the same batches, and the
bounds on what waits hold for all of them together.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from threadmatch.model.chain import Chain, Ranking
from threadmatch.model.detection.parsing.detector import Looked, ParserDetector
from threadmatch.model.detection.proposals import Detector, GrabCutDetector
from threadmatch.model.images import ImageLimits
from threadmatch.model.matching import Items, Matcher, Photo, Told, tell_many
from threadmatch.model.threads import torch_threads
from threadmatch.service.errors import StoppedError
from threadmatch.service.queues.batching import Budget, Limits, MicroBatcher, WorkThread
from threadmatch.service.queues.decoding import DecodeRules, Decoding
from threadmatch.service.queues.lanes import FairLane
from threadmatch.service.queues.served_model import ServedModel
from threadmatch.service.watching.metrics import Metrics

WORTH_SHARING: Final = 1.0
"""`Matcher.cost` from which on a call is shared out among threads."""

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """How much is done at once.

    Args:
        max_waiting: searches that may wait for the model.
        max_pairs: candidates that all searches in progress may hold together.
        encode_batch: photos in one call, of the encoder or of the parser.
        rerank_pairs: pairs in one model call, counted by their work: in pairs of GRNet (`Matcher.cost`).
        gallery_threads: threads that read the gallery.
        detect_threads: threads that look for garments, where that is not the model's affair.
        decode: how photos are unpacked.
        images: limits on one photo.
        keep_views: whether results carry what recent searches are kept from.
    """

    max_waiting: int = 64
    max_pairs: int = 20_000
    encode_batch: int = 8
    rerank_pairs: int = 400
    gallery_threads: int = 4
    detect_threads: int = 2
    decode: DecodeRules = field(default_factory=DecodeRules)
    images: ImageLimits = field(default_factory=ImageLimits)
    keep_views: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class ToEncode:
    """(S, S, 3) uint8 of one photo, and the features that are wanted of it; None for all."""

    pixels: NDArray[np.uint8]
    names: frozenset[str] | None


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """One photo against `count` items, through stages of a chain one after the other.

    Fields:
        stages: the first scores all items, each further one so many of the first as they stand then.
        photo, items: the features that the stages need, of both.
    """

    stages: Chain
    photo: Photo
    items: Items
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """What one stage said of n items, in the order in which it was given them, and the seconds it took."""

    told: Told
    seconds: float


class ModelQueues:
    """A model ready to be asked by many. Use as `async with ModelQueues(model) as queues:`.

    Args:
        model: encodes and scores.
        capacity: batch sizes, threads and bounds.
        metrics: where batches and failures are counted.
        detector: proposes garments; None takes the one that needs no weights.
    """

    def __init__(
        self,
        model: ServedModel,
        *,
        capacity: Capacity | None = None,
        metrics: Metrics | None = None,
        detector: Detector | None = None,
    ) -> None:
        self.model = model
        self.detector = detector or GrabCutDetector()
        self.capacity = capacity or Capacity()
        self.metrics = metrics or Metrics()
        self.thread = WorkThread("model")
        self.pairs = Budget("candidates", self.capacity.max_pairs)
        self.decoding = Decoding(model.image_px, self.capacity.images, self.capacity.decode, framing=model.framing)
        self.detecting = FairLane("detect", self.capacity.detect_threads)
        self.readers = ThreadPoolExecutor(self.capacity.gallery_threads, thread_name_prefix="gallery")
        self.encoder: MicroBatcher[ToEncode, Photo]
        self.encoder = self._batcher("encode", self._encode, self.capacity.encode_batch, lambda _: 1)
        self.reranker: MicroBatcher[Pairs, list[Scored]]
        self.reranker = self._batcher("rerank", self._rerank, self.capacity.rerank_pairs, self._work_of)
        self.parser: MicroBatcher[NDArray[np.uint8], Looked]
        self.parser = self._batcher("parse", self._parse, self.capacity.encode_batch, lambda _: 1)
        self.explainer: MicroBatcher[Callable[[], Any], Any]
        self.explainer = self._batcher("explain", _call, 1, lambda _: 1)
        self._work: set[asyncio.Future[None]] = set()  # one for each search in progress, done when it ends
        self._stopping = self._closed = False

    @property
    def batchers(self) -> tuple[MicroBatcher[Any, Any], ...]:
        """The queues in front of the model."""
        return (self.encoder, self.parser, self.reranker, self.explainer)

    async def __aenter__(self) -> ModelQueues:
        for batcher in self.batchers:
            batcher.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop(timeout_s=30.0)

    async def stop(self, timeout_s: float) -> None:
        """Refuse new searches, let those in progress end, then let go of threads. What is left hears StoppedError."""
        self._stopping = True
        started = time.monotonic()
        if self._work:
            await asyncio.wait(self._work, timeout=timeout_s)
        left_s = max(0.0, timeout_s - (time.monotonic() - started))
        await asyncio.gather(*(batcher.stop(left_s) for batcher in self.batchers))
        self._closed = True
        self.thread.close()
        self.decoding.close()
        self.detecting.close()
        self.readers.shutdown(wait=False)

    async def encode(self, pixels: NDArray[np.uint8], names: frozenset[str] | None = None) -> Photo:
        """Features of one photo, with those of others.

        Args:
            pixels: (S, S, 3) uint8.
            names: of the features that are wanted; None for all.

        Raises:
            OverloadedError, ModelFailedError, StoppedError: see `MicroBatcher.submit`.
        """
        return await self.encoder.submit(ToEncode(pixels, names))

    async def probe(self) -> None:
        """Send a blank photo and a blank pair through the real batchers; raises what a search would meet."""
        side = self.model.image_px
        photo = await self.encode(np.zeros((side, side, 3), np.uint8))
        for stage in self.model.chain:
            needs = self.model.matchers[stage.matcher].needs
            await self.reranker.submit(Pairs((stage,), photo, {name: photo[name][None] for name in needs}, 1))
        if isinstance(self.detector, ParserDetector):
            await self.parser.submit(self.detector.sized(np.zeros((side, side, 3), np.uint8)))
        self.parser.failure = self.explainer.failure = None

    @contextlib.contextmanager
    def in_progress(self) -> Iterator[None]:
        """Hold off the end of `stop` while the block runs.

        Raises:
            StoppedError: the end has begun.
        """
        if self._stopping:
            raise StoppedError("the service is shutting down; try another instance")
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._work.add(ended)
        try:
            yield
        finally:
            self._work.discard(ended)
            ended.set_result(None)

    async def run_in(self, pool: ThreadPoolExecutor, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """The result of `call` on a thread of `pool` (`readers`)."""
        if self._closed:
            raise StoppedError("the service is shutting down; try another instance")
        here = contextvars.copy_context()  # the thread's log lines carry the request's id, its spans their parent
        return await asyncio.get_running_loop().run_in_executor(pool, lambda: here.run(call, *args, **kwargs))

    # What the batchers run, on the model's thread.

    def _encode(self, asked: list[ToEncode]) -> list[Photo]:
        wanted = [one.names for one in asked if one.names is not None]
        names = frozenset().union(*wanted) if len(wanted) == len(asked) else None
        features = self.model.encode(np.stack([one.pixels for one in asked]), names)
        return [{name: values[place] for name, values in features.items()} for place in range(len(asked))]

    def _parse(self, sized: list[NDArray[np.uint8]]) -> list[Looked]:
        assert isinstance(self.detector, ParserDetector), "asked where the detector is a parser only"
        return self.detector.look(sized)

    def _work_of(self, pairs: Pairs) -> int:
        work = sum(stage.takes(pairs.count) * self.model.matchers[stage.matcher].cost for stage in pairs.stages)
        return math.ceil(work)

    def _rerank(self, asked: list[Pairs]) -> list[list[Scored]]:
        """What each stage said of each search, in order; searches with the same matcher share the model's batches."""
        rankings, scored = [Ranking(pairs.count) for pairs in asked], [list[Scored]() for _ in asked]
        for turn in range(max(len(pairs.stages) for pairs in asked)):
            going = [place for place, pairs in enumerate(asked) if turn < len(pairs.stages)]
            for name in dict.fromkeys(asked[place].stages[turn].matcher for place in going):
                started = time.perf_counter()
                mine = [place for place in going if asked[place].stages[turn].matcher == name]
                items = [_first(asked[place], rankings[place], turn) for place in mine]
                found = self._scores(self.model.matchers[name], [asked[place].photo for place in mine], items)
                seconds = time.perf_counter() - started
                for place, told in zip(mine, found, strict=True):
                    rankings[place].rerank(name, told.scores)
                    scored[place].append(Scored(told, seconds))
        return scored

    def _scores(self, matcher: Matcher, photos: list[Photo], items: list[Items]) -> list[Told]:
        with torch_threads(1) if matcher.cost < WORTH_SHARING else contextlib.nullcontext():
            found = tell_many(matcher, photos, items)
        if not all(np.isfinite(told.scores).all() for told in found):
            raise ValueError("the model gave a score that is not a finite number")
        return found

    def _batcher(
        self, name: str, run: Callable[[list[Any]], list[Any]], max_batch: int, weigh: Callable[[Any], int]
    ) -> MicroBatcher[Any, Any]:
        return MicroBatcher(
            name,
            run,
            thread=self.thread,
            limits=Limits(max_batch=max_batch, max_waiting=self.capacity.max_waiting),
            weigh=weigh,
            observe=partial(self.metrics.observe_call, name),
        )


def _first(pairs: Pairs, ranking: Ranking, turn: int) -> Items:
    """The items that a stage is given: those that stand first now."""
    if turn == 0:
        return pairs.items
    head = ranking.head(pairs.stages[turn].takes(pairs.count))
    return {name: values[head] for name, values in pairs.items.items()}


def _call(asked: list[Callable[[], Any]]) -> list[Any]:
    """Explanations of all kinds: each is a call of the model, with its arguments."""
    return [call() for call in asked]
