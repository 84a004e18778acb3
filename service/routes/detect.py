"""POST /v1/detect: the garments of a photo, to choose from."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from threadmatch.model.decoding import ACCEPTED_FORMATS
from threadmatch.service.access.roles import needs
from threadmatch.service.errors import SearchTimeoutError, request_id_of
from threadmatch.service.http.schemas.detection import DetectAnswer
from threadmatch.service.http.search_form import IMAGE_FIELD, UploadLimits, read_photo_and
from threadmatch.service.routes.openapi_parts import errors
from threadmatch.service.search.answers import proposal_answer
from threadmatch.service.search.detecting import detect
from threadmatch.service.shared import ServiceState, service_of

router = APIRouter(tags=["search"])


class PhotoAlone(BaseModel):
    """The text fields of POST /v1/detect: none."""

    model_config = ConfigDict(frozen=True, extra="forbid")


_FORM = {
    "title": "DetectForm",
    "type": "object",
    "required": [IMAGE_FIELD],
    "properties": {
        IMAGE_FIELD: {"type": "string", "format": "binary", "description": f"the photo: {', '.join(ACCEPTED_FORMATS)}"}
    },
    "additionalProperties": False,
}


@router.post(
    "/v1/detect",
    summary="Propose the garments of a photo",
    response_model=DetectAnswer,
    responses=errors(404, 408, 413, 415, 422, 429, 500, 503),
    openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}},
)
@needs("search")
async def detect_garments(request: Request, service: Annotated[ServiceState, Depends(service_of)]) -> Response:
    """Send a photo; get boxes to send as `box` of a search, the surest first. The list may be empty."""
    settings = service.settings
    limits = UploadLimits(max_image_bytes=settings.max_image_bytes, timeout_s=settings.upload_timeout_s)
    queues = service.default.open_retriever().queues
    service.searches.check()
    photo, _ = await read_photo_and(request, limits, PhotoAlone)
    with service.searches.take():
        try:
            async with asyncio.timeout(settings.search_timeout_s):
                with queues.in_progress():
                    found = await detect(queues, photo)
        except TimeoutError as error:
            raise SearchTimeoutError(f"looking took more than {settings.search_timeout_s:g} s; try again") from error
    answer = DetectAnswer(
        width=found.image.width,
        height=found.image.height,
        boxes=[proposal_answer(box, proposal) for box, proposal in found.boxes],
        detector=queues.detector.name,
        request_id=request_id_of(request.scope),
    )
    return Response(answer.model_dump_json(), media_type="application/json")
