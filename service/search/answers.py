"""Turns results into answers: the same JSON for HTTP and for `threadmatch search --json`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Literal
from urllib.parse import quote

from threadmatch.indexer.reading.columns import Column
from threadmatch.indexer.reading.gallery import Item
from threadmatch.indexer.reading.listing import Place
from threadmatch.indexer.reading.opened import OpenGallery
from threadmatch.model.attributes.values import PREDICTED, Predicted
from threadmatch.model.detection.proposals import Proposal
from threadmatch.model.images import Box
from threadmatch.service.http.forwarded import prefix
from threadmatch.service.http.public_address import base
from threadmatch.service.http.schemas.answers import GalleryStamp, ModelStamp
from threadmatch.service.http.schemas.detection import ProposalAnswer
from threadmatch.service.http.schemas.gallery import (
    AttributeAnswer,
    ColumnAnswer,
    GalleryAnswer,
    ItemAnswer,
    ItemsAnswer,
    ListedItem,
)
from threadmatch.service.http.schemas.matches import (
    AttributeAlikeAnswer,
    AttributeMatchAnswer,
    DuplicateAnswer,
    EvidenceAnswer,
    ExplanationAnswer,
    HeatmapsAnswer,
    MatchAnswer,
    NoteAnswer,
    PredictedAnswer,
    QueryAnswer,
    SearchAnswer,
    ViewAnswer,
)
from threadmatch.service.queues.served_model import ServedModel
from threadmatch.service.search.by_attributes import attributes_of
from threadmatch.service.search.results import (
    DIGITS,
    AttributeAlike,
    EvidenceBoxes,
    Heatmaps,
    Match,
    SearchResult,
    Told,
)

Confidence = Literal["very likely", "likely", "possible", "unlikely"]

VERY_LIKELY: Final = 0.9
LIKELY: Final = 0.6
POSSIBLE: Final = 0.25
"""Probabilities from which a match is called so."""
NO_GARMENT: Final = (
    "the photo shows no garment, or nothing at all: the closest items are listed, and none is likely. If there is one, "
    "frame it with box=x0,y0,x1,y1"
)


def search_answer(
    result: SearchResult, model: ServedModel, request_id: str, *, gallery: str | None = None, remembered: bool = False
) -> SearchAnswer:
    """The answer to one search.

    Args:
        result: of the retriever.
        model: that answered.
        request_id: of the search.
        gallery: the name that links carry; None for the default one.
        remembered: whether the search was kept, so that links to its heat maps lead somewhere.
    """
    link = partial(_heatmap_links, request_id, gallery=gallery) if remembered else None
    return SearchAnswer(
        query=_query(result),
        matches=[_match(match, gallery, link, result.no_match_below) for match in result.matches],
        no_match=result.no_match,
        no_match_reason=result.no_match_reason,
        notes=[NoteAnswer(note="NoGarment", detail=NO_GARMENT)] if result.seen.no_garment else [],
        candidates=result.candidates,
        timings_ms=result.timings_ms,
        gallery=GalleryStamp(generation=result.generation, items=result.gallery_items),
        model=model_stamp(model),
        request_id=request_id,
    )


def item_answer(
    item: Item, stamp: GalleryStamp, *, gallery: str | None = None, warnings: Sequence[str] = ()
) -> ItemAnswer:
    """The answer to GET and PUT /v1/items/{id}; `gallery` as in `search_answer`."""
    return ItemAnswer(
        id=item.id,
        product_id=item.product_id,
        width=item.width,
        height=item.height,
        box=edges(item.box),
        image_url=image_url(item.id, gallery),
        metadata=dict(item.metadata),
        gallery=stamp,
        warnings=list(warnings),
    )


def items_answer(
    items: Sequence[Item], end: Place | None, stamp: GalleryStamp, *, gallery: str | None = None
) -> ItemsAnswer:
    """One page of GET /v1/items; `gallery` as in `search_answer`."""
    listed = [
        ListedItem(
            id=item.id,
            product_id=item.product_id,
            image_url=image_url(item.id, gallery),
            metadata=dict(item.metadata),
        )
        for item in items
    ]
    return ItemsAnswer(items=listed, next=None if end is None else str(end), gallery=stamp)


def gallery_answer(
    name: str, gallery: OpenGallery, model: ServedModel, *, newer_refused: str | None, feedback: bool
) -> GalleryAnswer:
    """The answer to GET /v1/gallery."""
    return GalleryAnswer(
        name=name,
        generation=gallery.generation,
        items=gallery.item_count,
        unfolded=gallery.current.pending,
        columns=[_column(column) for column in gallery.current.described_columns()],
        attributes=_attributes(gallery, model),
        model=model_stamp(model),
        newer_refused=newer_refused,
        feedback=feedback,
    )


def model_stamp(model: ServedModel) -> ModelStamp:
    """Which model answers."""
    return ModelStamp(name=model.name, fingerprint=model.fingerprint)


def image_url(item_id: str, gallery: str | None = None) -> str:
    """Where the item's display photo is. The id is one path segment: its own slashes are encoded."""
    return f"{_start()}/v1/items/{quote(item_id, safe='')}/image{in_gallery(gallery)}"


def _start() -> str:
    """What addresses begin with: where clients reach the service, else the prefix that the request came by."""
    return base.get() or prefix.get()


def in_gallery(gallery: str | None) -> str:
    """The end of a link into a gallery: `?gallery=women`, or nothing for the default one."""
    return "" if gallery is None else f"?gallery={quote(gallery, safe='')}"


def edges(box: Box) -> tuple[float, float, float, float]:
    """A box as the four numbers of the answers."""
    return (round(box.x0, 1), round(box.y0, 1), round(box.x1, 1), round(box.y1, 1))


