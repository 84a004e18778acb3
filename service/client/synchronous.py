"""The client for programs without an event loop."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
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


class Client:
    """Calls a service and waits. Close it, or use it as a context manager. Threads may share one.

        >>> import threadmatch
        >>> with threadmatch.Client("http://127.0.0.1:8000") as client:
        ...     answer = client.search("street.jpg", top_k=3)
        >>> [match.rank for match in answer.matches]
        [1, 2, 3]

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
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._retries = retries or Retries()
        self._http = httpx.Client(transport=transport, **options_of(address, key, timeout_s))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def search(self, photo: Photo, *, gallery: str | None = None, **fields: Unpack[SearchFields]) -> SearchAnswer:
        """The items that show the garment of a photo, likeliest first."""
        return self._send(calls.search(photo, gallery, fields))

    def search_batch(
        self, photos: Sequence[Photo], *, gallery: str | None = None, **fields: Unpack[SearchFields]
    ) -> BatchAnswer:
        """Up to 64 photos with one set of fields; each gets an answer or an error of its own."""
        return self._send(calls.search_batch(photos, gallery, fields))

    def detect(self, photo: Photo) -> DetectAnswer:
        """Boxes around what may be garments, the surest first, to send as `box` of a search; there may be none."""
        return self._send(calls.detect(photo))

    def heatmap(
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
        return self._send(
            calls.heatmap(request_id, item_id, gallery=gallery, side=side, method=method, attribute=attribute)
        )

    def explanation(self, request_id: str, item_id: str, *, gallery: str | None = None) -> ExplanationAnswer:
        """What decided a match of a recent search: the same as `explain=True` gives for all of them at once."""
        return self._send(calls.explanation(request_id, item_id, gallery))

    def searched_photo(self, request_id: str, *, gallery: str | None = None) -> bytes:
        """The photo of a recent search, as far as it is kept: a JPEG."""
        return self._send(calls.searched_photo(request_id, gallery))

    def feedback(
        self, request_id: str, item_id: str, verdict: Verdict, *, gallery: str | None = None
    ) -> FeedbackAnswer:
        """Say whether an item was the garment of a photo."""
        return self._send(calls.feedback(request_id, item_id, verdict, gallery))

    def item(self, item_id: str, *, gallery: str | None = None) -> ItemAnswer:
        """One item of the gallery."""
        return self._send(calls.item(item_id, gallery))

    def put_item(
        self,
        item_id: str,
        photo: Photo,
        *,
        gallery: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        **fields: Unpack[ItemText],
    ) -> ItemAnswer:
        """Add an item, or replace the one with this id. It is durable, and found, when this returns."""
        return self._send(calls.put_item(item_id, photo, gallery=gallery, metadata=metadata, fields=fields))

    def change_item(
        self,
        item_id: str,
        metadata: Mapping[str, Any] | None = None,
        *,
        gallery: str | None = None,
        **fields: Unpack[ItemProduct],
    ) -> ItemAnswer:
        """Change an item's metadata and leave its photo: None takes a column away, what is not named stays."""
        return self._send(calls.change_item(item_id, gallery=gallery, metadata=metadata or {}, fields=fields))

    def items(self, filter: str | None = None, *, gallery: str | None = None) -> Iterator[ListedItem]:
        """Every item, or those of a filter, asked for page by page; one that is edited meanwhile may come twice."""
        cursor: str | None = None
        while True:
            page = self._send(calls.items(filter, cursor=cursor, gallery=gallery))
            yield from page.items
            if (cursor := page.next) is None:
                return

    def delete_item(self, item_id: str, *, gallery: str | None = None) -> DeletedAnswer:
        """Take an item out of the gallery; one that is not there is no error."""
        return self._send(calls.delete_item(item_id, gallery))

    def item_photo(self, item_id: str, *, gallery: str | None = None) -> bytes:
        """An item's display photo, JPEG."""
        return self._send(calls.item_photo(item_id, gallery))

    def gallery(self, *, gallery: str | None = None) -> GalleryAnswer:
        """The gallery in service: generation, size, columns, model."""
        return self._send(calls.gallery_info(gallery))

    def ready(self) -> ReadyAnswer:
        """That searches can be answered; TryAgainLaterError says why not."""
        return self._send(calls.ready())

    def _send(self, call: Call[A]) -> A:
        attempts = Attempts(call, self._retries)
        while True:
            outcome = self._try(call)
            pause_s = attempts.pause_after(outcome)
            if pause_s is None:
                return outcome_of(call, outcome, self._http.base_url)
            time.sleep(pause_s)

    def _try(self, call: Call[A]) -> Outcome:
        try:
            return self._http.send(call.request(self._http))
        except httpx.RequestError as error:
            return error
