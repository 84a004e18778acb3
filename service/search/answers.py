"""Turns results into answers: the same JSON for HTTP and for `threadmatch search --json`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from urllib.parse import quote

from threadmatch.indexer.reading.columns import Column
from threadmatch.indexer.reading.gallery import Gallery, Item
from threadmatch.indexer.reading.listing import Place
from threadmatch.model.attributes.values import PREDICTED, Predicted
from threadmatch.model.features import ATTRIBUTES, in_common
from threadmatch.model.images import Box
from threadmatch.service.http.schemas.answers import GalleryStamp, ModelStamp
from threadmatch.service.http.schemas.gallery import (
    AttributeAnswer,
    ColumnAnswer,
    GalleryAnswer,
    ItemAnswer,
    ItemsAnswer,
    ListedItem,
)
from threadmatch.service.http.schemas.matches import (
    AttributeMatchAnswer,
    DuplicateAnswer,
    EvidenceAnswer,
    HeatmapsAnswer,
    MatchAnswer,
    PredictedAnswer,
    QueryAnswer,
    SearchAnswer,
    ViewAnswer,
)
from threadmatch.service.queues.served_model import ServedModel
from threadmatch.service.search.results import AttributeMatch, EvidenceBoxes, Heatmaps, Match, SearchResult


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
        query=QueryAnswer(width=result.width, height=result.height, box=edges(result.box)),
        matches=[_match(match, gallery, link) for match in result.matches],
        no_match=result.no_match,
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
    name: str, gallery: Gallery, model: ServedModel, *, newer_refused: str | None, feedback: bool
) -> GalleryAnswer:
    """The answer to GET /v1/gallery."""
    return GalleryAnswer(
        name=name,
        generation=gallery.generation,
        items=gallery.item_count,
        unfolded=gallery.current.changes.pending,
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
    return f"/v1/items/{quote(item_id, safe='')}/image{in_gallery(gallery)}"


def in_gallery(gallery: str | None) -> str:
    """The end of a link into a gallery: `?gallery=women`, or nothing for the default one."""
    return "" if gallery is None else f"?gallery={quote(gallery, safe='')}"


def edges(box: Box) -> tuple[float, float, float, float]:
    """A box as the four numbers of the answers."""
    return (box.x0, box.y0, box.x1, box.y1)


def _column(column: Column) -> ColumnAnswer:
    values = None if column.values is None else list(column.values)
    return ColumnAnswer(
        name=column.name,
        kind=column.kind,
        predicted=column.name.startswith(PREDICTED),
        values=values,
        min=column.low,
        max=column.high,
    )


def _attributes(gallery: Gallery, model: ServedModel) -> list[AttributeAnswer]:
    """Those that model and gallery have."""
    kept = {spec.name for spec in in_common(gallery.features, model.features)}
    known = model.attributes.attributes if model.attributes is not None and ATTRIBUTES in kept else ()
    return [AttributeAnswer(name=attribute.name, values=list(attribute.values)) for attribute in known]


def _match(match: Match, gallery: str | None, link: Callable[[str], Heatmaps] | None) -> MatchAnswer:
    heatmaps = match.heatmaps
    if heatmaps is None and match.evidence is not None and link is not None:
        heatmaps = link(match.item.id)
    return MatchAnswer(
        rank=match.rank,
        id=match.item.id,
        product_id=match.item.product_id,
        score=match.score,
        stage=match.stage,
        probability=match.probability,
        stage1_rank=match.stage1_rank,
        distance=match.distance,
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
        attributes=None if match.attributes is None else [_attribute(own) for own in match.attributes],
        plain_rank=match.plain_rank,
        heatmaps=None if heatmaps is None else HeatmapsAnswer(query=heatmaps.query, item=heatmaps.item),
    )


def _attribute(own: AttributeMatch) -> AttributeMatchAnswer:
    def predicted(said: Predicted | None) -> PredictedAnswer | None:
        return None if said is None else PredictedAnswer(value=said.value, probability=said.probability)

    return AttributeMatchAnswer(
        name=own.name,
        weight=own.weight,
        similarity=own.similarity,
        predicted_query=predicted(own.query),
        predicted_item=predicted(own.item),
    )


def _view(match: Match, gallery: str | None) -> ViewAnswer:
    return ViewAnswer(
        id=match.item.id,
        image_url=image_url(match.item.id, gallery),
        score=match.score,
        stage=match.stage,
        probability=match.probability,
        stage1_rank=match.stage1_rank,
        distance=match.distance,
    )


def _evidence(pairs: list[EvidenceBoxes] | None) -> list[EvidenceAnswer] | None:
    if pairs is None:
        return None
    return [
        EvidenceAnswer(
            scale=pair.scale,
            query_box=edges(pair.query_box),
            item_box=edges(pair.item_box),
            weight=pair.weight,
            edge=pair.edge,
            contribution=pair.contribution,
        )
        for pair in pairs
    ]


def _heatmap_links(request_id: str, item_id: str, gallery: str | None) -> Heatmaps:
    address = f"/v1/search/{request_id}/matches/{quote(item_id, safe='')}/heatmap.png{in_gallery(gallery)}"
    joined = "&" if gallery is not None else "?"
    return Heatmaps(query=f"{address}{joined}side=query", item=f"{address}{joined}side=item")
