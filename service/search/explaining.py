"""What decided a match, in the pixels of the two photos: pairs of regions, and heat maps as overlays.

Letters  R regions, N matches, h x w the model's feature map
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from threadmatch.model.explain import Evidence, Explanation
from threadmatch.model.features import Encoder
from threadmatch.model.images import Box, display_size, part_seen
from threadmatch.model.matching import ExplainingMatcher, Items, Photo
from threadmatch.service.queues.model_queues import ModelQueues
from threadmatch.service.search.heat_picture import overlay
from threadmatch.service.search.results import EvidenceBoxes, Heatmaps, Match

EVIDENCE_PAIRS = 5  # pairs of regions an explanation names for each match
INLINE_MATCHES = 10  # matches that get heat maps inside the answer: each costs two pictures


def with_evidence(
    matches: Sequence[Match],
    explanations: Sequence[Explanation],
    regions: NDArray[np.float32],
    searched: Box,
    *,
    encoder: Encoder,
) -> list[Match]:
    """The matches with the pairs of regions that decided them.

    Args:
        matches, explanations: N of each.
        regions: (R, 4) in 0..1 of the crop, of the matcher's `region_boxes`.
        searched: the part of the query that was searched, in pixels of the upright photo.
        encoder: that saw both photos.
    """

    def boxes(pairs: Sequence[Evidence], match: Match) -> list[EvidenceBoxes]:
        return evidence_boxes(pairs, regions, searched, match.item.box, encoder=encoder)

    return [
        replace(match, evidence=boxes(told.after, match), evidence_before=boxes(told.before, match))
        for match, told in zip(matches, explanations, strict=True)
    ]


def evidence_boxes(
    pairs: Sequence[Evidence], regions: NDArray[np.float32], searched: Box, item: Box, *, encoder: Encoder
) -> list[EvidenceBoxes]:
    """Pairs of regions in pixels of the two photos; `item` is of the item what `searched` is of the query."""
    return [
        EvidenceBoxes(
            scale=pair.scale,
            query_box=in_pixels(regions[pair.query_region], searched, encoder),
            item_box=in_pixels(regions[pair.item_region], item, encoder),
            weight=pair.weight,
            edge=pair.edge,
            contribution=pair.contribution,
        )
        for pair in pairs
    ]


async def with_inline_heatmaps(
    queues: ModelQueues,
    matcher: ExplainingMatcher,
    matches: Sequence[Match],
    query: Photo,
    items: Items,
    *,
    places: Sequence[int],
    searched: Box,
    encoder: Encoder,
) -> list[Match]:
    """The matches, the first INLINE_MATCHES of them with heat maps as `data:` URLs.

    Args:
        matcher: that decided.
        query: features of the photo.
        items: features of what was scored together.
        places: of the matches in `items`.
        searched: the part of the query that was searched, in pixels of the upright photo.
        encoder: that saw both photos.
    """
    # In half precision as a remembered search keeps them: of two partners that are as good a rounding may choose, and
    # the maps in the answer are to be those behind its links.
    halved = {name: query[name].astype(np.float16) for name in matcher.needs}
    first = list(places[:INLINE_MATCHES])
    if matcher.pointwise:
        items, first = {name: values[first] for name, values in items.items()}, list(range(len(first)))
    of_query, of_item = await queues.explainer.submit(partial(matcher.heat, halved, items))
    paint = partial(_inlined, searched=searched, encoder=encoder)
    return await queues.run_in(queues.readers, paint, list(matches), of_query[first], of_item[first])


def _inlined(
    matches: list[Match],
    of_query: NDArray[np.float32],
    of_item: NDArray[np.float32],
    *,
    searched: Box,
    encoder: Encoder,
) -> list[Match]:
    told = []
    for match, heat_query, heat_item in zip(matches, of_query, of_item, strict=False):
        item = match.item
        whole = Box(0, 0, item.width, item.height)
        on_item = overlay(
            heat_item, display_size(item.width, item.height), inside=share(part_seen(encoder, item.box), whole)
        )
        on_query = overlay(
            heat_query,
            display_size(searched.width, searched.height),
            inside=share(part_seen(encoder, searched), searched),
        )
        told.append(replace(match, heatmaps=Heatmaps(query=_data_url(on_query), item=_data_url(on_item))))
    return told + matches[len(told) :]


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def share(part: Box, whole: Box) -> Box:
    """A part of a photo as shares of another part's sides, 0..1 inside of it."""
    across, down = whole.width, whole.height
    return Box(
        (part.x0 - whole.x0) / across,
        (part.y0 - whole.y0) / down,
        (part.x1 - whole.x0) / across,
        (part.y1 - whole.y0) / down,
    )


def in_pixels(region: NDArray[np.float32], crop: Box, encoder: Encoder) -> Box:
    """A region of an encoder's square as a box in pixels of the photo, inside of the crop that it was shown."""
    x0, y0, x1, y1 = (float(edge) for edge in region)
    seen = part_seen(encoder, crop)
    box = (seen.x0 + x0 * seen.width, seen.y0 + y0 * seen.height, seen.x0 + x1 * seen.width, seen.y0 + y1 * seen.height)
    if seen == crop:
        return Box(*box)
    left, right = _inside(box[0], box[2], crop.x0, crop.x1)
    top, bottom = _inside(box[1], box[3], crop.y0, crop.y1)
    return Box(left, top, right, bottom)


def _inside(start: float, end: float, least: float, most: float) -> tuple[float, float]:
    """What of a stretch lies between two bounds; where nothing does, the pixel at the nearer one."""
    start, end = max(start, least), min(end, most)
    if start < end:
        return start, end
    at = least if end <= least else max(least, most - 1)
    return at, min(most, at + 1)
