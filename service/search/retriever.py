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
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from threadmatch.indexer.catalogue.garments import WHOLE
from threadmatch.indexer.errors import DamagedItemError
from threadmatch.indexer.reading.duplicates import Duplicates, Verdicts
from threadmatch.indexer.reading.gallery import Candidate, Item
from threadmatch.indexer.reading.opened import OpenGallery, OpenSnapshot
from threadmatch.model.chain import Chain, Ranking
from threadmatch.model.features import ATTRIBUTES, EMBEDDING
from threadmatch.model.images import Box, DecodedImage, PreparedImage, display_photo
from threadmatch.model.inference import Judged
from threadmatch.model.matching import Floats, Photo, as_explaining
from threadmatch.service.config import DEFAULT_GALLERY
from threadmatch.service.http.schemas.search import SearchOptions
from threadmatch.service.queues.model_queues import ModelQueues, Pairs
from threadmatch.service.search.asking import explaining, features_wanted, stages_of
from threadmatch.service.search.by_attributes import AskedAttributes, asked_attributes, with_attributes
from threadmatch.service.search.detecting import as_asked, looks_for_garments, prepare_best
from threadmatch.service.search.explaining import EVIDENCE_PAIRS, with_evidence, with_inline_heatmaps
from threadmatch.service.search.gathering import Gathered, in_one_go
from threadmatch.service.search.picking import pick
from threadmatch.service.search.results import Match, NoMatchReason, QueryView, SearchResult, Seen
from threadmatch.service.search.timing import timed

logger = logging.getLogger(__name__)

KEPT_PX: Final = 768
"""Long side at which a whole photo is kept for a search again."""
WITHOUT_GARMENT: Final = 0.02
"""Factor of all probabilities of a photo that is said to show no garment."""
DAMAGED_MAX: Final = 10_000
"""Damaged items that are told apart; more are not counted."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A shortlist, in one generation of the gallery, and what was read of its items."""

    snapshot: OpenSnapshot
    candidates: list[Candidate]
    items: list[Item]
    gathered: Gathered


@dataclass(frozen=True, slots=True)
class _Kept:
    """JPEGs of the searched part, and of the whole photo where it was unpacked whole."""

    crop: bytes
    photo: bytes = b""


@dataclass(slots=True)
class _Stages:
    """How a shortlist was reordered: the order, what was read for it, and the places that the last stage was given.

    `attributes` are (N, A, D) of all candidates, `moved` the (N, n) places that each of n moved them up; None unless
    attributes are asked for.
    """

    ranking: Ranking
    gathered: Gathered
    last_head: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    attributes: Floats | None = None
    moved: NDArray[np.int64] | None = None

    def place_of(self, place: int) -> int:
        """Where `last_head` has a place of the shortlist, one of those that the last stage was given."""
        return int(np.flatnonzero(self.last_head == place)[0])


