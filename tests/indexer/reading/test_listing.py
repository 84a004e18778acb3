"""A gallery listed page by page has every item that stays, whatever is edited and folded meanwhile."""

from __future__ import annotations

import pytest

from tests.support.edits import delete, feature, put
from tests.support.shop import Shop
from threadmatch.indexer.edits.folding import fold
from threadmatch.indexer.errors import FilterError
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.indexer.reading.listing import START, Place
from threadmatch.model.features import EMBEDDING


def listed(gallery: Gallery, count: int, filter: str | None = None) -> list[str]:
    place, ids = START, []
    while place is not None:
        items, end = gallery.current.page(count, start=place, filter=filter)
        assert len(items) == count or end is None
        ids += [item.id for item in items]
        place = end if end is None else Place.read(str(end))
    return ids


@pytest.mark.parametrize("count", [1, 2, 3, 100])
def test_pages_of_any_size_make_the_whole_gallery(shop: Shop, count: int) -> None:
    shop.ingest(shop.rows(5))
    put(shop.gallery, "new", 77, color="red")
    put(shop.gallery, "item-3", 78, color="red")
    put(shop.gallery, "new-2", 79, color="blue")
    delete(shop.gallery, "item-1")
    gallery = shop.open()
    assert listed(gallery, count) == ["item-0", "item-2", "item-4", "new", "item-3", "new-2"]
    near = gallery.shortlist(feature(78, EMBEDDING), 99, filter='color == "red"')
    assert set(listed(gallery, count, 'color == "red"')) == {candidate.id for candidate in near}
    assert listed(gallery, count, 'color == "nothing"') == []


def test_what_is_folded_between_two_pages_is_not_passed_over(shop: Shop) -> None:
    shop.ingest(shop.rows(2))
    for number in range(6):
        put(shop.gallery, f"new-{number}", 70 + number)
    items, end = shop.open().current.page(4)
    seen = [item.id for item in items]
    assert seen == ["item-0", "item-1", "new-0", "new-1"]
    fold(shop.gallery)
    put(shop.gallery, "later", 99)
    gallery = shop.open()
    while end is not None:
        items, end = gallery.current.page(4, start=end)
        seen += [item.id for item in items]
    assert set(seen) == {"item-0", "item-1", "later", *(f"new-{number}" for number in range(6))}


@pytest.mark.parametrize("text", ["", "12", "1.2.3", "a.b", "1.-", "9" * 30 + ".1", "\u0661.\u0662", "1.2\n"])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="take `next` of the page before"):
        Place.read(text)


def test_a_filter_that_cannot_be_understood_is_refused(shop: Shop) -> None:
    shop.ingest(shop.rows(1))
    with pytest.raises(FilterError):
        shop.open().current.page(3, filter="color =")
