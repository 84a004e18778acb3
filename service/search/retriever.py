"""The search itself, without HTTP: photo in, ranked matches out. The service and `threadmatch search` both run this.

    decode  ->  encode  ->  shortlist  ->  gather  ->  rerank  ->  pick
    threads     model       threads        threads     model

Reranking permutes the shortlist and touches nothing else; `service.search.picking` checks that on its way out. One
search reads one generation of the gallery from shortlist to metadata, whatever moves meanwhile.

Letters  N candidates, R regions, C channels, S side of the model's square image, E embedding size
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from threadmatch.indexer.errors import DamagedItemError
from threadmatch.indexer.reading.duplicates import Duplicates, Verdicts
from threadmatch.indexer.reading.gallery import Candidate, Gallery, Item, Snapshot
from threadmatch.model.images import Box, DecodedImage, PreparedImage, display_photo, load_image
from threadmatch.model.inference import Floats
from threadmatch.service.config import DEFAULT_GALLERY
from threadmatch.service.http.schemas import MatcherName, SearchOptions
from threadmatch.service.queues.model_queues import ModelQueues
from threadmatch.service.search.detecting import AUTO, prepare_best
from threadmatch.service.search.explaining import EVIDENCE_PAIRS, with_evidence, with_inline_heatmaps
from threadmatch.service.search.picking import is_no_match, pick
from threadmatch.service.search.results import Match, QueryView, SearchResult
from threadmatch.service.watching import tracing

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Gathered:
    """All that one generation of the gallery says about one shortlist."""

    snapshot: Snapshot
    candidates: list[Candidate]
    items: list[Item]
    regions: NDArray[np.float16] | None  # (N, R, C); None where the first stage's order stays
    timings_ms: dict[str, float]  # shortlist, gather


class Retriever:
    """Searches one gallery with the model that all galleries share; holds nothing that needs closing.

    Args:
        gallery: of the model in `queues`.
        queues: the model, entered already.
        name: by which the counters call it.
    """

    def __init__(self, gallery: Gallery, queues: ModelQueues, *, name: str = DEFAULT_GALLERY) -> None:
        self.gallery, self.queues, self.name = gallery, queues, name
        self.model, self.metrics, self.capacity = queues.model, queues.metrics, queues.capacity
        self._verdicts = Verdicts()

    async def search(self, photo: bytes, options: SearchOptions) -> SearchResult:
        """Find the garment of a photo.

        Args:
            photo: an image file's bytes.
            options: already checked (`service.http.search_form.check_together`).

        Raises:
            InvalidImageError: the photo or the box; FilterError: the filter.
            OverloadedError, ModelFailedError, StoppedError: see `service.queues.batching`.
        """
        with self.admitted(options):
            return await self.search_admitted(photo, options)

    def fitting(self, options: SearchOptions) -> int:
        """How many such searches the candidates in progress allow at a time, at least one."""
        return max(1, self.capacity.max_pairs // self._candidates(options))

    @contextlib.contextmanager
    def admitted(self, options: SearchOptions, *, searches: int = 1) -> Iterator[None]:
        """Hold the candidates of so many searches while the block runs.

        Raises:
            OverloadedError: others hold too many; StoppedError: the end has begun.
        """
        with self.queues.in_progress(), self.queues.pairs.take(searches * self._candidates(options)):
            yield

    def _candidates(self, options: SearchOptions) -> int:
        return min(options.candidates, max(1, self.gallery.item_count))

    async def search_admitted(self, photo: bytes, options: SearchOptions) -> SearchResult:
        """`search` inside of `admitted`."""
        started = time.perf_counter()
        timings: dict[str, float] = {}
        with _timed(timings, "decode"):
            if options.box == AUTO:
                prepared, image = await prepare_best(self.queues, photo)
            else:
                prepared, image = await self.queues.run_in(self.queues.decoders, self._prepare, photo, options.box)
        # made while the model works
        crop = self.queues.decoders.submit(display_photo, image, prepared.box) if self.capacity.keep_views else None
        with _timed(timings, "encode"):
            embedding, regions = await self.queues.encoder.submit(prepared.pixels)
        found = await self.queues.run_in(self.queues.readers, self._gather, embedding, options)
        timings |= found.timings_ms
        with _timed(timings, "rerank"):
            scores = await self._scores(regions, found, options.method)
        probabilities = None
        if scores is not None and options.method == "grnet":  # only its scores are calibrated
            probabilities = self.model.probability(scores, items=found.snapshot.item_count)
        with _timed(timings, "pick"):
            matches = await self.queues.run_in(self.queues.readers, self._pick, found, scores, probabilities, options)
        if options.explain and matches:
            with _timed(timings, "explain"):
                matches = await self._explained(matches, regions, found, prepared.box, options)
        view = QueryView(await asyncio.wrap_future(crop), regions.astype(np.float16)) if crop else None
        timings["total"] = 1000 * (time.perf_counter() - started)
        timings = {stage: round(milliseconds, 3) for stage, milliseconds in timings.items()}
        self.metrics.observe_stages(timings)
        result = SearchResult(
            width=prepared.width,
            height=prepared.height,
            box=prepared.box,
            matches=matches,
            no_match=is_no_match(matches, probabilities, self.model.calibration),
            candidates=len(found.candidates),
            timings_ms=timings,
            generation=found.snapshot.generation,
            gallery_items=found.snapshot.item_count,
            view=view,
        )
        self.metrics.outcomes.observe(result, gallery=self.name)
        return result

    # Stages, in the order of a search.

    def _prepare(self, photo: bytes, box: str | None) -> tuple[PreparedImage, DecodedImage]:
        asked = Box.parse(box) if box is not None else None
        return load_image(photo, image_px=self.model.image_px, box=asked, limits=self.capacity.images)

    def _gather(self, embedding: NDArray[np.float32], options: SearchOptions) -> _Gathered:
        timings: dict[str, float] = {}
        snapshot = self.gallery.current
        with _timed(timings, "shortlist"):
            candidates = snapshot.shortlist(embedding, options.candidates, filter=options.filter)
        regions: NDArray[np.float16] | None = None
        with _timed(timings, "gather") as span:
            while options.method != "global" and candidates and regions is None:
                try:
                    regions = snapshot.regions(candidates)
                except DamagedItemError as error:  # one bad row must not take down every search that meets it
                    logger.error("damaged item left out", extra={"item": error.item_id, "reason": str(error)})
                    candidates = [candidate for candidate in candidates if candidate.id != error.item_id]
            items = snapshot.items(candidates)
            span.set({"threadmatch.candidates": len(candidates), "threadmatch.generation": snapshot.generation})
        return _Gathered(snapshot, candidates, items, regions, timings)

    async def _scores(
        self, query: NDArray[np.float32], found: _Gathered, method: MatcherName
    ) -> NDArray[np.float32] | None:
        """(N,) scores, or None where nothing is reranked."""
        if found.regions is None:
            return None
        return await self.queues.reranker.submit((method, query, found.regions))

    def _pick(
        self,
        found: _Gathered,
        scores: NDArray[np.float32] | None,
        probabilities: NDArray[np.float32] | None,
        options: SearchOptions,
    ) -> list[Match]:
        twin = None
        if options.collapse_duplicates:
            twin = Duplicates(found.snapshot, found.candidates, found.items, self._verdicts).twin
        return pick(
            found.candidates, found.items, scores=scores, probabilities=probabilities, options=options, twin=twin
        )

    async def _explained(
        self, matches: list[Match], query: Floats, found: _Gathered, searched: Box, options: SearchOptions
    ) -> list[Match]:
        assert found.regions is not None, "explain without rerank is refused before"
        candidates = found.regions[[match.stage1_rank - 1 for match in matches]]
        call = partial(self.model.evidence, query, candidates, top=EVIDENCE_PAIRS)
        explanations = await self.queues.explainer.submit(call)
        matches = with_evidence(matches, explanations, self.model.region_boxes(), searched)
        if options.heatmaps == "inline":
            matches = await with_inline_heatmaps(self.queues, matches, query, candidates, searched)
        return matches


@contextlib.contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[tracing.Span]:
    started = time.perf_counter()
    try:
        with tracing.span(stage) as span:
            yield span
    finally:
        timings[stage] = 1000 * (time.perf_counter() - started)
