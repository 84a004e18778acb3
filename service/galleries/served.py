"""The galleries in service, by name. `service.routes.gallery_choice` says which of them a request is about.

One service holds a default gallery and any number of further ones (`THREADMATCH_GALLERIES`), all read with one model.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path

from threadmatch.indexer.errors import IndexerError, StoreUnavailableError
from threadmatch.indexer.opening import watch_calls
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.indexer.reading.opened import OpenGallery
from threadmatch.service.config import DEFAULT_GALLERY
from threadmatch.service.errors import NotReadyError
from threadmatch.service.galleries.background_folding import Folding, FoldRule
from threadmatch.service.galleries.item_writer import ItemWriter
from threadmatch.service.galleries.warming import Warming
from threadmatch.service.queues.model_queues import ModelQueues
from threadmatch.service.search.retriever import Retriever
from threadmatch.service.watching.metrics import Metrics

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class EditLimits:
    """Bounds on edits of one gallery: those that wait for the disk, those that wait for being folded, when to fold."""

    max_waiting: int
    max_unfolded: int
    fold: FoldRule


@dataclass(slots=True)
class ServedGallery:
    """One gallery of the service; it lives on the event loop.

    Args:
        name: by which requests and keys call it.
        folder: where it is, also while there is nothing in it yet.
    """

    name: str
    folder: Path
    retriever: Retriever | None = None
    writer: ItemWriter | None = None
    fold: Folding | None = None
    missing: str = "the gallery is being opened"  # why there is no retriever
    newer_refused: str | None = None  # why a newer generation is not in service
    warming: Warming | None = None
    engine_away: bool = False  # the last look for one got no answer from an engine of a cluster

    @property
    def named_in_links(self) -> str | None:
        """What `?gallery=` says in the links of an answer; None for the default gallery, which needs none."""
        return None if self.name == DEFAULT_GALLERY else self.name

    def open_retriever(self) -> Retriever:
        """The retriever.

        Raises:
            NotReadyError: there is none; says why.
        """
        if self.retriever is None:
            raise NotReadyError(f"gallery {self.name!r} is not ready: {self.missing}")
        return self.retriever

    def open_writer(self) -> ItemWriter:
        """What puts and deletes items.

        Raises:
            NotReadyError: there is no gallery to change; says why.
        """
        self.open_retriever()
        assert self.writer is not None, "a gallery in service has both"
        return self.writer

    def put_in_service(
        self, gallery: OpenGallery, queues: ModelQueues, limits: EditLimits, *, warm_share: float = 0.0
    ) -> None:
        """Answer searches from `gallery`, and take edits of it; on the running loop.

        Args:
            gallery: open.
            queues: to the model.
            limits: on edits.
            warm_share: of free memory, into which its files are read in the background.
        """
        metrics = queues.metrics
        watch_calls(gallery, metrics.engine_calls)
        self.writer = ItemWriter(
            self.name, gallery, queues, max_waiting=limits.max_waiting, max_unfolded=limits.max_unfolded
        )
        self.writer.start()
        if isinstance(gallery, Gallery):  # a cluster's edits are in its collection at once
            self.fold = Folding(self.name, gallery, limits.fold, metrics)
            self.warming = Warming(self.name, gallery, warm_share)
            self.warming.start()
        self.retriever = Retriever(gallery, queues, name=self.name)
        metrics.observe_gallery(self.name, gallery.generation, gallery.item_count)
        logger.info(
            "gallery in service",
            extra={"gallery": self.name, "generation": gallery.generation, "items": gallery.item_count},
        )

    async def stop(self, timeout_s: float) -> None:
        """Let edits that wait be written, and close what is open."""
        if self.warming is not None:
            self.warming.stop()
        if self.fold is not None:
            await self.fold.stop()
        if self.writer is not None:
            await self.writer.stop(timeout_s)

    async def refresh(self, metrics: Metrics) -> None:
        """Take a newer generation into service, if there is one that fits the model; see whether a fold is due."""
        if self.retriever is None:
            return
        gallery = self.retriever.gallery
        try:
            moved = await asyncio.to_thread(gallery.refresh)
            pending = (await asyncio.to_thread(lambda: gallery.current)).pending
        except StoreUnavailableError as error:  # refuses no generation: its calls are counted, searches are told 503
            if not self.engine_away:
                logger.warning("an engine does not answer", extra={"gallery": self.name, "reason": str(error)})
            self.engine_away = True
            return
        except (IndexerError, OSError) as error:
            if self.newer_refused != str(error):  # say it once, not every second
                logger.error(
                    "newer gallery refused, the old one stays in service",
                    extra={"gallery": self.name, "reason": str(error)},
                )
            self.newer_refused = str(error)
            metrics.gallery_refusals.labels(self.name).set(1)
            return
        self.newer_refused, self.engine_away = None, False
        metrics.gallery_refusals.labels(self.name).set(0)
        if moved:
            logger.info("gallery moved", extra={"gallery": self.name, "generation": gallery.generation})
            if self.warming is not None:
                self.warming.start()
        metrics.observe_gallery(self.name, gallery.generation, gallery.item_count)
        metrics.gallery_unfolded.labels(self.name).set(pending)
        if self.fold is not None:
            self.fold.look(pending)
