"""The search itself, without HTTP: photo in, ranked matches out. The service and `threadmatch search` both run this.

    decode  ->  encode  ->  shortlist  ->  gather  ->  rerank  ->  pick
    threads     model       threads        threads     model

Reranking permutes the shortlist and touches nothing else; `service.picking` checks that on its way out. One search
reads one generation of the gallery from shortlist to metadata, whatever moves meanwhile.

Letters  N candidates, R regions, C channels, S side of the model's square image, E embedding size
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from indexer.errors import DamagedItemError
from indexer.gallery import Candidate, Gallery, Item
from model.images import Box, DecodedImage, ImageLimits, PreparedImage, display_photo, load_image
from model.inference import Evidence, Floats
from service.batching import Budget, Limits, MicroBatcher, ModelThread
from service.errors import StoppedError
from service.metrics import Metrics
from service.picking import is_no_match, pick
from service.results import EvidenceBoxes, Match, Matcher, QueryView, SearchResult
from service.schemas import MatcherName, SearchOptions

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

EVIDENCE_PAIRS = 5  # pairs of regions an explanation names for each match


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """How much a retriever does at once.

    Args:
        max_waiting: searches that may wait for the model.
        max_pairs: candidates that all searches in progress may hold together.
        encode_batch: photos in one model call.
        rerank_pairs: pairs in one model call.
        decode_threads, gallery_threads: sizes of the two thread pools.
        images: limits on one photo.
        keep_views: whether results carry what recent searches are kept from.
    """

    max_waiting: int = 64
    max_pairs: int = 20_000
    encode_batch: int = 16
    rerank_pairs: int = 400
    decode_threads: int = 2
    gallery_threads: int = 4
    images: ImageLimits = field(default_factory=ImageLimits)
    keep_views: bool = False


@dataclass(frozen=True, slots=True)
class _Gathered:
    """All that one generation of the gallery says about one shortlist."""

    candidates: list[Candidate]
    items: list[Item]
    regions: NDArray[np.float16] | None  # (N, R, C); None where the first stage's order stays
    generation: str
    gallery_items: int
    seconds: tuple[float, float]  # shortlist, gather


class Retriever:
    """A model and a gallery, ready to search. Use as `async with Retriever(model, gallery) as retriever:`.

    Args:
        model: encodes and scores.
        gallery: of this model.
        capacity: batch sizes, threads and bounds.
        metrics: where batches and failures are counted.
    """

    def __init__(
        self, model: Matcher, gallery: Gallery, *, capacity: Capacity | None = None, metrics: Metrics | None = None
    ) -> None:
        self.model, self.gallery = model, gallery
        self.capacity = capacity or Capacity()
        self.metrics = metrics or Metrics()
        self.thread = ModelThread()
        self._pairs = Budget("candidates", self.capacity.max_pairs)
        self._searches: set[asyncio.Future[None]] = set()  # one for each search in progress, done when it ends
        self._stopping = self._closed = False
        self._decoders = ThreadPoolExecutor(self.capacity.decode_threads, thread_name_prefix="decode")
        self._readers = ThreadPoolExecutor(self.capacity.gallery_threads, thread_name_prefix="gallery")
        self._encoder: MicroBatcher[NDArray[np.uint8], tuple[NDArray[np.float32], NDArray[np.float32]]]
        self._encoder = self._batcher("encode", self._encode, self.capacity.encode_batch, lambda _: 1)
        self._reranker: MicroBatcher[tuple[MatcherName, Floats, Floats], NDArray[np.float32]]
        self._reranker = self._batcher("rerank", self._rerank, self.capacity.rerank_pairs, lambda asked: len(asked[2]))
        self._explainer: MicroBatcher[tuple[Floats, Floats], list[list[Evidence]]]
        self._explainer = self._batcher("explain", self._explain, 1, lambda _: 1)

    @property
    def batchers(self) -> tuple[MicroBatcher[Any, Any], ...]:
        """The queues in front of the model."""
        return (self._encoder, self._reranker, self._explainer)

    async def __aenter__(self) -> Retriever:
        for batcher in self.batchers:
            batcher.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop(timeout_s=30.0)

    async def stop(self, timeout_s: float) -> None:
        """Refuse new searches, let those in progress end, then let go of threads. What is left hears StoppedError."""
        self._stopping = True
        started = time.monotonic()
        if self._searches:
            await asyncio.wait(self._searches, timeout=timeout_s)
        left_s = max(0.0, timeout_s - (time.monotonic() - started))
        await asyncio.gather(*(batcher.stop(left_s) for batcher in self.batchers))
        self._closed = True
        self.thread.close()
        self._decoders.shutdown(wait=False)
        self._readers.shutdown(wait=False)

    async def search(self, photo: bytes, options: SearchOptions) -> SearchResult:
        """Find the garment of a photo.

        Args:
            photo: an image file's bytes.
            options: already checked (`service.forms.check_together`).

        Raises:
            InvalidImageError: the photo or the box; FilterError: the filter.
            OverloadedError, ModelFailedError, StoppedError: see `service.batching`.
        """
        started = time.perf_counter()
        timings: dict[str, float] = {}
        with self._in_progress(), self._pairs.take(min(options.candidates, max(1, self.gallery.item_count))):
            with _timed(timings, "decode"):
                prepared, image = await self._in(self._decoders, self._prepare, photo, options.box)
            # made while the model works
            crop = self._decoders.submit(display_photo, image, prepared.box) if self.capacity.keep_views else None
            with _timed(timings, "encode"):
                embedding, regions = await self._encoder.submit(prepared.pixels)
            found = await self._in(self._readers, self._gather, embedding, options)
            timings["shortlist"], timings["gather"] = (1000 * seconds for seconds in found.seconds)
            with _timed(timings, "rerank"):
                scores = await self._scores(regions, found, options.method)
            probabilities = None
            if scores is not None and options.method == "grnet":  # only its scores are calibrated
                probabilities = self.model.probability(scores, items=found.gallery_items)
            matches = pick(found.candidates, found.items, scores=scores, probabilities=probabilities, options=options)
            if options.explain and matches:
                with _timed(timings, "explain"):
                    matches = await self._explained(matches, regions, found, prepared)
            view = QueryView(await asyncio.wrap_future(crop), regions.astype(np.float16)) if crop else None
        timings["total"] = 1000 * (time.perf_counter() - started)
        timings = {stage: round(milliseconds, 3) for stage, milliseconds in timings.items()}
        self.metrics.observe_stages(timings)
        return SearchResult(
            width=prepared.width,
            height=prepared.height,
            box=prepared.box,
            matches=matches,
            no_match=is_no_match(matches, probabilities, self.model.calibration),
            candidates=len(found.candidates),
            timings_ms=timings,
            generation=found.generation,
            gallery_items=found.gallery_items,
            view=view,
        )

    async def probe(self) -> None:
        """Send a blank photo and a blank pair through the real batchers; raises what a search would meet."""
        side = self.model.image_px
        _, regions = await self._encoder.submit(np.zeros((side, side, 3), np.uint8))
        await self._reranker.submit(("grnet", regions, regions[None]))
        self._explainer.failure = None

    # Stages, in the order of a search.

    def _prepare(self, photo: bytes, box: str | None) -> tuple[PreparedImage, DecodedImage]:
        asked = Box.parse(box) if box is not None else None
        return load_image(photo, image_px=self.model.image_px, box=asked, limits=self.capacity.images)

    def _encode(self, pixels: list[NDArray[np.uint8]]) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        features = self.model.encode(np.stack(pixels))
        return list(zip(features.embeddings, features.regions, strict=True))

    def _gather(self, embedding: NDArray[np.float32], options: SearchOptions) -> _Gathered:
        started = time.perf_counter()
        snapshot = self.gallery.current
        candidates = snapshot.shortlist(embedding, options.candidates, filter=options.filter)
        listed = time.perf_counter()
        regions: NDArray[np.float16] | None = None
        while options.method != "global" and candidates and regions is None:
            try:
                regions = snapshot.regions(candidates)
            except DamagedItemError as error:  # one bad row must not take down every search that meets it
                logger.error("damaged item left out", extra={"item": error.item_id, "reason": str(error)})
                candidates = [candidate for candidate in candidates if candidate.id != error.item_id]
        items = snapshot.items(candidates)
        seconds = (listed - started, time.perf_counter() - listed)
        return _Gathered(candidates, items, regions, snapshot.generation, snapshot.item_count, seconds)

    async def _scores(
        self, query: NDArray[np.float32], found: _Gathered, method: MatcherName
    ) -> NDArray[np.float32] | None:
        """(N,) scores, or None where nothing is reranked."""
        if found.regions is None:
            return None
        return await self._reranker.submit((method, query, found.regions))

    def _rerank(self, asked: list[tuple[MatcherName, Floats, Floats]]) -> list[NDArray[np.float32]]:
        """The scores of each search, in order; searches with the same matcher share the model's batches."""
        scored: dict[int, NDArray[np.float32]] = {}
        for method, score_many in (("grnet", self.model.score_many), ("greedy", self.model.greedy_many)):
            places = [place for place, (matcher, _, _) in enumerate(asked) if matcher == method]
            if places:
                scores = score_many([asked[place][1] for place in places], [asked[place][2] for place in places])
                scored.update(zip(places, scores, strict=True))
        if not all(np.isfinite(scores).all() for scores in scored.values()):
            raise ValueError("the model gave a score that is not a finite number")
        return [scored[place] for place in range(len(asked))]

    async def _explained(
        self, matches: list[Match], query: NDArray[np.float32], found: _Gathered, prepared: PreparedImage
    ) -> list[Match]:
        assert found.regions is not None, "explain without rerank is refused before"
        places = [match.stage1_rank - 1 for match in matches]
        evidence = await self._explainer.submit((query, found.regions[places]))
        regions = self.model.region_boxes()  # (R, 4) in 0..1 of the crop
        return [
            Match(
                rank=match.rank,
                item=match.item,
                score=match.score,
                probability=match.probability,
                stage1_rank=match.stage1_rank,
                distance=match.distance,
                evidence=[
                    EvidenceBoxes(
                        pair.scale,
                        _in_pixels(regions[pair.query_region], prepared.box),
                        _in_pixels(regions[pair.item_region], match.item.box),
                        pair.weight,
                    )
                    for pair in pairs
                ],
            )
            for match, pairs in zip(matches, evidence, strict=True)
        ]

    def _explain(self, asked: list[tuple[Floats, Floats]]) -> list[list[list[Evidence]]]:
        return [self.model.evidence(query, candidates, top=EVIDENCE_PAIRS) for query, candidates in asked]

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

    @contextlib.contextmanager
    def _in_progress(self) -> Iterator[None]:
        if self._stopping:
            raise StoppedError("the service is shutting down; try another instance")
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._searches.add(ended)
        try:
            yield
        finally:
            self._searches.discard(ended)
            ended.set_result(None)

    async def _in(self, pool: ThreadPoolExecutor, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        if self._closed:
            raise StoppedError("the service is shutting down; try another instance")
        return await asyncio.get_running_loop().run_in_executor(pool, lambda: call(*args, **kwargs))


def _in_pixels(region: NDArray[np.float32], crop: Box) -> Box:
    """A region in 0..1 of a crop as a box in pixels of the image that was cropped."""
    width, height = crop.x1 - crop.x0, crop.y1 - crop.y0
    x0, y0, x1, y1 = (float(edge) for edge in region)
    return Box(crop.x0 + x0 * width, crop.y0 + y0 * height, crop.x0 + x1 * width, crop.y0 + y1 * height)


@contextlib.contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        timings[stage] = 1000 * (time.perf_counter() - started)
