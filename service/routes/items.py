"""GET /v1/items, GET /v1/items/{id} and its image, and GET /v1/gallery.

An id may hold any character, slashes too. In an address it is one encoded segment (`quote(id, safe="")`), but servers
hand over the decoded path; the raw one tells `/v1/items/a/image` (the photo of `a`) from `/v1/items/a%2Fimage` (the
item `a/image`).
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from threadmatch.indexer.reading.listing import START, Place
from threadmatch.service.access.guard import access_of
from threadmatch.service.access.roles import needs
from threadmatch.service.errors import InvalidFieldError
from threadmatch.service.galleries.served import ServedGallery
from threadmatch.service.http.schemas.answers import GalleryStamp
from threadmatch.service.http.schemas.gallery import GalleryAnswer, ItemAnswer, ItemsAnswer
from threadmatch.service.routes.gallery_choice import Chosen
from threadmatch.service.routes.openapi_parts import errors
from threadmatch.service.search.answers import gallery_answer, item_answer, items_answer
from threadmatch.service.shared import ServiceState, service_of

router = APIRouter(tags=["gallery"])

PHOTO_MAX_AGE_S = 300
LISTED, MAX_LISTED = 100, 500
"""Items of a page: unless asked for, and at most."""
ItemId = Annotated[str, Path(description="the item's id, percent-encoded", examples=["MH06-black-main"])]


@router.get(
    "/v1/items", summary="The items of the gallery", response_model=ItemsAnswer, responses=errors(404, 422, 500, 503)
)
@needs("search")
async def items(
    chosen: Chosen,
    filter: Annotated[
        str | None, Query(description="which items, as for a search", examples=['category == "Tops"'])
    ] = None,
    cursor: Annotated[str | None, Query(description="`next` of the page before", examples=["1200.100"])] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED, description="items of a page, at most")] = LISTED,
) -> Response:
    """Page by page: ask again with `cursor` set to the page's `next`, until that is null.

    Every item that is there all the while comes at least once. One that is edited meanwhile may come twice.
    """
    try:
        start = START if cursor is None else Place.read(cursor)
    except ValueError as error:
        raise InvalidFieldError(f"cursor: {error}") from error
    answer = await asyncio.to_thread(_list_items, chosen, limit, start, filter)
    return Response(answer.model_dump_json(), media_type="application/json")


@router.get(
    "/v1/items/{item_id:path}/image",
    summary="An item's display photo",
    response_class=Response,
    responses={
        200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}},
        304: {"description": "the copy with this ETag is still right"},
        **errors(404, 422, 500, 503),
    },
)
@needs("search")
async def item_image(item_id: ItemId, request: Request, chosen: Chosen) -> Response:
    """JPEG, at most 512 pixels on the long side, with an ETag."""
    raw_path: bytes = request.scope.get("raw_path") or b"/image"
    if not raw_path.endswith(b"/image"):  # the slash was part of the id
        return await item(f"{item_id}/image", chosen)
    photo = await asyncio.to_thread(chosen.open_retriever().gallery.photo, item_id)
    etag = f'"{hashlib.blake2b(photo, digest_size=12).hexdigest()}"'
    kept_by = "public" if access_of(request).key_id is None else "private"
    headers = {
        "ETag": etag,
        "Cache-Control": f"{kept_by}, max-age={PHOTO_MAX_AGE_S}",
        "Vary": "Authorization, X-API-Key, Cookie",
    }
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if etag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(photo, media_type="image/jpeg", headers=headers)


@router.get(
    "/v1/items/{item_id:path}",
    summary="One item of the gallery",
    response_model=ItemAnswer,
    responses=errors(404, 422, 500, 503),
)
@needs("search")
async def item(item_id: ItemId, chosen: Chosen) -> Response:
    """The item with its metadata, as it was ingested."""
    answer = await asyncio.to_thread(_read_item, chosen, item_id)
    return Response(answer.model_dump_json(), media_type="application/json")


@router.get(
    "/v1/gallery", summary="The gallery in service", response_model=GalleryAnswer, responses=errors(404, 422, 500, 503)
)
@needs("search")
async def gallery(chosen: Chosen, service: Annotated[ServiceState, Depends(service_of)]) -> Response:
    """Its generation, size and metadata columns, and the model that answers."""
    retriever = chosen.open_retriever()
    answer = await asyncio.to_thread(
        gallery_answer,
        chosen.name,
        retriever.gallery,
        retriever.model,
        newer_refused=chosen.newer_refused,
        feedback=service.feedback is not None and service.recent is not None,
    )
    return Response(answer.model_dump_json(), media_type="application/json")


def _list_items(chosen: ServedGallery, count: int, start: Place, filter: str | None) -> ItemsAnswer:
    snapshot = chosen.open_retriever().gallery.current
    found, end = snapshot.page(count, start=start, filter=filter)
    stamp = GalleryStamp(generation=snapshot.generation, items=snapshot.item_count)
    return items_answer(found, end, stamp, gallery=chosen.named_in_links)


def _read_item(chosen: ServedGallery, item_id: str) -> ItemAnswer:
    snapshot = chosen.open_retriever().gallery.current
    stamp = GalleryStamp(generation=snapshot.generation, items=snapshot.item_count)
    return item_answer(snapshot.item(item_id), stamp, gallery=chosen.named_in_links)
