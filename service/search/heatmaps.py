"""The heat map of one side of one match of an earlier search, made when somebody asks to see it."""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from threadmatch.model.explain import Side
from threadmatch.model.images import DISPLAY_PHOTO_PX, DecodedImage, decode_image, display_size, prepare_image
from threadmatch.model.matching import ExplainingMatcher, GradCam, as_explaining
from threadmatch.service.errors import InvalidFieldError, SearchNotFoundError
from threadmatch.service.search.explaining import share
from threadmatch.service.search.heat_picture import overlay
from threadmatch.service.search.recent_searches import RecentSearch
from threadmatch.service.search.retriever import Retriever

Method = Literal["graph", "gradcam", "attention"]


async def heatmap(
    retriever: Retriever,
    search: RecentSearch,
    item_id: str,
    *,
    side: Side,
    method: Method,
    attribute: str | None = None,
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
    if item_id not in search.item_ids:
        raise SearchNotFoundError(f"{item_id[:80]!r} was not among the {len(search.item_ids)} matches of that search")
    if search.model != retriever.model.fingerprint:
        raise SearchNotFoundError("that search was answered by another model; search again")
    queues, snapshot = retriever.queues, retriever.gallery.current
    sought = _attribute(retriever, method, attribute)
    with queues.in_progress():
        item = await queues.run_in(queues.readers, snapshot.item, item_id)
        if sought is not None:
            pixels = await queues.run_in(queues.readers, _pixels, retriever, search, item_id, side)
            heat = await queues.explainer.submit(partial(retriever.model.attention, pixels, sought))
        else:
            heat = await _decided(retriever, search, item_id, side=side, method=method)
        if side == "query":
            size, inside = display_size(search.box.width, search.box.height), None
        else:
            size, inside = display_size(item.width, item.height), share(item.box, item.width, item.height)
        return await queues.run_in(queues.readers, overlay, heat, size, inside=inside)


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
    queues, snapshot = retriever.queues, retriever.gallery.current
    matcher = _explaining(retriever, search)
    shown = await queues.run_in(
        queues.readers, lambda: {name: snapshot.features_of(name, item_id) for name in matcher.needs}
    )
    if method == "graph":
        items = {name: values[None] for name, values in shown.items()}
        both = await queues.explainer.submit(partial(matcher.heat, search.features, items))
        of_side: NDArray[np.float32] = both[0 if side == "query" else 1][0]
        return of_side
    pixels = await queues.run_in(queues.readers, _pixels, retriever, search, item_id, side)
    if not isinstance(matcher, GradCam):
        raise InvalidFieldError(
            f"method=gradcam: {matcher.name} decided that search and has no Grad-CAM; its heat maps are exact "
            "contributions: ask for method=graph"
        )
    other = shown if side == "query" else search.features
    heat: NDArray[np.float32] = await queues.explainer.submit(partial(matcher.grad_cam, pixels, other, side=side))
    return heat


def _explaining(retriever: Retriever, search: RecentSearch) -> ExplainingMatcher:
    matcher = as_explaining(retriever.model.matchers[search.matcher]) if search.matcher else None
    if matcher is None:
        raise SearchNotFoundError("no matcher of that search can say what decided; search again with one that can")
    return matcher


def _pixels(retriever: Retriever, search: RecentSearch, item_id: str, side: Side) -> NDArray[np.uint8]:
    """(S, S, 3) of the photo to paint, from what is kept of it: longest side DISPLAY_PHOTO_PX."""
    image_px = retriever.model.image_px
    if side == "query":
        return prepare_image(decode_image(search.crop), image_px=image_px).pixels
    snapshot = retriever.gallery.current
    item = snapshot.item(item_id)
    photo = decode_image(snapshot.photo(item_id), long_side_hint_px=DISPLAY_PHOTO_PX)
    return prepare_image(DecodedImage(photo.picture, item.width, item.height), image_px=image_px, box=item.box).pixels
