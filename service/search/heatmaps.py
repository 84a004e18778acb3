"""What decided a match of an earlier search, made when somebody asks to see it: pairs of regions, and heat maps."""

from __future__ import annotations

from functools import partial
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from threadmatch.indexer.errors import DamagedItemError, ItemNotFoundError
from threadmatch.model.detection.ground import without_ground
from threadmatch.model.detection.parsing.detector import ParserDetector
from threadmatch.model.detection.plain import plain_ground
from threadmatch.model.explain import Side
from threadmatch.model.features import ATTRIBUTES
from threadmatch.model.images import (
    DISPLAY_PHOTO_PX,
    Box,
    DecodedImage,
    decode_image,
    display_size,
    part_seen,
    prepare_for,
)
from threadmatch.model.matching import ExplainingMatcher, Floats, GradCam, Items, as_explaining, as_photo
from threadmatch.service.errors import InvalidFieldError, SearchNotFoundError
from threadmatch.service.search.by_attributes import attributes_alike, attributes_of
from threadmatch.service.search.explaining import EVIDENCE_PAIRS, evidence_boxes, share
from threadmatch.service.search.heat_picture import overlay
from threadmatch.service.search.recent_searches import RecentSearch
from threadmatch.service.search.results import AttributeAlike, Told
from threadmatch.service.search.retriever import Retriever

Method = Literal["graph", "gradcam", "attention"]
LEAST_KEPT: Final = 0.05
"""Share of a photo below which what is left of it is a mistake."""


async def heatmap(
    retriever: Retriever,
    search: RecentSearch,
    item_id: str,
    *,
    side: Side,
    method: Method,
    attribute: str | None = None,
    clear_ground: bool = False,
) -> bytes:
    """Paint what decided a match, or where an attribute is seen.

    Args:
        retriever: of the gallery that was searched.
        search: as it was remembered.
        item_id: of one of its matches.
        side: the photo to paint: the searched part of the query, or the item's whole display photo.
        method: "graph" paints the contributions of regions, "gradcam" the gradient of the score on the last map,
            "attention" where the model looks for an attribute.
        attribute: of "attention".
        clear_ground: leave the background clear, where it can be told from what stands before it.

    Returns:
        PNG with transparency, of the proportions of the photo it lies on.

    Raises:
        SearchNotFoundError: the item was not among the answered matches, another model answered, or none that can
            explain.
        InvalidFieldError: the matcher that decided has no Grad-CAM; the model has no such attribute, or one is named
            with another method.
        ItemNotFoundError, DamagedItemError: the item is gone, or cannot be read.
        OverloadedError, ModelFailedError, StoppedError: see `service.queues.batching`.
    """
    queues, snapshot = retriever.queues, retriever.gallery.current
    sought = _attribute(retriever, method, attribute)
    with queues.in_progress():
        if item_id not in search.item_ids:
            raise _not_answered(search, item_id)
        item = await queues.run_in(queues.readers, snapshot.item, item_id)
        if sought is not None:
            pixels = await queues.run_in(queues.readers, _pixels, retriever, search, item_id, side)
            heat = await queues.explainer.submit(partial(retriever.model.attention, pixels, sought))
        else:
            heat = await _decided(retriever, search, item_id, side=side, method=method)
        if side == "query":
            size, shown, searched = display_size(search.box.width, search.box.height), search.box, search.box
        else:
            size, shown, searched = display_size(item.width, item.height), Box(0, 0, item.width, item.height), item.box
        inside = share(part_seen(retriever.model, searched), shown)
        kept = await _kept(retriever, search, item_id, side) if clear_ground else None
        return await queues.run_in(queues.readers, overlay, heat, size, inside=inside, kept=kept)


def _attribute(retriever: Retriever, method: Method, attribute: str | None) -> str | None:
    """The attribute to look for; None where another method is asked for.

    Raises:
        InvalidFieldError: see `heatmap`.
    """
    if method != "attention":
        if attribute is not None:
            raise InvalidFieldError(f"attribute goes with method=attention, found method={method}")
        return None
    known = retriever.model.attributes.names if retriever.model.attributes is not None else ()
    if attribute not in known:
        found = "none" if attribute is None else repr(attribute[:80])
        raise InvalidFieldError(f"attribute is {found}; method=attention needs one of {', '.join(known) or 'none'}")
    return attribute


async def _decided(
    retriever: Retriever, search: RecentSearch, item_id: str, *, side: Side, method: Method
) -> NDArray[np.float32]:
    """(h, w), what decided a match."""
    queues = retriever.queues
    matcher = matcher_of(retriever, search, item_id)
    shown, place = await queues.run_in(queues.readers, scored_together, retriever, search, matcher, item_id)
    heat: NDArray[np.float32]
    if method == "graph":
        both = await queues.explainer.submit(partial(matcher.heat, search.features, shown))
        heat = both[0 if side == "query" else 1][place]
        return heat
    pixels = await queues.run_in(queues.readers, _pixels, retriever, search, item_id, side)
    if not isinstance(matcher, GradCam):
        raise InvalidFieldError(
            f"method=gradcam: {matcher.name} decided that search and has no Grad-CAM; its heat maps are exact "
            "contributions: ask for method=graph"
        )
    other = as_photo(shown, place) if side == "query" else search.features
    heat = await queues.explainer.submit(partial(matcher.grad_cam, pixels, other, side=side))
    return heat


