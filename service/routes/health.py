"""GET /health/live, GET /health/ready, GET /metrics."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from threadmatch.service.access.guard import access_of
from threadmatch.service.access.roles import needs
from threadmatch.service.config import DEFAULT_GALLERY
from threadmatch.service.errors import NotReadyError
from threadmatch.service.http.schemas.answers import GalleryStamp
from threadmatch.service.http.schemas.health import LiveAnswer, ReadyAnswer
from threadmatch.service.routes.openapi_parts import errors
from threadmatch.service.search.answers import model_stamp
from threadmatch.service.shared import ServiceState, service_of

router = APIRouter(tags=["health"])

Service = Annotated[ServiceState, Depends(service_of)]


@router.get("/health/live", summary="Does the process answer?", responses=errors(500))
@needs("nothing")
async def live() -> LiveAnswer:
    """Restart the process when this fails."""
    return LiveAnswer()


@router.get("/health/ready", summary="Can searches be answered?", responses=errors(500, 503))
@needs("nothing")
async def ready(request: Request, service: Service) -> ReadyAnswer:
    """Send traffic only while this is 200. After a failed call of the model, a probe through it has to pass first.

    Where keys are needed, details are for keys only, and only of their galleries.
    """
    access = access_of(request)
    reason = await service.not_ready_because()
    service.metrics.ready.set(0 if reason else 1)
    if reason:
        raise NotReadyError("not ready" if access.role is None else f"not ready: {reason}")
    if access.role is None:
        return ReadyAnswer()
    retriever = service.default.open_retriever()
    stamps = {
        name: None
        if served.retriever is None
        else GalleryStamp(generation=served.retriever.gallery.generation, items=served.retriever.gallery.item_count)
        for name, served in service.galleries.items()
        if access.may_use(name)
    }
    return ReadyAnswer(
        gallery=stamps.get(DEFAULT_GALLERY),
        galleries=stamps,
        model=model_stamp(retriever.model),
        detail="; ".join(service.to_look_at(stamps)) or None,
    )


@router.get(
    "/metrics",
    summary="Counters for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **errors(500)},
)
@needs("metrics")
async def metrics(request: Request, service: Service) -> Response:
    """Stage times, batch sizes, queues, refusals and the gallery in service."""
    if service.queues is not None:
        service.metrics.observe_queues(*service.queues.batchers, *service.queues.decoding.lanes)
    text, content_type = service.metrics.exposition(request.headers.get("accept", ""))
    return Response(text, headers={"Content-Type": content_type})
