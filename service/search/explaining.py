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
from threadmatch.model.images import Box, display_size
from threadmatch.model.matching import ExplainingMatcher, Items, Photo
from threadmatch.service.queues.model_queues import ModelQueues
from threadmatch.service.search.heat_picture import overlay
from threadmatch.service.search.results import EvidenceBoxes, Heatmaps, Match

EVIDENCE_PAIRS = 5  # pairs of regions an explanation names for each match
INLINE_MATCHES = 10  # matches that get heat maps inside the answer: each costs two pictures


def with_evidence(
    matches: Sequence[Match], explanations: Sequence[Explanation], regions: NDArray[np.float32], searched: Box
) -> list[Match]:
    """The matches with the pairs of regions that decided them.

    Args:
        matches, explanations: N of each.
        regions: (R, 4) in 0..1 of the crop, of the matcher's `region_boxes`.
        searched: the part of the query that was searched, in pixels of the upright photo.
    """

    def boxes(pairs: Sequence[Evidence], match: Match) -> list[EvidenceBoxes]:
        return evidence_boxes(pairs, regions, searched, match.item.box)

    return [
        replace(match, evidence=boxes(told.after, match), evidence_before=boxes(told.before, match))
        for match, told in zip(matches, explanations, strict=True)
    ]


def evidence_boxes(
    pairs: Sequence[Evidence], regions: NDArray[np.float32], searched: Box, item: Box
) -> list[EvidenceBoxes]:
    """Pairs of regions in pixels of the two photos; `regions` and `searched` as in `with_evidence`, `item` likewise."""
    return [
        EvidenceBoxes(
            scale=pair.scale,
            query_box=in_pixels(regions[pair.query_region], searched),
            item_box=in_pixels(regions[pair.item_region], item),
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
) -> list[Match]:
    """The matches, the first INLINE_MATCHES of them with heat maps as `data:` URLs.

    Args:
        matcher: that decided.
        query: features of the photo.
        items: features of what was scored together.
        places: of the matches in `items`.
        searched: the part of the query that was searched, in pixels of the upright photo.
    """
    # In half precision as a remembered search keeps them: of two partners that are as good a rounding may choose, and
    # the maps in the answer are to be those behind its links.
    halved = {name: query[name].astype(np.float16) for name in matcher.needs}
    first = list(places[:INLINE_MATCHES])
    if matcher.pointwise:
        items, first = {name: values[first] for name, values in items.items()}, list(range(len(first)))
    of_query, of_item = await queues.explainer.submit(partial(matcher.heat, halved, items))
    return await queues.run_in(queues.readers, _inlined, list(matches), of_query[first], of_item[first], searched)


def _inlined(
    matches: list[Match], of_query: NDArray[np.float32], of_item: NDArray[np.float32], searched: Box
) -> list[Match]:
    told = []
    for match, heat_query, heat_item in zip(matches, of_query, of_item, strict=False):
        item = match.item
        on_item = overlay(
            heat_item, display_size(item.width, item.height), inside=share(item.box, item.width, item.height)
        )
        on_query = overlay(heat_query, display_size(searched.width, searched.height))
        told.append(replace(match, heatmaps=Heatmaps(query=_data_url(on_query), item=_data_url(on_item))))
    return told + matches[len(told) :]


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def share(box: Box, width: float, height: float) -> Box:
    """A box in pixels of a photo as shares of its sides, 0..1."""
    return Box(box.x0 / width, box.y0 / height, box.x1 / width, box.y1 / height)


def in_pixels(region: NDArray[np.float32], crop: Box) -> Box:
    """A region in 0..1 of a crop as a box in pixels of the image that was cropped."""
    x0, y0, x1, y1 = (float(edge) for edge in region)
    return Box(
        crop.x0 + x0 * crop.width, crop.y0 + y0 * crop.height, crop.x0 + x1 * crop.width, crop.y0 + y1 * crop.height
    )
