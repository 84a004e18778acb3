"""Which gallery a request is about: decided here, for every route, and nowhere else.

async def item(item_id: ItemId, chosen: Chosen) -> Response:    # reads `?gallery=NAME` of the address
    retriever = chosen.open_retriever()

chosen = gallery_for(request, options.gallery)                  # a form field, or any other place of the name
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query
from starlette.requests import Request

from threadmatch.service.access.guard import access_of
from threadmatch.service.config import DEFAULT_GALLERY
from threadmatch.service.errors import InvalidFieldError, UnknownGalleryError
from threadmatch.service.galleries.served import ServedGallery
from threadmatch.service.shared import state_of


def gallery_for(request: Request, name: str | None) -> ServedGallery:
    """The gallery that a request is about.

    Args:
        name: as the client gave it; None or "" for the default one, or the only one that its key is for.

    Raises:
        UnknownGalleryError: there is no such gallery, or the client's key is not for it: the answer is the same.
        InvalidFieldError: it has to be named, since the key is for several.
    """
    access = access_of(request)
    usable = {one: served for one, served in state_of(request.app).galleries.items() if access.may_use(one)}
    if not name:
        if DEFAULT_GALLERY not in usable and len(usable) > 1:
            raise InvalidFieldError(f"say which gallery: gallery={' or '.join(sorted(usable))}")
        name = DEFAULT_GALLERY if DEFAULT_GALLERY in usable or not usable else next(iter(usable))
    found = usable.get(name)
    if found is None:
        there = f"there is: {', '.join(sorted(usable))}" if usable else "this key is for none that is served here"
        raise UnknownGalleryError(f"no gallery {name[:80]!r}; {there}")
    if len(state_of(request.app).galleries) > 1:
        request.state.log["gallery"] = found.name
    return found


async def chosen_gallery(
    request: Request,
    gallery: Annotated[
        str | None, Query(description="which gallery, where the service holds several", examples=["women"])
    ] = None,
) -> ServedGallery:
    """FastAPI dependency: the gallery that `?gallery=` names."""
    return gallery_for(request, gallery)


Chosen = Annotated[ServedGallery, Depends(chosen_gallery)]
