"""The calls of the API, as data: what to send, and how to read the answer. Both clients send the same ones."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeAlias, TypedDict, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from threadmatch.service.client.errors import AnswerNotUnderstoodError, failure_of
from threadmatch.service.http.schemas.detection import DetectAnswer
from threadmatch.service.http.schemas.feedback import FeedbackAnswer
from threadmatch.service.http.schemas.gallery import DeletedAnswer, GalleryAnswer, ItemAnswer, ItemsAnswer
from threadmatch.service.http.schemas.health import ReadyAnswer
from threadmatch.service.http.schemas.matches import BatchAnswer, ExplanationAnswer, SearchAnswer

ITEMS_A_PAGE = 500
A = TypeVar("A")
M = TypeVar("M", bound=BaseModel)

Photo: TypeAlias = bytes | str | os.PathLike[str]
"""An image file's bytes, or its path."""
Verdict: TypeAlias = Literal["match", "no_match"]
Side: TypeAlias = Literal["query", "item"]
HeatmapMethod: TypeAlias = Literal["graph", "gradcam", "attention"]
Corners: TypeAlias = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the upright photo."""


class SearchFields(TypedDict, total=False):
    """The fields of a search; README.md says what each does. None leaves a field out."""

    top_k: int
    candidates: int
    box: str | Corners | None
    filter: str | None
    matcher: str
    attributes: str | Mapping[str, float] | None
    depth: int
    rerank: bool
    explain: bool
    group_by: Literal["item", "product"]
    min_probability: float | None
    heatmaps: Literal["links", "inline"]
    collapse_duplicates: bool


class ItemProduct(TypedDict, total=False):
    """What of an item is changed beside its metadata. None takes it away; left out it stays."""

    product_id: str | None


class ItemText(TypedDict, total=False):
    """The text fields of an item that is put, beside its metadata. None leaves a field out."""

    product_id: str | None
    box: str | Corners | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[A]):
    """One request, and how its answer is read.

    Args:
        method, path: of HTTP; the path is encoded already.
        read: makes the result of a good answer.
        repeatable: asking twice is like asking once, so a connection that broke midway is tried again.
        patient: 429 and 503 are waited out; otherwise they are the answer.
    """

    method: str
    path: str
    read: Callable[[httpx.Response], A]
    params: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    files: list[tuple[str, tuple[str, bytes]]] = field(default_factory=list)
    json: Mapping[str, Any] | None = None
    repeatable: bool = True
    patient: bool = True

    def request(self, client: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """A fresh request of this call; each repetition needs its own."""
        return client.build_request(
            self.method, self.path, params=self.params or None, data=self.data or None, files=self.files or None,
            json=self.json,
        )  # fmt: skip

    def result(self, response: httpx.Response) -> A:
        """The answer, read.

        Raises:
            RequestFailedError: the service refused or failed.
            AnswerNotUnderstoodError: a good status with a body of another form.
        """
        if not response.is_success:
            raise failure_of(response)
        try:
            return self.read(response)
        except ValidationError as error:
            raise AnswerNotUnderstoodError(
                f"{self.method} {self.path} answered {response.status_code} with a body of another form than this "
                f"client knows ({error.error_count()} differences); is it the same version, and threadmatch at all?"
            ) from error


def search(photo: Photo, gallery: str | None, fields: SearchFields) -> Call[SearchAnswer]:
    """POST /v1/search."""
    sent = as_text({**fields, "gallery": gallery})
    return Call(
        method="POST", path="/v1/search", read=_model(SearchAnswer), data=sent, files=[("image", upload(photo))]
    )


def search_batch(photos: Sequence[Photo], gallery: str | None, fields: SearchFields) -> Call[BatchAnswer]:
    """POST /v1/search/batch."""
    sent = as_text({**fields, "gallery": gallery})
    files = [("images", upload(photo)) for photo in photos]
    return Call(method="POST", path="/v1/search/batch", read=_model(BatchAnswer), data=sent, files=files)


def detect(photo: Photo) -> Call[DetectAnswer]:
    """POST /v1/detect."""
    return Call(method="POST", path="/v1/detect", read=_model(DetectAnswer), files=[("image", upload(photo))])


def heatmap(
    request_id: str,
    item_id: str,
    *,
    gallery: str | None,
    side: Side,
    method: HeatmapMethod,
    attribute: str | None,
) -> Call[bytes]:
    """GET /v1/search/{request_id}/matches/{item_id}/heatmap.png."""
    path = f"/v1/search/{segment(request_id)}/matches/{segment(item_id)}/heatmap.png"
    params = as_text({"side": side, "method": method, "attribute": attribute, "gallery": gallery})
    return Call(method="GET", path=path, read=_content, params=params)


def explanation(request_id: str, item_id: str, gallery: str | None) -> Call[ExplanationAnswer]:
    """GET /v1/search/{request_id}/matches/{item_id}/explanation."""
    path = f"/v1/search/{segment(request_id)}/matches/{segment(item_id)}/explanation"
    return Call(method="GET", path=path, read=_model(ExplanationAnswer), params=as_text({"gallery": gallery}))


def searched_photo(request_id: str, gallery: str | None) -> Call[bytes]:
    """GET /v1/search/{request_id}/photo."""
    path = f"/v1/search/{segment(request_id)}/photo"
    return Call(method="GET", path=path, read=_content, params=as_text({"gallery": gallery}))


def feedback(request_id: str, item_id: str, verdict: Verdict, gallery: str | None) -> Call[FeedbackAnswer]:
    """POST /v1/feedback. The same verdict twice counts once, so it may be sent again."""
    form = {"request_id": request_id, "item_id": item_id, "verdict": verdict}
    sent = form if gallery is None else {**form, "gallery": gallery}
    return Call(method="POST", path="/v1/feedback", read=_model(FeedbackAnswer), json=sent)


def item(item_id: str, gallery: str | None) -> Call[ItemAnswer]:
    """GET /v1/items/{id}."""
    return Call(method="GET", path=item_path(item_id), read=_model(ItemAnswer), params=as_text({"gallery": gallery}))


def put_item(
    item_id: str, photo: Photo, *, gallery: str | None, metadata: Mapping[str, Any] | None, fields: ItemText
) -> Call[ItemAnswer]:
    """PUT /v1/items/{id}."""
    sent = as_text({**fields, "metadata": None if metadata is None else json.dumps(metadata)})
    params = as_text({"gallery": gallery})
    path, files = item_path(item_id), [("image", upload(photo))]
    return Call(method="PUT", path=path, read=_model(ItemAnswer), params=params, data=sent, files=files)


def change_item(
    item_id: str, *, gallery: str | None, metadata: Mapping[str, Any], fields: ItemProduct
) -> Call[ItemAnswer]:
    """PATCH /v1/items/{id}. The same change twice is as one."""
    params = as_text({"gallery": gallery})
    sent = {"metadata": dict(metadata), **fields}
    return Call(method="PATCH", path=item_path(item_id), read=_model(ItemAnswer), params=params, json=sent)


def items(filter: str | None, *, cursor: str | None, gallery: str | None) -> Call[ItemsAnswer]:
    """GET /v1/items: one page."""
    params = as_text({"filter": filter, "cursor": cursor, "gallery": gallery, "limit": ITEMS_A_PAGE})
    return Call(method="GET", path="/v1/items", read=_model(ItemsAnswer), params=params)


def delete_item(item_id: str, gallery: str | None) -> Call[DeletedAnswer]:
    """DELETE /v1/items/{id}."""
    params = as_text({"gallery": gallery})
    return Call(method="DELETE", path=item_path(item_id), read=_model(DeletedAnswer), params=params)


def item_photo(item_id: str, gallery: str | None) -> Call[bytes]:
    """GET /v1/items/{id}/image."""
    path = f"{item_path(item_id)}/image"
    return Call(method="GET", path=path, read=_content, params=as_text({"gallery": gallery}))


def gallery_info(gallery: str | None) -> Call[GalleryAnswer]:
    """GET /v1/gallery."""
    return Call(method="GET", path="/v1/gallery", read=_model(GalleryAnswer), params=as_text({"gallery": gallery}))


def ready() -> Call[ReadyAnswer]:
    """GET /health/ready."""
    return Call(method="GET", path="/health/ready", read=_model(ReadyAnswer), patient=False)


def item_path(item_id: str) -> str:
    """Where an item is."""
    return f"/v1/items/{segment(item_id)}"


def segment(text: str) -> str:
    """An id as one segment of an address; a whole "." or ".." would be taken for a step up."""
    quoted = quote(text, safe="")
    return quoted.replace(".", "%2E") if quoted in (".", "..") else quoted


def as_text(fields: Mapping[str, object]) -> dict[str, str]:
    """Fields as a form or an address holds them, without those that are None."""
    return {name: _text(value) for name, value in fields.items() if value is not None}


def upload(photo: Photo) -> tuple[str, bytes]:
    """File name and bytes of a photo; OSError where its path cannot be read."""
    if isinstance(photo, bytes):
        return "photo", photo
    path = Path(photo)
    return path.name, path.read_bytes()


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):  # attributes and their weights
        return ",".join(f"{name}:{_text(weight)}" for name, weight in value.items())
    if isinstance(value, tuple | list):
        return ",".join(map(_text, value))
    return str(value)


def _model(kind: type[M]) -> Callable[[httpx.Response], M]:
    return lambda response: kind.model_validate_json(response.content)


def _content(response: httpx.Response) -> bytes:
    return response.content
