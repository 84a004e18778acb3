"""PUT and DELETE /v1/items/{id}: change the gallery while it is in service."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Path
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from threadmatch.indexer.reading.filter_kinds import odd_values
from threadmatch.indexer.reading.gallery import Item
from threadmatch.model.decoding import ACCEPTED_FORMATS
from threadmatch.service.access.roles import needs
from threadmatch.service.errors import SearchTimeoutError
from threadmatch.service.galleries.served import ServedGallery
from threadmatch.service.http.schemas.answers import GalleryStamp
from threadmatch.service.http.schemas.gallery import DeletedAnswer, ItemAnswer, ItemChange, ItemFields
from threadmatch.service.http.search_form import IMAGE_FIELD, UploadLimits
from threadmatch.service.routes.gallery_choice import Chosen
from threadmatch.service.routes.item_form import CHANGE_TYPES, checked_id, read_change, read_item
from threadmatch.service.routes.openapi_parts import body_of, errors, text_fields
from threadmatch.service.search.answers import item_answer
from threadmatch.service.shared import ServiceState, service_of

R = TypeVar("R")

router = APIRouter(tags=["gallery"])

ItemId = Annotated[str, Path(description="the item's id, percent-encoded", examples=["MH06-black-main"])]
Service = Annotated[ServiceState, Depends(service_of)]


def _form_schema() -> dict[str, Any]:
    photo = {"type": "string", "format": "binary", "description": f"the photo: {', '.join(ACCEPTED_FORMATS)}"}
    return {
        "title": "ItemForm",
        "type": "object",
        "required": [IMAGE_FIELD],
        "properties": {IMAGE_FIELD: photo, **text_fields(ItemFields)},
        "additionalProperties": False,
    }


@router.put(
    "/v1/items/{item_id:path}",
    summary="Put an item into the gallery",
    response_model=ItemAnswer,
    responses={
        201: {"model": ItemAnswer, "description": "the item is new"},
        **errors(404, 405, 408, 413, 415, 422, 429, 500, 503, 507),
    },
    openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _form_schema()}}}},
)
@needs("write")
async def put_item(item_id: ItemId, request: Request, service: Service, chosen: Chosen) -> Response:
    """Once this answers, the item is on the disk and the next search finds it, whichever process answers that.

    An item with the same id is replaced (200), all of it: metadata that is not sent is gone. PATCH changes some of it.
    Without one it is new (201). The same request again changes nothing.
    """
    writer = chosen.open_writer()
    settings = service.settings
    limits = UploadLimits(max_image_bytes=settings.max_image_bytes, timeout_s=settings.upload_timeout_s)
    name = checked_id(request, _id_of(request, item_id))
    service.edits.check()
    new = await read_item(request, name, limits)
    with service.edits.take():
        item, edited = await _in_time(settings.search_timeout_s, writer.put(new))
    stamp = await asyncio.to_thread(_stamp, chosen)
    warnings = odd_values(new.metadata, chosen.open_retriever().gallery.manifest.columns)
    answer = item_answer(item, stamp, gallery=chosen.named_in_links, warnings=warnings)
    request.state.log.update(item=name, existed=edited.existed, changed=edited.changed)
    status = 200 if edited.existed else 201
    return Response(answer.model_dump_json(), status_code=status, media_type="application/json")


@router.patch(
    "/v1/items/{item_id:path}",
    summary="Change an item's metadata",
    response_model=ItemAnswer,
    responses=errors(404, 405, 408, 413, 415, 422, 429, 500, 503, 507),
    openapi_extra=body_of(ItemChange, *CHANGE_TYPES),
)
@needs("write")
async def patch_item(item_id: ItemId, request: Request, service: Service, chosen: Chosen) -> Response:
    """Merge into what the item has, and leave its photo: null takes a column away, what is not named stays.

    Once this answers, it is on the disk and the next search finds it so. PUT replaces the whole item. The same request
    again changes nothing.
    """
    writer = chosen.open_writer()
    name = checked_id(request, _id_of(request, item_id))
    change = await read_change(request, name, timeout_s=service.settings.upload_timeout_s)
    with service.edits.take():
        edited = await _in_time(service.settings.search_timeout_s, writer.change(change))
    gallery = chosen.open_retriever().gallery
    item, stamp = await asyncio.to_thread(_now, chosen, name)
    warnings = odd_values(change.metadata, gallery.manifest.columns)
    request.state.log.update(item=name, changed=edited.changed)
    answer = item_answer(item, stamp, gallery=chosen.named_in_links, warnings=warnings)
    return Response(answer.model_dump_json(), media_type="application/json")


@router.delete(
    "/v1/items/{item_id:path}",
    summary="Delete an item from the gallery",
    response_model=DeletedAnswer,
    responses=errors(404, 405, 422, 429, 500, 503, 507),
)
@needs("write")
async def delete_item(item_id: ItemId, request: Request, service: Service, chosen: Chosen) -> Response:
    """Once this answers, no search finds the item any more. The same request again answers `deleted: false`."""
    writer = chosen.open_writer()
    name = checked_id(request, _id_of(request, item_id))
    with service.edits.take():
        deleted = await _in_time(service.settings.search_timeout_s, writer.delete(name))
    request.state.log.update(item=name, deleted=deleted)
    return Response(DeletedAnswer(id=name, deleted=deleted).model_dump_json(), media_type="application/json")


def _id_of(request: Request, item_id: str) -> str:
    """The id; 405 for the address of an item's photo, which cannot be changed on its own; 404 without an id."""
    if not item_id:
        raise HTTPException(404)
    raw_path: bytes = request.scope.get("raw_path") or b""
    if raw_path.endswith(b"/image") and item_id.endswith("/image"):
        raise HTTPException(405, headers={"Allow": "GET"})
    return item_id


def _now(chosen: ServedGallery, item_id: str) -> tuple[Item, GalleryStamp]:
    snapshot = chosen.open_retriever().gallery.current
    return snapshot.item(item_id), GalleryStamp(generation=snapshot.generation, items=snapshot.item_count)


def _stamp(chosen: ServedGallery) -> GalleryStamp:
    snapshot = chosen.open_retriever().gallery.current
    return GalleryStamp(generation=snapshot.generation, items=snapshot.item_count)


async def _in_time(timeout_s: float, work: Awaitable[R]) -> R:
    try:
        async with asyncio.timeout(timeout_s):
            return await work
    except TimeoutError as error:
        raise SearchTimeoutError(
            f"the change took more than {timeout_s:g} s and may have been made or not; it is safe to repeat"
        ) from error
