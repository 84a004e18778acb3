"""GET /v1/search/{request_id}/matches/{item_id}/heatmap.png."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response

from threadmatch.model.explain import Side
from threadmatch.service.access.roles import needs
from threadmatch.service.errors import SearchNotFoundError, SearchTimeoutError
from threadmatch.service.routes.gallery_choice import Chosen
from threadmatch.service.routes.items import ItemId
from threadmatch.service.routes.openapi_parts import errors
from threadmatch.service.search.heatmaps import Method, heatmap
from threadmatch.service.shared import ServiceState, service_of

router = APIRouter(tags=["search"])

HEATMAP_MAX_AGE_S = 300
RequestId = Annotated[
    str, Path(description="request_id of the search's answer", examples=["1b9d6bcd4e5f4f6a8c7d9e0f1a2b3c4d"])
]


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
    *,
    side: Annotated[Side, Query(description="the photo to paint")] = "query",
    method: Annotated[
        Method,
        Query(
            description="graph: contributions of the regions; gradcam: gradient on the last feature map; attention: "
            "where an attribute is seen"
        ),
    ] = "graph",
    attribute: Annotated[
        str | None, Query(max_length=64, description="of method=attention: one that GET /v1/gallery lists")
    ] = None,
) -> Response:
    """A PNG with transparency to lay over the photo, for searches of the last minutes.

    `side=query` covers exactly the searched box (`query.box` of the answer), `side=item` the item's whole display
    photo: stretch it over that rectangle. Its size in pixels has no meaning of its own.
    """
    retriever = chosen.open_retriever()
    if service.recent is None:
        raise SearchNotFoundError(
            "this service remembers no searches (THREADMATCH_RECENT_MINUTES is 0); send heatmaps=inline with the search"
        )
    with service.searches.take():
        try:
            async with asyncio.timeout(service.settings.search_timeout_s):
                search = await service.recent.get(chosen.name, request_id)
                png = await heatmap(retriever, search, item_id, side=side, method=method, attribute=attribute)
        except TimeoutError as error:
            raise SearchTimeoutError(
                f"the heat map took more than {service.settings.search_timeout_s:g} s; try again"
            ) from error
    headers = {"Cache-Control": f"private, max-age={HEATMAP_MAX_AGE_S}"}
    return Response(png, media_type="image/png", headers=headers)
