"""GET /health/live, GET /health/ready, GET /metrics."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from service.answers import model_stamp
from service.errors import NotReadyError
from service.routes.describe import errors
from service.schemas import GalleryStamp, LiveAnswer, ReadyAnswer
from service.state import ServiceState, service_of

router = APIRouter(tags=["health"])

Service = Annotated[ServiceState, Depends(service_of)]


@router.get("/health/live", summary="Does the process answer?", responses=errors(500))
async def live() -> LiveAnswer:
    """Restart the process when this fails."""
    return LiveAnswer()


@router.get("/health/ready", summary="Can searches be answered?", responses=errors(500, 503))
async def ready(service: Service) -> ReadyAnswer:
    """Send traffic only while this is 200. After a failed call of the model, a probe through it has to pass first."""
    reason = await service.not_ready_because()
    service.metrics.ready.set(0 if reason else 1)
    if reason:
        raise NotReadyError(f"not ready: {reason}")
    retriever = service.default.open_retriever()
    stamps = {
        name: None
        if served.retriever is None
        else GalleryStamp(generation=served.retriever.gallery.generation, items=served.retriever.gallery.item_count)
        for name, served in service.galleries.items()
    }
    return ReadyAnswer(
        gallery=GalleryStamp(generation=retriever.gallery.generation, items=retriever.gallery.item_count),
        galleries=stamps,
        model=model_stamp(retriever.model),
        detail="; ".join(service.to_look_at()) or None,
    )


@router.get(
    "/metrics",
    summary="Counters for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **errors(500)},
)
async def metrics(request: Request, service: Service) -> Response:
    """Stage times, batch sizes, queues, refusals and the gallery in service."""
    if service.queues is not None:
        service.metrics.observe_queues(*service.queues.batchers)
    text, content_type = service.metrics.exposition(request.headers.get("accept", ""))
    return Response(text, headers={"Content-Type": content_type})
