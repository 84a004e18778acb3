"""What near-duplicates of a photo are told by, found before the photo is put: outside of any transaction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from threadmatch.indexer.errors import DamagedItemError, ItemNotFoundError
from threadmatch.indexer.reading.items import Item
from threadmatch.indexer.reading.opened import OpenSnapshot
from threadmatch.indexer.store.contents import Content
from threadmatch.indexer.store.looking import MIN_COSINE, NEIGHBOURS, ROUGH_BOUND, Picture, picture, same
from threadmatch.indexer.store.looks import look_of
from threadmatch.model.same_photo import cells_of, roughness


def with_look(snapshot: OpenSnapshot, content: Content) -> Content:
    """A content with its look: compared with the items nearest to it now.

    Args:
        snapshot: of the gallery that it is put into.
        content: as `content_of` makes it.

    Raises:
        GalleryError: the gallery cannot be read.
    """
    shown = picture(content.photo, (content.width, content.height), content.box)
    if shown is None:
        return replace(content, look=b"")
    spec = snapshot.manifest.indexed
    vector = np.asarray(spec.unpack([content.features[spec.name]])[0], np.float32)
    near = [near for near in snapshot.shortlist(vector, NEIGHBOURS) if near.distance <= 1 - MIN_COSINE]
    cells, verdicts = cells_of(shown.square), {}
    for item, look in zip(snapshot.items(near), snapshot.looks(near), strict=True):
        theirs = None if look is None else look.cells
        if look is None or theirs is None or roughness(cells, theirs[None])[0] > ROUGH_BOUND:
            continue
        other = _picture(snapshot, item)
        if other is not None:
            verdicts[look.content] = same(shown, other)
    return replace(content, look=look_of(cells, verdicts).data)


def _picture(snapshot: OpenSnapshot, item: Item) -> Picture | None:
    """None where the photo is damaged, or the item is gone: a search compares the two if it meets them."""
    try:
        photo = snapshot.photo(item.id)
    except (DamagedItemError, ItemNotFoundError):
        return None
    return picture(photo, (item.width, item.height), (item.box.x0, item.box.y0, item.box.x1, item.box.y1))
