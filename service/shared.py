"""What the routes share: settings, counters, the galleries and, once one is open, the model."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass, field

from fastapi import FastAPI
from starlette.requests import Request

from threadmatch.service.config import DEFAULT_GALLERY, Settings
from threadmatch.service.errors import RequestError
from threadmatch.service.feedback.verdicts import FeedbackStore
from threadmatch.service.galleries.served import ServedGallery
from threadmatch.service.queues.batching import Budget
from threadmatch.service.queues.model_queues import ModelQueues
from threadmatch.service.search.recent_searches import RecentSearches
from threadmatch.service.watching.metrics import Metrics
from threadmatch.service.watching.tracing import Tracing

logger = logging.getLogger(__name__)

PROBE_TIMEOUT_S = 10.0


@dataclass(slots=True)
class ServiceState:
    """The one mutable object of an app; it lives on the event loop.

    Routes get a gallery by `service.routes.gallery_choice`.
    """

    settings: Settings
    metrics: Metrics
    tracing: Tracing
    searches: Budget
    edits: Budget
    galleries: dict[str, ServedGallery]
    queues: ModelQueues | None = None  # None until the default gallery is open, which says which model it is
    recent: RecentSearches | None = None  # None where none are kept
    feedback: FeedbackStore | None = None  # None where none is taken
    probing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def default(self) -> ServedGallery:
        """The gallery of requests that name none."""
        return self.galleries[DEFAULT_GALLERY]

    async def not_ready_because(self) -> str | None:
        """Why searches cannot be answered now, in words; None when they can.

        The default gallery decides, and the model: a further gallery that is missing must not take the others out of
        service.
        """
        if self.default.retriever is None or self.queues is None:
            return self.default.missing
        if (damaged := len(self.default.retriever.damaged)) > self.settings.max_damaged:
            return f"{damaged} items of the gallery are damaged; `threadmatch gallery verify` says which"
        return await self.model_fails_because()

    async def model_fails_because(self) -> str | None:
        """Why the model cannot be asked now, in words; None when it can, or is not open yet.

        After a failed call a probe has to pass through the real batchers first.
        """
        queues = self.queues
        if queues is None:
            return None
        busy_s = queues.thread.busy_s()
        if busy_s > self.settings.stall_s:
            return f"one call of the model has taken {busy_s:.0f} s so far"
        if any(batcher.failure is not None for batcher in queues.batchers):
            return await self._probe(queues)
        return None

    def to_look_at(self, names: Collection[str]) -> list[str]:
        """What an operator should know although searches work: a line for each of these galleries that is not well."""
        lines = []
        for gallery in (self.galleries[name] for name in names):
            if gallery.retriever is None:
                lines.append(f"gallery {gallery.name!r} is not ready: {gallery.missing}")
                continue
            if damaged := len(gallery.retriever.damaged):
                lines.append(
                    f"{damaged} items of {gallery.name!r} are damaged; `threadmatch gallery verify` says which"
                )
            if gallery.newer_refused:
                lines.append(f"a newer generation of {gallery.name!r} is refused: {gallery.newer_refused}")
        return lines

    async def refresh(self) -> None:
        """Take newer generations into service, where there are such that fit the model."""
        results = await asyncio.gather(
            *(gallery.refresh(self.metrics) for gallery in self.galleries.values()), return_exceptions=True
        )
        for gallery, result in zip(self.galleries.values(), results, strict=True):
            if isinstance(result, Exception):  # one gallery's trouble is not another's
                logger.error("looking for a newer gallery failed", extra={"gallery": gallery.name}, exc_info=result)
        if self.queues is not None:
            self.metrics.observe_queues(
                *self.queues.batchers, *self.queues.decoding.lanes
            )  # for scrapes that another worker answers
            self.metrics.ready.set(0 if await self.not_ready_because() else 1)
        self.metrics.vitals.observe()

    async def _probe(self, queues: ModelQueues) -> str | None:
        async with self.probing:  # one probe answers all who ask meanwhile
            if all(batcher.failure is None for batcher in queues.batchers):
                return None
            try:
                async with asyncio.timeout(PROBE_TIMEOUT_S):
                    await queues.probe()
            except RequestError:
                return "the latest call of the model failed and so did a probe; the service's log has the reason"
            except TimeoutError:
                return f"the latest call of the model failed and a probe took more than {PROBE_TIMEOUT_S:g} s"
            logger.info("probe passed after a failed model call")
            return None


def state_of(app: FastAPI) -> ServiceState:
    """The state that `create_app` attached."""
    state = app.state.service
    assert isinstance(state, ServiceState)
    return state


async def service_of(request: Request) -> ServiceState:
    """FastAPI dependency: the state of the app that got the request. Not a plain function: each call of one is handed
    to a thread, which costs more than it does."""
    return state_of(request.app)
