"""What is told of a remembered search: what decided a match, its heat maps, and the photo."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from threadmatch.model.explain import Side
from threadmatch.service.access.roles import needs
from threadmatch.service.errors import SearchNotFoundError, SearchTimeoutError
from threadmatch.service.http.schemas.matches import ExplanationAnswer
from threadmatch.service.routes.gallery_choice import Chosen
from threadmatch.service.routes.items import ItemId
from threadmatch.service.routes.openapi_parts import errors
from threadmatch.service.search.answers import explanation_answer
from threadmatch.service.search.heatmaps import Method, explanation, heatmap
from threadmatch.service.search.recent_searches import RecentSearches
from threadmatch.service.shared import ServiceState, service_of

router = APIRouter(tags=["search"])

HEATMAP_MAX_AGE_S = 300
KEPT_BY_BROWSERS = {"Cache-Control": f"private, max-age={HEATMAP_MAX_AGE_S}"}
RequestId = Annotated[
    str, Path(description="request_id of the search's answer", examples=["1b9d6bcd4e5f4f6a8c7d9e0f1a2b3c4d"])
]


class HeatmapChoice(BaseModel):
    """Which heat map: the query string of its address."""

    model_config = ConfigDict(frozen=True)

    side: Side = Field(default="query", description="the photo to paint")
    method: Method = Field(
        default="graph",
        description="graph: contributions of the regions; gradcam: gradient on the last feature map; attention: where "
        "an attribute is seen",
    )
    attribute: str | None = Field(
        default=None, max_length=64, description="of method=attention: one that GET /v1/gallery lists"
    )
    ground: Literal["painted", "clear"] = Field(
        default="painted", description="clear: leave the photo's background out"
    )


@router.get(
    "/v1/search/{request_id}/matches/{item_id:path}/heatmap.png",
    summary="Where a match was decided",
    response_class=Response,
    responses={
        200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}},
        **errors(404, 422, 429, 500, 503),
    },
)
@needs("search")
async def match_heatmap(
    request_id: RequestId,
    item_id: ItemId,
    chosen: Chosen,
    service: Annotated[ServiceState, Depends(service_of)],
    asked: Annotated[HeatmapChoice, Query()],
) -> Response:
    """A PNG with transparency to lay over the photo, for searches of the last minutes.

    `side=query` covers exactly the searched box (`query.box` of the answer), `side=item` the item's whole display
    photo: stretch it over that rectangle. Its size in pixels has no meaning of its own.
    """
    retriever, recent = chosen.open_retriever(), _recent(service, instead="heatmaps=inline")
    with _in_time(service, "the heat map"):
        async with asyncio.timeout(service.settings.search_timeout_s):
            search = await recent.get(chosen.name, request_id)
            png = await heatmap(
                retriever,
                search,
                item_id,
                side=asked.side,
                method=asked.method,
                attribute=asked.attribute,
                clear_ground=asked.ground == "clear",
            )
    return Response(png, media_type="image/png", headers=KEPT_BY_BROWSERS)


@router.get(
    "/v1/search/{request_id}/matches/{item_id:path}/explanation",
    summary="What decided a match",
    response_model=ExplanationAnswer,
    responses=errors(404, 422, 429, 500, 503),
)
@needs("search")
async def match_explanation(
    request_id: RequestId, item_id: ItemId, chosen: Chosen, service: Annotated[ServiceState, Depends(service_of)]
) -> Response:
    """The pairs of regions that `explain=true` would have given, for searches of the last minutes.

    An item that the last matcher did not reach is explained as if it had been scored beside those it did.
    """
    retriever, recent = chosen.open_retriever(), _recent(service, instead="explain=true")
    with _in_time(service, "the explanation"):
        async with asyncio.timeout(service.settings.search_timeout_s):
            search = await recent.get(chosen.name, request_id)
            told = await explanation(retriever, search, item_id)
    answer = explanation_answer(told, request_id, gallery=chosen.named_in_links)
    return Response(answer.model_dump_json(), media_type="application/json", headers=KEPT_BY_BROWSERS)


@router.get(
    "/v1/search/{request_id}/photo",
    summary="The photo of a search",
    response_class=Response,
    responses={
        200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}},
        **errors(404, 422, 500, 503),
    },
)
@needs("search")
async def searched_photo(
    request_id: RequestId, chosen: Chosen, service: Annotated[ServiceState, Depends(service_of)]
) -> Response:
    """What is kept of the photo, to search it again from another place, for searches of the last minutes.

    The whole photo where the service looked for the garment by itself; where `box` was sent, the searched part.
    """
    search = await _recent(service, instead="the photo").get(chosen.name, request_id)
    return Response(search.photo or search.crop, media_type="image/jpeg", headers=KEPT_BY_BROWSERS)


def _recent(service: ServiceState, *, instead: str) -> RecentSearches:
    if service.recent is None:
        raise SearchNotFoundError(
            f"this service remembers no searches (THREADMATCH_RECENT_MINUTES is 0); send {instead} with the search"
        )
    return service.recent


@contextlib.contextmanager
def _in_time(service: ServiceState, what: str) -> Iterator[None]:
    with service.searches.take():
        try:
            yield
        except TimeoutError as error:
            raise SearchTimeoutError(
                f"{what} took more than {service.settings.search_timeout_s:g} s; try again"
            ) from error
