"""Which gallery a request is about: decided here, for every route, and nowhere else.

async def item(item_id: ItemId, chosen: Chosen) -> Response:    # reads `?gallery=NAME` of the address
    retriever = chosen.open_retriever()

chosen = gallery_for(request, options.gallery)                  # a form field, or any other place of the name
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query
from starlette.requests import Request

from service.config import DEFAULT_GALLERY
from service.errors import UnknownGalleryError
from service.galleries import ServedGallery
from service.state import service_of


def gallery_for(request: Request, name: str | None) -> ServedGallery:
    """The gallery that a request is about.

    Args:
        name: as the client gave it; None or "" for the default one.

    Raises:
        UnknownGalleryError: there is no such gallery.
    """
    galleries = service_of(request).galleries
    found = galleries.get(name or DEFAULT_GALLERY)
    if found is None:
        raise UnknownGalleryError(f"no gallery {str(name)[:80]!r}; there is: {', '.join(sorted(galleries))}")
    if len(galleries) > 1:
        request.state.log["gallery"] = found.name
    return found


def chosen_gallery(
    request: Request,
    gallery: Annotated[
        str | None, Query(description="which gallery, where the service holds several", examples=["women"])
    ] = None,
) -> ServedGallery:
    """FastAPI dependency: the gallery that `?gallery=` names."""
    return gallery_for(request, gallery)


Chosen = Annotated[ServedGallery, Depends(chosen_gallery)]
