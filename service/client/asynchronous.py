"""The client for programs with an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from threadmatch.service.client import calls
from threadmatch.service.client.calls import (
    Call,
    HeatmapMethod,
    ItemProduct,
    ItemText,
    Photo,
    SearchFields,
    Side,
    Verdict,
)
from threadmatch.service.client.retries import Retries
from threadmatch.service.client.transport import DEFAULT_TIMEOUT_S, Attempts, Outcome, options_of, outcome_of
from threadmatch.service.http.schemas.detection import DetectAnswer
from threadmatch.service.http.schemas.feedback import FeedbackAnswer
from threadmatch.service.http.schemas.gallery import DeletedAnswer, GalleryAnswer, ItemAnswer, ListedItem
from threadmatch.service.http.schemas.health import ReadyAnswer
from threadmatch.service.http.schemas.matches import BatchAnswer, ExplanationAnswer, SearchAnswer

A = TypeVar("A")


class AsyncClient:
    """`Client` for an event loop. Close it, or use it as an async context manager. Tasks may share one.

    Every call raises ServiceUnreachableError, RequestFailedError or AnswerNotUnderstoodError
    (`service.client.errors`), and OSError for a photo that cannot be read.

    Args:
        address: of the service, such as "http://127.0.0.1:8000"; without a scheme as `transport.with_scheme` says.
        key: an API key, where the service asks for one.
        timeout_s: for connecting and for each pause in sending and receiving, not for a call as a whole.
        retries: when to ask again.
        transport: another way to send than over the network.
    """

    def __init__(
        self,
        address: str,
        *,
        key: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retries: Retries | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._retries = retries or Retries()
        self._http = httpx.AsyncClient(transport=transport, **options_of(address, key, timeout_s))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def search(self, photo: Photo, *, gallery: str | None = None, **fields: Unpack[SearchFields]) -> SearchAnswer:
        """The items that show the garment of a photo, likeliest first."""
        return await self._send(await asyncio.to_thread(calls.search, photo, gallery, fields))

    async def search_batch(
        self, photos: Sequence[Photo], *, gallery: str | None = None, **fields: Unpack[SearchFields]
    ) -> BatchAnswer:
        """Up to 64 photos with one set of fields; each gets an answer or an error of its own."""
        return await self._send(await asyncio.to_thread(calls.search_batch, photos, gallery, fields))

    async def detect(self, photo: Photo) -> DetectAnswer:
        """Boxes around what may be garments, the surest first, to send as `box` of a search; there may be none."""
        return await self._send(await asyncio.to_thread(calls.detect, photo))

    async def heatmap(
        self,
        request_id: str,
        item_id: str,
        *,
        gallery: str | None = None,
        side: Side = "query",
        method: HeatmapMethod = "graph",
        attribute: str | None = None,
    ) -> bytes:
        """Where a match of a recent search was decided, or with method="attention" an attribute seen: a PNG overlay."""
        return await self._send(
            calls.heatmap(request_id, item_id, gallery=gallery, side=side, method=method, attribute=attribute)
        )

    async def explanation(self, request_id: str, item_id: str, *, gallery: str | None = None) -> ExplanationAnswer:
        """What decided a match of a recent search: the same as `explain=True` gives for all of them at once."""
        return await self._send(calls.explanation(request_id, item_id, gallery))

    async def searched_photo(self, request_id: str, *, gallery: str | None = None) -> bytes:
        """The photo of a recent search, as far as it is kept: a JPEG."""
        return await self._send(calls.searched_photo(request_id, gallery))

    async def feedback(
        self, request_id: str, item_id: str, verdict: Verdict, *, gallery: str | None = None
    ) -> FeedbackAnswer:
        """Say whether an item was the garment of a photo."""
        return await self._send(calls.feedback(request_id, item_id, verdict, gallery))

    async def item(self, item_id: str, *, gallery: str | None = None) -> ItemAnswer:
        """One item of the gallery."""
        return await self._send(calls.item(item_id, gallery))

    async def put_item(
        self,
        item_id: str,
        photo: Photo,
        *,
        gallery: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        **fields: Unpack[ItemText],
    ) -> ItemAnswer:
        """Add an item, or replace the one with this id. It is durable, and found, when this returns."""
        return await self._send(
            await asyncio.to_thread(calls.put_item, item_id, photo, gallery=gallery, metadata=metadata, fields=fields)
        )

    async def change_item(
        self,
        item_id: str,
        metadata: Mapping[str, Any] | None = None,
        *,
        gallery: str | None = None,
        **fields: Unpack[ItemProduct],
    ) -> ItemAnswer:
        """Change an item's metadata and leave its photo: None takes a column away, what is not named stays."""
        return await self._send(calls.change_item(item_id, gallery=gallery, metadata=metadata or {}, fields=fields))

    async def items(self, filter: str | None = None, *, gallery: str | None = None) -> AsyncIterator[ListedItem]:
        """Every item, or those of a filter, asked for page by page; one that is edited meanwhile may come twice."""
        cursor: str | None = None
        while True:
            page = await self._send(calls.items(filter, cursor=cursor, gallery=gallery))
            for item in page.items:
                yield item
            if (cursor := page.next) is None:
                return

    async def delete_item(self, item_id: str, *, gallery: str | None = None) -> DeletedAnswer:
        """Take an item out of the gallery; one that is not there is no error."""
        return await self._send(calls.delete_item(item_id, gallery))

    async def item_photo(self, item_id: str, *, gallery: str | None = None) -> bytes:
        """An item's display photo, JPEG."""
        return await self._send(calls.item_photo(item_id, gallery))

    async def gallery(self, *, gallery: str | None = None) -> GalleryAnswer:
        """The gallery in service: generation, size, columns, model."""
        return await self._send(calls.gallery_info(gallery))

    async def ready(self) -> ReadyAnswer:
        """That searches can be answered; TryAgainLaterError says why not."""
        return await self._send(calls.ready())

    async def _send(self, call: Call[A]) -> A:
        attempts = Attempts(call, self._retries)
        while True:
            outcome = await self._try(call)
            pause_s = attempts.pause_after(outcome)
            if pause_s is None:
                return outcome_of(call, outcome, self._http.base_url)
            await asyncio.sleep(pause_s)

    async def _try(self, call: Call[A]) -> Outcome:
        try:
            return await self._http.send(call.request(self._http))
        except httpx.RequestError as error:
            return error
