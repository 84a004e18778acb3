"""The search itself, without HTTP: photo in, ranked matches out. The service and `threadmatch search` both run this.

    decode  ->  encode  ->  shortlist  ->  (gather  ->  score) for each stage of the chain  ->  pick
    threads     model       threads         threads     model                                   threads

A stage permutes the head of the shortlist and touches nothing else (`model.chain.Ranking` checks that). One search
reads one generation of the gallery from shortlist to metadata, whatever moves meanwhile.

Letters  N candidates, E embedding size
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from threadmatch.indexer.errors import DamagedItemError
from threadmatch.indexer.reading.duplicates import Duplicates, Verdicts
from threadmatch.indexer.reading.gallery import Candidate, Gallery, Item, Snapshot
from threadmatch.model.chain import Chain, Ranking
from threadmatch.model.features import ATTRIBUTES, EMBEDDING
from threadmatch.model.images import Box, PreparedImage, display_photo
from threadmatch.model.matching import Floats, Items, Photo, as_explaining
from threadmatch.service.config import DEFAULT_GALLERY
from threadmatch.service.http.schemas.search import SearchOptions
from threadmatch.service.queues.model_queues import ModelQueues, Pairs
from threadmatch.service.search.asking import stages_of
from threadmatch.service.search.by_attributes import AskedAttributes, asked_attributes, with_attributes
from threadmatch.service.search.detecting import WHOLE, looks_for_garments, prepare_best
from threadmatch.service.search.explaining import EVIDENCE_PAIRS, with_evidence, with_inline_heatmaps
from threadmatch.service.search.picking import pick
from threadmatch.service.search.results import Match, QueryView, SearchResult
from threadmatch.service.watching import tracing

logger = logging.getLogger(__name__)

DAMAGED_MAX: Final = 10_000
"""Damaged items that are told apart; more are not counted."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A shortlist, in one generation of the gallery."""

    snapshot: Snapshot
    candidates: list[Candidate]
    items: list[Item]


