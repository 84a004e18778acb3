"""Puts the service together.

`uvicorn --factory threadmatch.service.app:app_from_env` serves what the environment describes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from fastapi import FastAPI

from threadmatch.indexer.reading.opened import OpenGallery
from threadmatch.service.access.wiring import install_access
from threadmatch.service.config import DEFAULT_GALLERY, Settings, load_settings
from threadmatch.service.errors import install_error_handlers
from threadmatch.service.feedback.verdicts import feedback_of
from threadmatch.service.galleries.loading import open_all
from threadmatch.service.galleries.served import ServedGallery
from threadmatch.service.http.forwarded import ForwardedMiddleware
from threadmatch.service.http.middleware import RequestMiddleware
from threadmatch.service.http.public_address import PublicAddressMiddleware
from threadmatch.service.lifespan import poll_galleries, put_in_service, wait_for_galleries
from threadmatch.service.queues.batching import Budget
from threadmatch.service.queues.served_model import ServedModel
from threadmatch.service.routes import batch, detect, edits, feedback, health, items, pages, remembered, search, session
from threadmatch.service.search.recent_searches import remembering
from threadmatch.service.shared import ServiceState
from threadmatch.service.watching.metrics import Metrics
from threadmatch.service.watching.tracing import Tracing

API_VERSION = "1.0.0"
DESCRIPTION = """Find the garment of a street photo in a shop's catalogue.

Every error has the form `{"error", "detail", "request_id"}`. `X-Request-ID` is on every answer; one that a client sends
is kept.
"""


def create_app(
    settings: Settings | str | os.PathLike[str],
    *,
    model: ServedModel | None = None,
    gallery: OpenGallery | None = None,
    further: Mapping[str, OpenGallery] | None = None,
) -> FastAPI:
    """Build the app, for any ASGI server. Nothing is opened until its lifespan is entered.

        >>> import threadmatch
        >>> app = threadmatch.create_app("gallery")  # uvicorn --factory and a function that returns it, or mounted
        >>> app.title
        'threadmatch'

    Args:
        settings: all of them; or the gallery's folder, and the THREADMATCH_* variables say the rest.
        model: loaded already; None loads the one of `settings`, or the default gallery's.
        gallery: the default one, opened already, of this model; None opens the folder of `settings`.
        further: galleries of `settings.galleries` that are opened already.
    """
    if not isinstance(settings, Settings):
        settings = load_settings(gallery=Path(settings))
    state = _new_state(settings)

    loaded = None if model is None or gallery is None else (model, {DEFAULT_GALLERY: gallery, **(further or {})})

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        taking = feedback_of(settings.feedback, max_mib=settings.feedback_mib, recent_minutes=settings.recent_minutes)
        with taking as state.feedback:
            async with state.tracing, remembering(settings) as state.recent, _serving(state, loaded):
                yield

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
    _add_routes(app)
    install_access(app, settings, state.metrics.reject)
    app.add_middleware(RequestMiddleware, metrics=state.metrics, tracing=state.tracing)
    app.add_middleware(PublicAddressMiddleware, address=settings.public_url)
    app.add_middleware(ForwardedMiddleware, root_path=settings.root_path)
    install_error_handlers(app, state.metrics.reject)
    return app


@contextlib.asynccontextmanager
async def _serving(
    state: ServiceState, loaded: tuple[ServedModel, Mapping[str, OpenGallery]] | None
) -> AsyncIterator[None]:
    """Search and edit while the block runs, with what is `loaded` already, or what the settings say."""
    settings = state.settings
    opening: asyncio.Task[None] | None = None
    if loaded is not None:
        await put_in_service(state, *loaded)
    elif settings.wait_for_gallery:
        opening = asyncio.create_task(wait_for_galleries(state))
    else:
        await put_in_service(state, *await asyncio.to_thread(open_all, settings))
    polling = asyncio.create_task(poll_galleries(state))
    try:
        yield
    finally:
        for task in (opening, polling):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})
        if state.queues is not None:
            await state.queues.stop(settings.drain_s)
        await asyncio.gather(*(served.stop(settings.drain_s) for served in state.galleries.values()))


def _add_routes(app: FastAPI) -> None:
    app.state.routes = list(app.routes)  # one by one: included, they are hidden in their routers
    for part in (search, batch, feedback, remembered, detect, items, edits, session, health, pages):
        app.include_router(part.router)
        app.state.routes += part.router.routes


def _new_state(settings: Settings) -> ServiceState:
    folders = {DEFAULT_GALLERY: settings.gallery, **settings.galleries}
    metrics = Metrics()
    for name in folders:
        metrics.observe_gallery(name, "", 0)
    return ServiceState(
        settings=settings,
        metrics=metrics,
        tracing=Tracing(settings.otlp_endpoint),
        searches=Budget("searches", settings.max_searches),
        edits=Budget("changes", settings.max_edits),
        galleries={name: ServedGallery(name, folder) for name, folder in folders.items()},
    )


def app_from_env() -> FastAPI:
    """The app as the environment describes it, with logging set up: the factory that worker processes call."""
    from threadmatch.service.process.connections import TimedHead
    from threadmatch.service.process.supervisor import end_with_parent
    from threadmatch.service.watching.logs import set_up_logging

    settings = load_settings()
    set_up_logging(settings.log_level)
    end_with_parent()
    TimedHead.most_of_one_address = settings.max_connections
    return create_app(settings)
