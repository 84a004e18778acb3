"""Many photos searched at once: they share the model's batches, and what is wrong with one is its own affair.

A batch runs as many searches at a time as fit the bounds that hold for everybody, and counts as that many.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from threadmatch.indexer.catalogue.garments import AUTO, WHOLE
from threadmatch.indexer.reading.filters import parse_filter
from threadmatch.model.images import Box
from threadmatch.service.errors import STATUS, SearchTimeoutError
from threadmatch.service.http.schemas.search import SearchOptions
from threadmatch.service.http.search_form import Upload, check_photo
from threadmatch.service.search.results import SearchResult
from threadmatch.service.search.retriever import Retriever


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """Bounds of one batch.

    Args:
        at_once: searches in progress at a time.
        max_image_bytes: of each photo.
        timeout_s: seconds for all of it.
    """

    at_once: int
    max_image_bytes: int
    timeout_s: float


def check_for_all(retriever: Retriever, options: SearchOptions) -> None:
    """Refuse at once what would fail with every photo.

    Raises:
        FilterError, InvalidImageError, InvalidFieldError: the filter, the form of the box, what the model cannot do.
    """
    retriever.stages(options)
    if options.filter is not None and options.filter.strip():
        parse_filter(options.filter, retriever.gallery.columns())
    if options.box not in (None, AUTO, WHOLE):
        assert options.box is not None
        Box.parse(options.box)


async def search_all(
    retriever: Retriever,
    photos: Sequence[Upload],
    options: SearchOptions,
    *,
    limits: BatchLimits,
    done: Callable[[int, SearchResult], Awaitable[None]],
) -> list[SearchResult | Exception]:
    """Search each photo.

    Args:
        retriever: of the gallery.
        photos: in the order of the answer.
        options: of all of them.
        limits: of this batch.
        done: awaited with the place and the result of each search that worked.

    Returns:
        For each photo its result, or the error that it met: one that has a status.

    Raises:
        OverloadedError: others hold the candidates that these searches need; nothing was done.
        StoppedError: the service is shutting down.
    """
    results: dict[int, SearchResult | Exception] = {}
    left = iter(range(len(photos)))
    deadline = asyncio.get_running_loop().time() + limits.timeout_s

    async def work() -> None:
        for place in left:
            try:
                check_photo(photos[place].data, limits.max_image_bytes)
                async with asyncio.timeout_at(deadline):
                    result = await retriever.search_admitted(photos[place].data, options)
            except TimeoutError:
                results[place] = SearchTimeoutError(
                    f"the batch took more than {limits.timeout_s:g} s before this photo's turn ended; send fewer photos"
                )
            except tuple(STATUS) as error:
                results[place] = error
            else:
                await done(place, result)
                results[place] = result

    workers = min(limits.at_once, len(photos), retriever.fitting(options))
    with retriever.admitted(options, searches=workers):
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(work())
    return [results[place] for place in range(len(photos))]
