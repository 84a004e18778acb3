"""POST /v1/search and its alias /search."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from threadmatch.model.decoding import ACCEPTED_FORMATS
from threadmatch.service.access.roles import needs
from threadmatch.service.errors import SearchTimeoutError, request_id_of
from threadmatch.service.http.schemas.matches import SEARCH_EXAMPLE, SearchAnswer
from threadmatch.service.http.schemas.search import SearchOptions
from threadmatch.service.http.search_form import IMAGE_FIELD, UploadLimits, read_search
from threadmatch.service.routes.client_left import unless_client_leaves
from threadmatch.service.routes.gallery_choice import gallery_for
from threadmatch.service.routes.openapi_parts import errors, text_fields
from threadmatch.service.search.answers import search_answer
from threadmatch.service.shared import ServiceState, service_of

router = APIRouter(tags=["search"])


def _form_schema() -> dict[str, Any]:
    """The multipart form as OpenAPI describes it: the photo and every text field."""
    photo = {"type": "string", "format": "binary", "description": f"the photo: {', '.join(ACCEPTED_FORMATS)}"}
    return {
        "title": "SearchForm",
        "type": "object",
        "required": [IMAGE_FIELD],
        "properties": {IMAGE_FIELD: photo, **text_fields(SearchOptions)},
        "additionalProperties": False,
    }


@router.post(
    "/search",
    include_in_schema=False,
)
@router.post(
    "/v1/search",
    summary="Find the garment of a photo",
    response_model=SearchAnswer,
    responses={
        200: {"content": {"application/json": {"example": SEARCH_EXAMPLE}}},
        **errors(404, 408, 413, 415, 422, 429, 500, 503),
    },
    openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _form_schema()}}}},
)
@needs("search")
async def search(request: Request, service: Annotated[ServiceState, Depends(service_of)]) -> Response:
    """Send a street photo; get the items of the gallery that show the same garment, the likeliest first.

    The first stage takes a shortlist by one vector a photo; the matchers of the model's chain compare the photo with
    these, place by place. `/search` is another name for this address.
    """
    settings = service.settings
    limits = UploadLimits(max_image_bytes=settings.max_image_bytes, timeout_s=settings.upload_timeout_s)
    service.searches.check()  # what is refused anyway costs no upload
    photo, options = await read_search(request, limits)
    with service.searches.take(), service.metrics.searches.track_inprogress():
        chosen = gallery_for(request, options.gallery)
        retriever = chosen.open_retriever()
        try:
            async with asyncio.timeout(settings.search_timeout_s):
                result = await unless_client_leaves(request, retriever.search(photo, options))
        except TimeoutError as error:
            raise SearchTimeoutError(
                f"the search took more than {settings.search_timeout_s:g} s; try again, or ask for fewer candidates"
            ) from error
    request_id = request_id_of(request.scope)
    remembered = service.recent is not None and await service.recent.remember(
        result, gallery=chosen.name, request_id=request_id, model=retriever.model
    )
    answer = search_answer(result, retriever.model, request_id, gallery=chosen.named_in_links, remembered=remembered)
    request.state.log.update(
        matches=len(result.matches), candidates=result.candidates, timings_ms=result.timings_ms,
        generation=result.generation,
    )  # fmt: skip
    return Response(answer.model_dump_json(), media_type="application/json")
