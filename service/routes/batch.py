"""POST /v1/search/batch."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from threadmatch.service.access.guard import charge
from threadmatch.service.access.roles import needs
from threadmatch.service.errors import detail_of, error_name, reason_of, request_id_of
from threadmatch.service.galleries.served import ServedGallery
from threadmatch.service.http.schemas.health import ErrorAnswer
from threadmatch.service.http.schemas.matches import MAX_BATCH_PHOTOS, BatchAnswer, BatchResultAnswer
from threadmatch.service.http.schemas.search import SearchOptions
from threadmatch.service.http.search_form import IMAGES_FIELD, UploadLimits, read_batch
from threadmatch.service.routes.client_left import unless_client_leaves
from threadmatch.service.routes.gallery_choice import gallery_for
from threadmatch.service.routes.openapi_parts import errors, text_fields
from threadmatch.service.search.answers import search_answer
from threadmatch.service.search.many_photos import BatchLimits, check_for_all, search_all
from threadmatch.service.search.results import SearchResult
from threadmatch.service.shared import ServiceState, service_of

router = APIRouter(tags=["search"])


def _form_schema() -> dict[str, Any]:
    photos = {
        "type": "array",
        "items": {"type": "string", "format": "binary"},
        "minItems": 1,
        "maxItems": MAX_BATCH_PHOTOS,
        "description": f"the photos, each a file named {IMAGES_FIELD!r}",
    }
    return {
        "title": "BatchForm",
        "type": "object",
        "required": [IMAGES_FIELD],
        "properties": {IMAGES_FIELD: photos, **text_fields(SearchOptions)},
        "additionalProperties": False,
    }


@router.post(
    "/v1/search/batch",
    summary="Find the garments of several photos",
    response_model=BatchAnswer,
    responses=errors(404, 408, 413, 415, 422, 429, 500, 503),
    openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _form_schema()}}}},
)
@needs("search")
async def search_batch(request: Request, service: Annotated[ServiceState, Depends(service_of)]) -> Response:
    """Send up to 64 photos with one set of fields; get an answer or an error for each, in their order.

    The photos share the model's batches. What is wrong with all of them (a filter, a field) is an error of the whole,
    and so is a service with too much to do: 429, and nothing was done.
    """
    started = time.perf_counter()
    settings = service.settings
    at_once = min(settings.encode_batch, service.searches.share)
    limits = UploadLimits(
        max_image_bytes=settings.max_image_bytes,
        timeout_s=settings.upload_timeout_s,
        max_bytes=settings.max_batch_bytes,
    )
    service.searches.check()
    photos, options = await read_batch(request, limits, most=MAX_BATCH_PHOTOS)
    charge(request, len(photos) - 1)  # its rate counts photos
    at_once = min(at_once, len(photos))
    with service.searches.take(at_once):
        chosen = gallery_for(request, options.gallery)
        answers = Answers(service, chosen, request_id_of(request.scope))
        retriever = chosen.open_retriever()
        check_for_all(retriever, options)
        work = search_all(
            retriever,
            photos,
            options,
            limits=BatchLimits(
                at_once=at_once, max_image_bytes=settings.max_image_bytes, timeout_s=settings.batch_timeout_s
            ),
            done=answers.remember,
        )
        results = await unless_client_leaves(request, work)
    listed = [
        answers.answer(index, photo.name, result)
        for index, (photo, result) in enumerate(zip(photos, results, strict=True))
    ]
    total_ms = round(1000 * (time.perf_counter() - started), 3)
    request.state.log.update(photos=len(photos), failed=sum(one.error is not None for one in listed))
    whole = BatchAnswer(results=listed, timings_ms={"total": total_ms}, request_id=answers.request_id)
    return Response(whole.model_dump_json(), media_type="application/json")


class Answers:
    """Turns the results of one batch into answers. Each photo has a request id of its own: the batch's and its place.

    Args:
        service: counts refusals, and keeps recent searches.
        chosen: the gallery that was searched.
        request_id: of the batch.
    """

    def __init__(self, service: ServiceState, chosen: ServedGallery, request_id: str) -> None:
        self._service, self._chosen, self.request_id = service, chosen, request_id
        self._remembered: set[int] = set()

    async def remember(self, index: int, result: SearchResult) -> None:
        """Keep a search for heat maps and feedback, where the service does."""
        if self._service.recent is not None:
            model = self._chosen.open_retriever().model
            if await self._service.recent.remember(
                result, gallery=self._chosen.name, request_id=self._id(index), model=model
            ):
                self._remembered.add(index)

    def answer(self, index: int, filename: str, result: SearchResult | Exception) -> BatchResultAnswer:
        """What became of one photo."""
        if isinstance(result, Exception):
            self._service.metrics.rejects.labels(reason_of(result)).inc()
            error = ErrorAnswer(error=error_name(type(result)), detail=detail_of(result), request_id=self._id(index))
            return BatchResultAnswer(index=index, filename=filename, answer=None, error=error)
        model, gallery = self._chosen.open_retriever().model, self._chosen.named_in_links
        found = search_answer(result, model, self._id(index), gallery=gallery, remembered=index in self._remembered)
        return BatchResultAnswer(index=index, filename=filename, answer=found, error=None)

    def _id(self, index: int) -> str:
        return f"{self.request_id}.{index}"
