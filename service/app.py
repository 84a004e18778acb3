"""Puts the service together. `uvicorn --factory service.app:app_from_env` serves what the environment describes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from fastapi import FastAPI

from indexer.gallery import Gallery
from model.images import ImageLimits
from service.batching import Budget
from service.config import Settings, load_settings
from service.errors import StartError, install_error_handlers
from service.loading import open_both
from service.metrics import Metrics
from service.middleware import RequestMiddleware
from service.recent import remembering
from service.results import Matcher
from service.retriever import Capacity, Retriever
from service.routes import health, items, pages, search
from service.state import ServiceState

logger = logging.getLogger(__name__)

API_VERSION = "1.0.0"
DESCRIPTION = """Find the garment of a street photo in a shop's catalogue.

Every error has the form `{"error", "detail", "request_id"}`. `X-Request-ID` is on every answer; one that a client sends
is kept.
"""


def create_app(settings: Settings, *, model: Matcher | None = None, gallery: Gallery | None = None) -> FastAPI:
    """Build the app. Nothing is opened until its lifespan is entered.

    Args:
        settings: all of them.
        model: loaded already; None loads the one of `settings`, or the gallery's.
        gallery: opened already, of this model; None opens the folder of `settings`.
    """
    metrics = Metrics()
    state = ServiceState(settings=settings, metrics=metrics, searches=Budget("searches", settings.max_searches))

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with remembering(settings) as state.recent, serving():
            yield

    @contextlib.asynccontextmanager
    async def serving() -> AsyncIterator[None]:
        opening: asyncio.Task[None] | None = None
        if model is not None and gallery is not None:
            await _put_in_service(state, model, gallery)
        elif settings.wait_for_gallery:
            opening = asyncio.create_task(_wait_for_gallery(state))
        else:
            await _put_in_service(state, *await _open(settings))
        polling = asyncio.create_task(_poll_gallery(state))
        try:
            yield
        finally:
            for task in (opening, polling):
                if task is not None:
                    task.cancel()
                    await asyncio.wait({task})
            if state.retriever is not None:
                await state.retriever.stop(settings.drain_s)

    app = FastAPI(
        title="threadmatch",
        version=API_VERSION,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = state
    app.add_middleware(RequestMiddleware, metrics=metrics)
    install_error_handlers(app, lambda reason: metrics.rejects.labels(reason).inc())
    for part in (search, items, health, pages):
        app.include_router(part.router)
    return app


def app_from_env() -> FastAPI:
    """The app as the environment describes it, with logging set up: the factory that worker processes call."""
    from service.logs import set_up_logging

    settings = load_settings()
    set_up_logging(settings.log_level)
    return create_app(settings)


async def _open(settings: Settings) -> tuple[Matcher, Gallery]:
    return await asyncio.to_thread(open_both, settings.gallery, model=settings.model, device=settings.device)


async def _put_in_service(state: ServiceState, model: Matcher, gallery: Gallery) -> None:
    settings = state.settings
    capacity = Capacity(
        max_waiting=settings.max_searches,
        max_pairs=settings.max_pairs,
        encode_batch=settings.encode_batch,
        rerank_pairs=settings.rerank_pairs,
        decode_threads=settings.decode_threads,
        gallery_threads=settings.gallery_threads,
        images=ImageLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels),
        keep_views=state.recent is not None,
    )
    retriever = await Retriever(model, gallery, capacity=capacity, metrics=state.metrics).__aenter__()
    await retriever.probe()  # the first call of a model is slow; let no client wait for it
    state.retriever = retriever
    state.metrics.observe_gallery(gallery.generation, gallery.item_count)
    state.metrics.ready.set(1)
    logger.info(
        "gallery in service",
        extra={"generation": gallery.generation, "items": gallery.item_count, "model": model.name},
    )


async def _wait_for_gallery(state: ServiceState) -> None:
    while True:
        try:
            await _put_in_service(state, *await _open(state.settings))
            return
        except StartError as error:
            if state.missing != str(error):
                logger.info("waiting for the gallery", extra={"reason": str(error)})
            state.missing = str(error)
        await asyncio.sleep(state.settings.gallery_poll_s)


async def _poll_gallery(state: ServiceState) -> None:
    while True:
        await asyncio.sleep(state.settings.gallery_poll_s)
        try:
            await state.refresh()
        except Exception:  # the look for a newer gallery must outlive any one failure
            logger.exception("looking for a newer gallery failed")