def _not_answered(search: RecentSearch, item_id: str) -> SearchNotFoundError:
    return SearchNotFoundError(f"{item_id[:80]!r} was not among the {len(search.item_ids)} matches of that search")


async def explanation(retriever: Retriever, search: RecentSearch, item_id: str) -> Told:
    """The pairs of regions that decided a match.

    Raises:
        SearchNotFoundError, ItemNotFoundError, DamagedItemError, OverloadedError, ModelFailedError, StoppedError: as
            for `heatmap`.
    """
    queues, snapshot = retriever.queues, retriever.gallery.current
    with queues.in_progress():
        matcher = matcher_of(retriever, search, item_id)
        item = await queues.run_in(queues.readers, snapshot.item, item_id)
        shown, place = await queues.run_in(queues.readers, scored_together, retriever, search, matcher, item_id)
        call = partial(matcher.evidence, search.features, shown, top=EVIDENCE_PAIRS)
        said = (await queues.explainer.submit(call))[place]
        alike = await queues.run_in(queues.readers, _attributes_alike, retriever, search, item_id)
    after, before = (
        evidence_boxes(pairs, matcher.region_boxes(), search.box, item.box, encoder=retriever.model)
        for pairs in (said.after, said.before)
    )
    return Told(item_id, matcher.name, after, before, alike)


def _attributes_alike(retriever: Retriever, search: RecentSearch, item_id: str) -> tuple[AttributeAlike, ...]:
    """Those of a remembered search and an item; none where the model, the search or the gallery has none."""
    known, query = attributes_of(retriever.model, retriever.gallery.features), search.features.get(ATTRIBUTES)
    if known is None or query is None:
        return ()
    [alike] = attributes_alike(known, query, retriever.gallery.current.features_of(ATTRIBUTES, item_id)[None])
    return alike


def matcher_of(retriever: Retriever, search: RecentSearch, item_id: str) -> ExplainingMatcher:
    """The matcher that can say what decided a match of a remembered search.

    Raises:
        SearchNotFoundError: the item was not among the answered matches, another model answered, or none that can
            explain.
    """
    if item_id not in search.item_ids:
        raise _not_answered(search, item_id)
    if search.model != retriever.model.fingerprint:
        raise SearchNotFoundError("that search was answered by another model; search again")
    matcher = as_explaining(retriever.model.matchers[search.matcher]) if search.matcher else None
    if matcher is None:
        raise SearchNotFoundError("no matcher of that search can say what decided; search again with one that can")
    return matcher


def scored_together(
    retriever: Retriever, search: RecentSearch, matcher: ExplainingMatcher, item_id: str
) -> tuple[Items, int]:
    """Features of an item and of those that it was compared with, and its place among them.

    What left the gallery meanwhile is left out. An item that the matcher did not reach stands beside those it did.

    Raises:
        ItemNotFoundError, DamagedItemError: the item itself.
    """
    snapshot = retriever.gallery.current
    ids = list(search.rivals) if item_id in search.rivals else [*search.rivals, item_id]
    found: list[dict[str, Floats]] = []
    place = 0
    for one in ids:
        if one == item_id:
            place = len(found)
        try:
            found.append({name: snapshot.features_of(name, one) for name in matcher.needs})
        except (ItemNotFoundError, DamagedItemError):
            if one == item_id:
                raise
    together = {name: np.stack([features[name] for features in found]) for name in matcher.needs}
    return {name: values.astype(np.float32) for name, values in together.items()}, place


async def _kept(retriever: Retriever, search: RecentSearch, item_id: str, side: Side) -> NDArray[np.float32] | None:
    """(h, w) 0..1 over the photo that is painted, 0 on its background; None where that cannot be told."""
    queues, snapshot = retriever.queues, retriever.gallery.current

    def look() -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
        photo = decode_image(search.crop if side == "query" else snapshot.photo(item_id)).pixels
        return photo, without_ground(photo) if plain_ground(photo) else None

    photo, kept = await queues.run_in(queues.readers, look)
    if kept is None and isinstance(queues.detector, ParserDetector):
        parsing = await queues.explainer.submit(partial(queues.detector.parse, photo))
        kept = parsing.kept.astype(np.float32) / 255
    return kept if kept is not None and kept.mean() >= LEAST_KEPT else None


def _pixels(retriever: Retriever, search: RecentSearch, item_id: str, side: Side) -> NDArray[np.uint8]:
    """(S, S, 3) of the photo to paint, from what is kept of it: longest side DISPLAY_PHOTO_PX."""
    if side == "query":
        return prepare_for(retriever.model, decode_image(search.crop)).pixels
    snapshot = retriever.gallery.current
    item = snapshot.item(item_id)
    photo = decode_image(snapshot.photo(item_id), long_side_hint_px=DISPLAY_PHOTO_PX)
    return prepare_for(retriever.model, DecodedImage(photo.picture, item.width, item.height), item.box).pixels