@dataclass(slots=True)
class _Stages:
    """How a shortlist was reordered: the order, and the features of the items that the last stage was given.

    `attributes` are (N, A, D) of all candidates, None unless attributes are asked for.
    """

    ranking: Ranking
    last_head: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    last_items: Items = field(default_factory=dict)
    attributes: Floats | None = None

    def items_at(self, places: list[int]) -> Items:
        """The last stage's features of these places, all of them among those it was given."""
        at = [int(np.flatnonzero(self.last_head == place)[0]) for place in places]
        return {name: values[at] for name, values in self.last_items.items()}


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
        self.damaged: set[str] = set()  # ids of items that a search met and could not read; at most DAMAGED_MAX

    async def search(self, photo: bytes, options: SearchOptions) -> SearchResult:
        """Find the garment of a photo.

        Args:
            photo: an image file's bytes.
            options: already checked (`service.http.search_form.check_together`).

        Raises:
            InvalidFieldError: what the model cannot do. InvalidImageError: the photo or the box.
            FilterError: the filter.
            OverloadedError, ModelFailedError, StoppedError: see `service.queues.batching`.
        """
        with self.admitted(options):
            return await self.search_admitted(photo, options)

    def fitting(self, options: SearchOptions) -> int:
        """How many such searches the candidates in progress allow at a time, at least one."""
        return max(1, self.queues.pairs.share // self._candidates(options))

    @contextlib.contextmanager
    def admitted(self, options: SearchOptions, *, searches: int = 1) -> Iterator[None]:
        """Hold the candidates of so many searches while the block runs.

        Raises:
            OverloadedError: others hold too many; StoppedError: the end has begun.
        """
        with self.queues.in_progress(), self.queues.pairs.take(searches * self._candidates(options)):
            yield

    def stages(self, options: SearchOptions) -> Chain:
        """The chain of a search in this gallery; InvalidFieldError for what model or gallery cannot do."""
        return stages_of(options, self.model, self.gallery.features)

    def _note_damaged(self, error: DamagedItemError) -> None:
        if error.item_id not in self.damaged and len(self.damaged) < DAMAGED_MAX:
            logger.error("damaged item left out", extra={"item": error.item_id, "reason": str(error)})
            self.damaged.add(error.item_id)
            self.metrics.gallery_damaged.labels(self.name).set(len(self.damaged))

    def _candidates(self, options: SearchOptions) -> int:
        return min(options.shortlist, max(1, self.gallery.item_count))

    async def search_admitted(self, photo: bytes, options: SearchOptions) -> SearchResult:
        """`search` inside of `admitted`."""
        chain = self.stages(options)
        asked = asked_attributes(options, self.model, self.gallery.features)
        started = time.perf_counter()
        timings: dict[str, float] = {}
        with _timed(timings, "decode"):
            prepared, crop = await self._unpacked(photo, options.box)
        with _timed(timings, "encode"):
            query = await self.queues.encoder.submit(prepared.pixels)
        with _timed(timings, "shortlist") as span:
            found = await self.queues.run_in(self.queues.readers, self._shortlist, query, options)
            span.set(
                {"threadmatch.candidates": len(found.candidates), "threadmatch.generation": found.snapshot.generation}
            )
        found, stages = await self._reordered(
            found, query, () if asked and asked.alone else chain, timings, asked=asked
        )
        judged = self.model.judge(stages.ranking, items=found.snapshot.item_count)
        plain = stages.ranking.order.copy()
        if asked is not None:
            with _timed(timings, ATTRIBUTES):
                await self.queues.run_in(self.queues.readers, _weigh, found, stages, query, asked)
        with _timed(timings, "pick"):
            matches = await self.queues.run_in(
                self.queues.readers, self._pick, found, stages.ranking, judged.probabilities, options
            )
        if asked is not None and stages.attributes is not None and matches:
            shown = stages.attributes[[match.stage1_rank - 1 for match in matches]]
            told = await self.queues.run_in(self.queues.readers, asked.told, query[ATTRIBUTES], shown)
            matches = with_attributes(matches, told, plain)
        if options.explain and matches:
            with _timed(timings, "explain"):
                matches = await self._explained(matches, query, stages, prepared.box, options)
        view = self._view(crop, query, chain) if crop else None
        timings["total"] = 1000 * (time.perf_counter() - started)
        timings = {stage: round(milliseconds, 3) for stage, milliseconds in timings.items()}
        self.metrics.observe_stages(timings)
        result = SearchResult(
            width=prepared.width,
            height=prepared.height,
            box=prepared.box,
            matches=matches,
            no_match=not matches or judged.says_no_match,
            candidates=len(found.candidates),
            timings_ms=timings,
            generation=found.snapshot.generation,
            gallery_items=found.snapshot.item_count,
            view=view,
        )
        self._count(result)
        return result

    # Stages, in the order of a search.

    async def _unpacked(self, photo: bytes, box: str | None) -> tuple[PreparedImage, bytes]:
        """What the model sees of the photo, and a JPEG of the searched part where searches are remembered."""
        keep = self.capacity.keep_views
        if looks_for_garments(self.queues, box):
            prepared, image = await prepare_best(self.queues, photo)
            crop = await self.queues.run_in(self.queues.readers, display_photo, image, prepared.box) if keep else b""
            return prepared, crop
        asked = None if box == WHOLE else box
        found = await self.queues.decoding.photo(photo, box=asked, show="box" if keep else "nothing")
        return found.prepared, found.shown

    def _shortlist(self, query: Photo, options: SearchOptions) -> _Found:
        snapshot = self.gallery.current
        embedding = np.asarray(query[EMBEDDING], np.float32)
        candidates = snapshot.shortlist(embedding, options.shortlist, filter=options.filter)
        return _Found(snapshot, candidates, snapshot.items(candidates))

    async def _reordered(
        self,
        found: _Found,
        query: Photo,
        chain: Chain,
        timings: dict[str, float],
        *,
        asked: AskedAttributes | None,
    ) -> tuple[_Found, _Stages]:
        """Let the chain go over the shortlist; an item whose features are damaged is left out of it."""
        while True:
            try:
                stages = await self._through(found, query, chain, timings)
                if asked is not None:
                    with _timed(timings, "gather"):
                        stages.attributes = await self.queues.run_in(self.queues.readers, _attributes_of, found)
                return found, stages
            except DamagedItemError as error:  # one bad row must not take down every search that meets it
                self._note_damaged(error)
                kept = [place for place, item in enumerate(found.items) if item.id != error.item_id]
                assert len(kept) < len(found.items), "the damaged item is one of those asked for"
                found = _Found(
                    found.snapshot, [found.candidates[place] for place in kept], [found.items[place] for place in kept]
                )

    async def _through(self, found: _Found, query: Photo, chain: Chain, timings: dict[str, float]) -> _Stages:
        stages = _Stages(Ranking(len(found.candidates)))
        for name in ("gather", "rerank"):
            timings[name] = 0.0
        for stage in chain:
            matcher = self.model.matchers[stage.matcher]
            head = stages.ranking.head(stage.takes(len(found.candidates)))
            if not len(head):
                break
            with _timed(timings, "gather") as span:
                span.set({"threadmatch.candidates": len(head)})
                items = await self.queues.run_in(self.queues.readers, _gathered, found, head, matcher.needs)
            photo = {name: query[name] for name in matcher.needs}
            before = timings["rerank"]
            with _timed(timings, "rerank") as span:
                span.set({"threadmatch.matcher": stage.matcher})
                scores = await self.queues.reranker.submit(Pairs(stage.matcher, photo, items, len(head)))
            timings[stage.matcher] = timings.get(stage.matcher, 0.0) + timings["rerank"] - before
            stages.last_head, stages.last_items = head.copy(), items
            stages.ranking.rerank(stage.matcher, scores)
        return stages

    def _pick(
        self, found: _Found, ranking: Ranking, probabilities: NDArray[np.float32], options: SearchOptions
    ) -> list[Match]:
        twin = None
        if options.collapse_duplicates:
            twin = Duplicates(found.snapshot, found.candidates, found.items, self._verdicts).twin
        return pick(
            found.candidates, found.items, ranking=ranking, probabilities=probabilities, options=options, twin=twin
        )

    async def _explained(
        self, matches: list[Match], query: Photo, stages: _Stages, searched: Box, options: SearchOptions
    ) -> list[Match]:
        """The matches that the last stage scored, with what decided them; the others as they are."""
        matcher = as_explaining(self.model.matchers[self.stages(options)[-1].matcher])
        assert matcher is not None, "explain with another matcher is refused before"
        reached = set(stages.last_head.tolist())
        scored = [match for match in matches if match.stage1_rank - 1 in reached]
        places = [match.stage1_rank - 1 for match in scored]
        items = stages.items_at(places)
        # A matcher that compares items with one another explains what it scored: all of them together.
        shown = items if matcher.pointwise else stages.last_items
        told_all = await self.queues.explainer.submit(partial(matcher.evidence, query, shown, top=EVIDENCE_PAIRS))
        if not matcher.pointwise:
            told_all = [told_all[int(np.flatnonzero(stages.last_head == place)[0])] for place in places]
        told = with_evidence(scored, told_all, matcher.region_boxes(), searched)
        if options.heatmaps == "inline":
            told = await with_inline_heatmaps(self.queues, matcher, told, query, items, searched)
        explained = {match.stage1_rank: match for match in told}
        return [explained.get(match.stage1_rank, match) for match in matches]

    def _view(self, crop: bytes, query: Photo, chain: Chain) -> QueryView:
        """What is kept for heat maps: of the last matcher that explains, of the model's own chain where none does."""
        named = [stage.matcher for stage in (*self.model.chain, *chain)]
        able = [name for name in named if self.model.matchers[name].explains]
        needs = self.model.matchers[able[-1]].needs if able else ()
        features = {name: query[name].astype(np.float16) for name in needs}
        return QueryView(crop, features, able[-1] if able else None)

    def _count(self, result: SearchResult) -> None:
        first = result.matches[0] if result.matches else None
        self.metrics.outcomes.observe(
            result.outcome,
            gallery=self.name,
            stage1_rank=first.stage1_rank if first is not None and first.score is not None else None,
            probability=first.probability if first is not None else None,
        )


def _gathered(found: _Found, places: NDArray[np.int64], names: Iterable[str]) -> Items:
    """The named features of some candidates: (len(places), *shape) each."""
    chosen = [found.candidates[place] for place in places]
    return {name: found.snapshot.features(name, chosen) for name in names}


def _attributes_of(found: _Found) -> Floats:
    """(N, A, D) of all candidates."""
    return _gathered(found, np.arange(len(found.candidates)), (ATTRIBUTES,))[ATTRIBUTES]


def _weigh(found: _Found, stages: _Stages, query: Photo, asked: AskedAttributes) -> None:
    """Let the attributes asked for join the order."""
    assert stages.attributes is not None, "gathered with the chain's features"
    distances = np.array([candidate.distance for candidate in found.candidates], np.float64)
    asked.reorder(stages.ranking, asked.similarities(query[ATTRIBUTES], stages.attributes), distances)


@contextlib.contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[tracing.Span]:
    started = time.perf_counter()
    try:
        with tracing.span(stage) as span:
            yield span
    finally:
        timings[stage] = timings.get(stage, 0.0) + 1000 * (time.perf_counter() - started)
