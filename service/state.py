"""What the routes share: settings, counters and, once a gallery is open, the retriever."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from fastapi import FastAPI
from starlette.requests import Request

from indexer.errors import IndexerError
from service.batching import Budget
from service.config import Settings
from service.errors import NotReadyError, RequestError
from service.metrics import Metrics
from service.recent import RecentSearches
from service.retriever import Retriever

logger = logging.getLogger(__name__)

PROBE_TIMEOUT_S = 10.0


@dataclass(slots=True)
class ServiceState:
    """The one mutable object of an app; it lives on the event loop."""

    settings: Settings
    metrics: Metrics
    searches: Budget
    retriever: Retriever | None = None
    recent: RecentSearches | None = None  # None where none are kept
    missing: str = "the gallery is being opened"  # why there is no retriever
    newer_refused: str | None = None  # why a newer generation is not in service
    probing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def open_retriever(self) -> Retriever:
        """The retriever; NotReadyError says why there is none."""
        if self.retriever is None:
            raise NotReadyError(f"not ready: {self.missing}")
        return self.retriever

    async def not_ready_because(self) -> str | None:
        """Why searches cannot be answered now, in words; None when they can.

        After a failed model call a probe has to pass through the real batchers first.
        """
        if self.retriever is None:
            return self.missing
        busy_s = self.retriever.thread.busy_s()
        if busy_s > self.settings.stall_s:
            return f"one call of the model has taken {busy_s:.0f} s so far"
        if any(batcher.failure is not None for batcher in self.retriever.batchers):
            return await self._probe(self.retriever)
        return None

    async def refresh(self) -> None:
        """Take a newer generation of the gallery into service, if there is one that fits the model."""
        retriever = self.retriever
        if retriever is None:
            return
        try:
            moved = await asyncio.to_thread(retriever.gallery.refresh)
        except (IndexerError, OSError) as error:
            if self.newer_refused != str(error):  # say it once, not every second
                logger.error("newer gallery refused, the old one stays in service", extra={"reason": str(error)})
            self.newer_refused = str(error)
            self.metrics.gallery_refusals.set(1)
            return
        self.newer_refused = None
        self.metrics.gallery_refusals.set(0)
        if moved:
            logger.info("gallery moved", extra={"generation": retriever.gallery.generation})
        self.metrics.observe_gallery(retriever.gallery.generation, retriever.gallery.item_count)
        self.metrics.observe_queues(*retriever.batchers)  # for scrapes that another worker answers

    async def _probe(self, retriever: Retriever) -> str | None:
        async with self.probing:  # one probe answers all who ask meanwhile
            if all(batcher.failure is None for batcher in retriever.batchers):
                return None
            try:
                async with asyncio.timeout(PROBE_TIMEOUT_S):
                    await retriever.probe()
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


def service_of(request: Request) -> ServiceState:
    """FastAPI dependency: the state of the app that got the request."""
    return state_of(request.app)