class Retriever:
    """Searches one gallery with the model that all galleries share; holds nothing that needs closing.

    Args:
        gallery: of the model in `queues`.
        queues: the model, entered already.
        name: by which the counters call it.
    """

    def __init__(self, gallery: OpenGallery, queues: ModelQueues, *, name: str = DEFAULT_GALLERY) -> None:
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
        with timed(timings, "decode"):
            prepared, kept, seen = await self._unpacked(photo, options.box)
        with timed(timings, "encode"):
            query = await self.queues.encode(prepared.pixels, self._wanted(chain, asked))
        over = () if asked and asked.alone else chain
        with timed(timings, "shortlist") as span:
            found = await self.queues.run_in(self.queues.readers, self._shortlist, query, options, over, timings)
            span.set(
                {"threadmatch.candidates": len(found.candidates), "threadmatch.generation": found.snapshot.generation}
            )
        timings["shortlist"] -= timings["gather"]  # done in one go on one thread
        found, stages = await self._reordered(found, query, over, timings, asked=asked)
        judged = self._judged(stages.ranking, found, seen)
        plain = stages.ranking.order.copy()
        if asked is not None and found.candidates:
            with timed(timings, ATTRIBUTES):
                await self.queues.run_in(self.queues.readers, _weigh, found, stages, query, asked)
        with timed(timings, "pick"):
            matches = await self.queues.run_in(
                self.queues.readers, self._pick, found, stages.ranking, judged.probabilities, options
            )
        if asked is not None and stages.attributes is not None and stages.moved is not None and matches:
            at = [match.stage1_rank - 1 for match in matches]
            told = await self.queues.run_in(
                self.queues.readers, asked.told, query[ATTRIBUTES], stages.attributes[at], stages.moved[at]
            )
            matches = with_attributes(matches, told, plain)
        if options.explain and matches:
            with timed(timings, "explain"):
                matches = await self._explained(matches, query, stages, prepared.box, options)
        view = self._view(kept, query, chain, found, stages) if kept else None
        timings["total"] = 1000 * (time.perf_counter() - started)
        timings = {stage: round(milliseconds, 3) for stage, milliseconds in timings.items()}
        self.metrics.observe_stages(timings)
        result = SearchResult(
            width=prepared.width,
            height=prepared.height,
            box=prepared.box,
            seen=seen,
            matches=matches,
            no_match_reason=_no_match_reason(seen, matches, found, judged),
            no_match_below=judged.no_match_below,
            candidates=len(found.candidates),
            timings_ms=timings,
            generation=found.snapshot.generation,
            gallery_items=found.snapshot.item_count,
            view=view,
        )
        self._count(result)
        return result

    # Stages, in the order of a search.

    async def _unpacked(self, photo: bytes, box: str | None) -> tuple[PreparedImage, _Kept | None, Seen]:
        """What the model sees of the photo, what is kept of it where searches are remembered, and what was seen."""
        keep = self.capacity.keep_views
        if looks_for_garments(self.queues, box):
            prepared, image, seen = await prepare_best(self.queues, photo)
            kept = await self.queues.run_in(self.queues.readers, _kept, image, prepared.box) if keep else None
            return prepared, kept, seen
        asked = None if box == WHOLE else box
        found = await self.queues.decoding.photo(photo, box=asked, show="box" if keep else "nothing")
        return found.prepared, _Kept(found.shown) if keep else None, as_asked(found.prepared, box)

    def _wanted(self, chain: Chain, asked: AskedAttributes | None) -> frozenset[str]:
        wanted = features_wanted(chain, self.model, remembered=self.capacity.keep_views)
        return wanted if asked is None else wanted | {ATTRIBUTES}

    def _shortlist(self, query: Photo, options: SearchOptions, chain: Chain, timings: dict[str, float]) -> _Found:
        """The shortlist, and at once what the first stage of the chain reads of it: a thread's turn costs, too."""
        snapshot = self.gallery.current
        embedding = np.asarray(query[EMBEDDING], np.float32)
        candidates = snapshot.shortlist(embedding, options.shortlist, filter=options.filter)
        found = _Found(snapshot, candidates, snapshot.items(candidates), Gathered(snapshot, candidates))
        with timed(timings, "gather") as span:
            head = np.arange(chain[0].takes(len(candidates)) if chain else 0)
            span.set({"threadmatch.candidates": len(head)})
            if len(head):
                with contextlib.suppress(DamagedItemError):  # is met again where it can be left out
                    found.gathered.read(head, in_one_go(chain, len(candidates), self.model)[1])
        return found

    def _judged(self, ranking: Ranking, found: _Found, seen: Seen) -> Judged:
        judged = self.model.judge(ranking, items=found.snapshot.item_count)
        if seen.no_garment:
            judged = replace(judged, probabilities=judged.probabilities * WITHOUT_GARMENT)
        return judged

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
                if asked is not None and found.candidates:
                    with timed(timings, "gather"):
                        stages.attributes = await self.queues.run_in(self.queues.readers, _attributes_of, found)
                return found, stages
            except DamagedItemError as error:  # one bad row must not take down every search that meets it
                self._note_damaged(error)
                kept = [place for place, item in enumerate(found.items) if item.id != error.item_id]
                assert len(kept) < len(found.items), "the damaged item is one of those asked for"
                candidates = [found.candidates[place] for place in kept]
                items, gathered = [found.items[place] for place in kept], Gathered(found.snapshot, candidates)
                found = _Found(found.snapshot, candidates, items, gathered)

    async def _through(self, found: _Found, query: Photo, chain: Chain, timings: dict[str, float]) -> _Stages:
        count, gathered = len(found.candidates), found.gathered
        stages = _Stages(Ranking(count), gathered)
        timings["rerank"] = 0.0
        while chain and count:
            together, needs = in_one_go(chain, count, self.model)
            chain = chain[len(together) :]
            head = stages.ranking.head(together[0].takes(count)).copy()
            with timed(timings, "gather") as span:
                span.set({"threadmatch.candidates": len(head)})
                if not gathered.has(head, needs):
                    await self.queues.run_in(self.queues.readers, gathered.read, head, needs)
                items = gathered.at(head, needs)
            pairs = Pairs(together, {name: query[name] for name in needs}, items, len(head))
            before = timings["rerank"]
            with timed(timings, "rerank") as span:
                span.set({"threadmatch.matcher": ", ".join(stage.matcher for stage in together)})
                told = await self.queues.reranker.submit(pairs)
            waited = timings["rerank"] - before - 1000 * sum(each.seconds for each in told)  # the first one's, too
            for stage, each in zip(together, told, strict=True):
                timings[stage.matcher] = timings.get(stage.matcher, 0.0) + 1000 * each.seconds + waited
                waited = 0.0
                stages.last_head = stages.ranking.head(len(each.told.scores)).copy()
                stages.ranking.rerank(stage.matcher, *each.told)
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
        places = [stages.place_of(match.stage1_rank - 1) for match in scored]
        # A matcher that compares items with one another explains what it scored: all of them together.
        items = stages.gathered.at(stages.last_head, matcher.needs)
        if matcher.pointwise:
            items, places = {name: values[places] for name, values in items.items()}, list(range(len(places)))
        told_all = await self.queues.explainer.submit(partial(matcher.evidence, query, items, top=EVIDENCE_PAIRS))
        told = with_evidence(
            scored, [told_all[place] for place in places], matcher.region_boxes(), searched, encoder=self.model
        )
        if options.heatmaps == "inline":
            told = await with_inline_heatmaps(
                self.queues, matcher, told, query, items, places=places, searched=searched, encoder=self.model
            )
        explained = {match.stage1_rank: match for match in told}
        return [explained.get(match.stage1_rank, match) for match in matches]

    def _view(self, kept: _Kept, query: Photo, chain: Chain, found: _Found, stages: _Stages) -> QueryView:
        """What is kept for heat maps: of the last matcher that explains, of the model's own chain where none does."""
        name = explaining(chain, self.model)
        able = None if name is None else self.model.matchers[name]
        told = {ATTRIBUTES} & query.keys()
        if able is not None:
            told |= able.needs
        features = {name: query[name].astype(np.float16) for name in sorted(told)}
        if able is None:
            return QueryView(kept.crop, kept.photo, features, None)
        depends = not able.pointwise and bool(chain) and chain[-1].matcher == able.name
        rivals = tuple(found.items[place].id for place in stages.last_head.tolist()) if depends else ()
        return QueryView(kept.crop, kept.photo, features, able.name, rivals)

    def _count(self, result: SearchResult) -> None:
        first = result.matches[0] if result.matches else None
        self.metrics.outcomes.observe(
            result.outcome,
            gallery=self.name,
            stage1_rank=first.stage1_rank if first is not None and first.score is not None else None,
            probability=first.probability if first is not None else None,
        )


def _kept(image: DecodedImage, box: Box) -> _Kept:
    return _Kept(display_photo(image, box), display_photo(image, long_side_px=KEPT_PX))


def _no_match_reason(seen: Seen, matches: list[Match], found: _Found, judged: Judged) -> NoMatchReason | None:
    if seen.no_garment:
        return "no_garment"
    if not found.candidates:
        return "filter" if found.snapshot.item_count else "empty_gallery"
    return "improbable" if not matches or judged.says_no_match else None


def _attributes_of(found: _Found) -> Floats:
    """(N, A, D) of all candidates."""
    return np.asarray(found.snapshot.features(ATTRIBUTES, found.candidates))


def _weigh(found: _Found, stages: _Stages, query: Photo, asked: AskedAttributes) -> None:
    """Let the attributes asked for join the order."""
    assert stages.attributes is not None, "gathered with the chain's features"
    distances = np.array([candidate.distance for candidate in found.candidates], np.float64)
    similar = asked.similarities(query[ATTRIBUTES], stages.attributes)
    stages.moved = asked.reorder(stages.ranking, similar, distances)
