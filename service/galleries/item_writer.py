"""Edits of one gallery, without HTTP: a photo in, the item in the gallery when the call returns.

    look up  ->  decode  ->  encode  ->  write
    threads      threads     model       one thread

A photo that the gallery has seen before is not decoded again. Writes wait in a bounded queue: while one transaction is
on its way to the disk the next ones gather, and share the wait.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import Any

from threadmatch.indexer.catalogue.garments import AUTO, WHOLE, asked_of, kinds_of, looks
from threadmatch.indexer.catalogue.sources import normal_box
from threadmatch.indexer.catalogue.values import metadata_json
from threadmatch.indexer.edits.live_writes import Change, ContentGoneError, Delete, Edit, Edited, Put
from threadmatch.indexer.edits.looking_at import with_look
from threadmatch.indexer.errors import EditError, EditFailedError, ItemNotFoundError
from threadmatch.indexer.opening import editor_of
from threadmatch.indexer.predicting import columns_of, is_predicted
from threadmatch.indexer.reading.gallery import Item, StoredPhoto
from threadmatch.indexer.reading.opened import OpenGallery
from threadmatch.indexer.store.contents import Content, content_of
from threadmatch.indexer.store.versions import Version
from threadmatch.model.detection.parsing.detector import ParserDetector
from threadmatch.model.features import ATTRIBUTES, in_common
from threadmatch.model.images import Box, display_photo
from threadmatch.model.matching import Photo
from threadmatch.service.errors import InvalidFieldError, error_name
from threadmatch.service.queues.batching import Limits, MicroBatcher, WorkThread
from threadmatch.service.queues.decoding import Unpacked
from threadmatch.service.queues.model_queues import ModelQueues
from threadmatch.service.search.detecting import prepare_item

EDITS_A_COMMIT = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class NewItem:
    """An item to put: its photo's bytes, and a catalogue row's other fields, checked (`service.routes.item_form`)."""

    id: str
    photo: bytes
    product_id: str | None
    box: str | None
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class _Made:
    """A photo unpacked, and its features."""

    unpacked: Unpacked
    features: Photo


class ItemWriter:
    """Puts and deletes items of one gallery.

    Args:
        name: of the gallery, for the metrics.
        gallery: of the model in `queues`.
        queues: the model, entered already.
        max_waiting: edits that may wait for the disk.
        max_unfolded: edits that may wait for being folded into the index.
    """

    def __init__(
        self, name: str, gallery: OpenGallery, queues: ModelQueues, *, max_waiting: int, max_unfolded: int
    ) -> None:
        self._name, self._gallery, self._queues = name, gallery, queues
        self._editor = editor_of(gallery, max_pending=max_unfolded)
        self._thread = WorkThread(f"write-{name}")
        self._batcher: MicroBatcher[Edit, Edited | EditError] = MicroBatcher(
            "write",
            self._editor.apply,
            thread=self._thread,
            limits=Limits(
                max_batch=EDITS_A_COMMIT, max_waiting=max_waiting, waiting="changes are waiting for the disk"
            ),
            observe=partial(queues.metrics.observe_call, "write"),
            failed=_not_written,
        )

    def start(self) -> None:
        """Begin to write; on the running loop."""
        self._batcher.start()

    async def stop(self, timeout_s: float) -> None:
        """Write what waits, then close the database."""
        await self._batcher.stop(timeout_s)
        self._thread.executor.submit(self._editor.close)
        self._thread.executor.shutdown(wait=False)

    async def put(self, item: NewItem) -> tuple[Item, Edited]:
        """Put an item in place of one with its id. When this returns it is durable, and the next search finds it.

        Raises:
            InvalidImageError: the photo or the box.
            InvalidFieldError: a garment is to be found, and the service has no parser.
            EditError: it was not written; see `indexer.errors`.
            OverloadedError, ModelFailedError, StoppedError: see `service.queues.batching`.
        """
        queues = self._queues
        with queues.in_progress():
            box = self._asked_box(item)
            sha256 = await queues.run_in(queues.readers, _sha256, item.photo)
            stored = await queues.run_in(queues.readers, self._gallery.find_photo, sha256, box)
            predicting = is_predicted(self._gallery.columns())
            made = await self._features(item.photo, box) if predicting or not stored else None
            metadata = item.metadata | (self._predicted(made.features) if made and predicting else {})
            version = Version(item.id, item.product_id, metadata_json(metadata), "", stored.content if stored else 0)
            content = await self._content(made, sha256, box) if made and not stored else None
            try:
                edited = await self._write(Put(version, content))
            except ContentGoneError:  # removed by a compaction since it was looked up
                content = await self._content(made or await self._features(item.photo, box), sha256, box)
                edited = await self._write(Put(version, content))
            self._count("unchanged" if not edited.changed else "replaced" if edited.existed else "created")
        seen = stored if content is None else StoredPhoto(0, content.width, content.height, Box(*content.box))
        assert seen is not None, "a photo is either stored or encoded"
        return Item(item.id, item.product_id, version.metadata, seen.width, seen.height, seen.box), edited

    async def change(self, change: Change) -> Edited:
        """Change an item's fields, not its photo. When this returns it is durable, and the next search finds it so.

        Raises:
            ItemNotFoundError: there is no such item.
            EditError, OverloadedError, StoppedError: as for `put`.
        """
        with self._queues.in_progress():
            edited = await self._write(change)
            self._count("absent" if not edited.existed else "changed" if edited.changed else "unchanged")
            if not edited.existed:
                raise ItemNotFoundError(change.id)
            return edited

    async def delete(self, item_id: str) -> bool:
        """Delete an item; whether there was one. When this returns it is durable, and no search finds it any more.

        Raises:
            EditError, OverloadedError, StoppedError: as for `put`.
        """
        with self._queues.in_progress():
            edited = await self._write(Delete(item_id))
            self._count("deleted" if edited.existed else "absent")
            return edited.existed

    def _asked_box(self, item: NewItem) -> str:
        """What of the photo is encoded, as ingestion says it; where nobody says, what the last ingestion did."""
        rule = (item.box or self._gallery.manifest.box).casefold()
        if rule == WHOLE:
            return ""
        if rule != AUTO:
            return normal_box(rule)
        detector = self._queues.detector
        if isinstance(detector, ParserDetector):
            return asked_of(detector.fingerprint, metadata_json(item.metadata))
        if item.box:
            raise InvalidFieldError(
                f"box is auto, but this service's detector, {detector.name}, is no parser: send a box"
            )
        return ""

    async def _features(self, photo: bytes, asked_box: str) -> _Made:
        queues, detector = self._queues, self._queues.detector
        if looks(asked_box) and isinstance(detector, ParserDetector):
            prepared, image = await prepare_item(queues, detector, photo, kinds_of(asked_box))
            unpacked = Unpacked(prepared, await queues.run_in(queues.readers, display_photo, image))
        else:
            unpacked = await queues.decoding.photo(photo, box=asked_box or None, show="all")
        return _Made(unpacked, await self._queues.encode(unpacked.prepared.pixels))

    def _predicted(self, features: Photo) -> dict[str, Any]:
        """Columns like those that ingestion predicted; none where this model knows no attributes."""
        known = self._queues.model.attributes
        return {} if known is None else columns_of(known, features[ATTRIBUTES])

    async def _content(self, made: _Made, sha256: str, asked_box: str) -> Content:
        queues, prepared = self._queues, made.unpacked.prepared
        content = content_of(
            made.features,
            in_common(self._gallery.features, queues.model.features),
            sha256=sha256,
            asked_box=asked_box,
            size=(prepared.width, prepared.height),
            box=(prepared.box.x0, prepared.box.y0, prepared.box.x1, prepared.box.y1),
            photo=made.unpacked.shown,
        )
        return await queues.run_in(queues.readers, with_look, self._gallery.current, content)

    async def _write(self, edit: Edit) -> Edited:
        outcome = await self._batcher.submit(edit)
        if isinstance(outcome, EditError):
            self._count(error_name(type(outcome)))
            # A new error with the cause: this one may be the answer of several.
            raise type(outcome)(*outcome.args) from outcome
        return outcome

    def _count(self, outcome: str) -> None:
        self._queues.metrics.edits.labels(self._name, outcome).inc()


def _not_written(_cause: BaseException) -> Exception:
    return EditFailedError("the gallery cannot be edited now; the service's log has the reason")


def _sha256(photo: bytes) -> str:
    return hashlib.sha256(photo).hexdigest()