def proposal_answer(box: Box, proposal: Proposal) -> ProposalAnswer:
    """A garment that may be in the photo; `box` in pixels of it."""
    return ProposalAnswer(box=edges(box), score=sensible(proposal.score), label=proposal.label)


def explanation_answer(told: Told, request_id: str, *, gallery: str | None) -> ExplanationAnswer:
    """The answer to GET /v1/search/{request_id}/matches/{item_id}/explanation."""
    links = _heatmap_links(request_id, told.item_id, gallery)
    return ExplanationAnswer(
        id=told.item_id,
        matcher=told.matcher,
        evidence=_evidence(told.evidence) or [],
        evidence_before=_evidence(told.evidence_before) or [],
        attributes=[AttributeAlikeAnswer(**_alike(own)) for own in told.attributes],
        heatmaps=HeatmapsAnswer(query=links.query, item=links.item),
        request_id=request_id,
    )


def sensible(value: float) -> float:
    """A number of an answer, with as many digits as mean something."""
    return round(value, DIGITS)


def _sensible_or_none(value: float | None) -> float | None:
    return None if value is None else sensible(value)


def confidence(probability: float | None, no_match_below: float | None) -> Confidence | None:
    """A probability in a word; what the model itself would not call "no match" is possible at least."""
    if probability is None:
        return None
    if probability >= VERY_LIKELY:
        return "very likely"
    if probability >= LIKELY:
        return "likely"
    return "possible" if probability >= min(POSSIBLE, no_match_below or POSSIBLE) else "unlikely"


def _query(result: SearchResult) -> QueryAnswer:
    return QueryAnswer(
        width=result.width,
        height=result.height,
        box=edges(result.box),
        chosen_by=result.seen.chosen_by,
        garment=result.seen.garment,
        garments=[proposal_answer(box, proposal) for box, proposal in result.seen.garments],
    )


def _column(column: Column) -> ColumnAnswer:
    values = None if column.values is None else list(column.values)
    counts = None if column.counts is None else list(column.counts)
    return ColumnAnswer(
        name=column.name,
        kind=column.kind,
        predicted=column.name.startswith(PREDICTED),
        values=values,
        counts=counts,
        min=column.low,
        max=column.high,
    )


def _attributes(gallery: OpenGallery, model: ServedModel) -> list[AttributeAnswer]:
    """Those that model and gallery have."""
    known = attributes_of(model, gallery.features)
    return [
        AttributeAnswer(name=one.name, values=list(one.values)) for one in (() if known is None else known.attributes)
    ]


def _match(
    match: Match, gallery: str | None, link: Callable[[str], Heatmaps] | None, no_match_below: float | None
) -> MatchAnswer:
    heatmaps = match.heatmaps
    if heatmaps is None and match.evidence is not None and link is not None:
        heatmaps = link(match.item.id)
    return MatchAnswer(
        rank=match.rank,
        id=match.item.id,
        product_id=match.item.product_id,
        score=_sensible_or_none(match.score),
        stage=match.stage,
        probability=_sensible_or_none(match.probability),
        confidence=confidence(match.probability, no_match_below),
        stage1_rank=match.stage1_rank,
        distance=sensible(match.distance),
        image_url=image_url(match.item.id, gallery),
        metadata=dict(match.item.metadata),
        views=None if match.views is None else [_view(view, gallery) for view in match.views],
        duplicates=[
            DuplicateAnswer(
                id=same.item.id,
                product_id=same.item.product_id,
                image_url=image_url(same.item.id, gallery),
                stage1_rank=same.stage1_rank,
            )
            for same in match.duplicates
        ],
        evidence=_evidence(match.evidence),
        evidence_before=_evidence(match.evidence_before),
        attributes=None
        if match.attributes is None
        else [AttributeMatchAnswer(**_alike(own), weight=own.weight, moved=own.moved) for own in match.attributes],
        plain_rank=match.plain_rank,
        heatmaps=None if heatmaps is None else HeatmapsAnswer(query=heatmaps.query, item=heatmaps.item),
    )


def _alike(own: AttributeAlike) -> dict[str, Any]:
    """The fields of `AttributeAlikeAnswer`."""

    def predicted(said: Predicted | None) -> PredictedAnswer | None:
        return None if said is None else PredictedAnswer(value=said.value, probability=sensible(said.probability))

    return {
        "name": own.name,
        "similarity": sensible(own.similarity),
        "predicted_query": predicted(own.query),
        "predicted_item": predicted(own.item),
    }


def _view(match: Match, gallery: str | None) -> ViewAnswer:
    return ViewAnswer(
        id=match.item.id,
        image_url=image_url(match.item.id, gallery),
        score=_sensible_or_none(match.score),
        stage=match.stage,
        probability=_sensible_or_none(match.probability),
        stage1_rank=match.stage1_rank,
        distance=sensible(match.distance),
    )


def _evidence(pairs: list[EvidenceBoxes] | None) -> list[EvidenceAnswer] | None:
    if pairs is None:
        return None
    return [
        EvidenceAnswer(
            scale=pair.scale,
            query_box=edges(pair.query_box),
            item_box=edges(pair.item_box),
            weight=sensible(pair.weight),
            edge=sensible(pair.edge),
            contribution=_sensible_or_none(pair.contribution),
        )
        for pair in pairs
    ]


def _heatmap_links(request_id: str, item_id: str, gallery: str | None) -> Heatmaps:
    match = f"{_start()}/v1/search/{request_id}/matches/{quote(item_id, safe='')}"
    address = f"{match}/heatmap.png{in_gallery(gallery)}"
    joined = "&" if gallery is not None else "?"
    return Heatmaps(query=f"{address}{joined}side=query", item=f"{address}{joined}side=item")
