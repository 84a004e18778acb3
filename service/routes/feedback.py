"""POST /v1/feedback."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from threadmatch.service.access.roles import needs
from threadmatch.service.errors import FeedbackOffError
from threadmatch.service.http.json_body import read_json
from threadmatch.service.http.schemas.feedback import FeedbackAnswer, FeedbackForm
from threadmatch.service.routes.gallery_choice import gallery_for
from threadmatch.service.routes.openapi_parts import body_of, errors
from threadmatch.service.shared import ServiceState, service_of

router = APIRouter(tags=["search"])


@router.post(
    "/v1/feedback",
    status_code=202,
    summary="Say whether a match was right",
    response_model=FeedbackAnswer,
    responses=errors(404, 408, 413, 415, 422, 429, 500, 503),
    openapi_extra=body_of(FeedbackForm, "application/json"),
)
@needs("search")
async def feedback(request: Request, service: Annotated[ServiceState, Depends(service_of)]) -> Response:
    """Give the request_id of a search's answer, an item's id and a verdict. It is on disk when this is answered.

    A later verdict on the same search and item counts instead of the earlier one. A search can be judged for as long as
    it is remembered; afterwards the answer is 404. `threadmatch data from-feedback` makes training pairs of verdicts.
    """
    form = await read_json(request, FeedbackForm, timeout_s=service.settings.upload_timeout_s)
    if service.feedback is None or service.recent is None:
        raise FeedbackOffError(
            "this service takes no feedback: its operator turns it on with THREADMATCH_FEEDBACK=<folder>"
        )
    chosen = gallery_for(request, form.gallery)
    search = await service.recent.get(chosen.name, form.request_id)
    await asyncio.to_thread(chosen.open_retriever().gallery.item, form.item_id)  # or 404: there is no such item
    replaced = await service.feedback.add(search, form.item_id, form.verdict)
    request.state.log.update(verdict=form.verdict)
    answer = FeedbackAnswer(request_id=form.request_id, item_id=form.item_id, verdict=form.verdict, replaced=replaced)
    return Response(answer.model_dump_json(), status_code=202, media_type="application/json")
