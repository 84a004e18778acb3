"""A change of an item's fields: a merge patch on what is in service, durable, whatever lies below it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.edits import apply, delete, put
from tests.support.shop import Shop
from threadmatch.indexer.edits.folding import fold
from threadmatch.indexer.edits.live_writes import KEEP, MAX_METADATA_BYTES, Change, Edited, merged
from threadmatch.indexer.errors import TooMuchMetadataError
from threadmatch.indexer.upkeep import verify

CHANGED, UNCHANGED, ABSENT = Edited(True, True), Edited(True, False), Edited(False, False)


@pytest.mark.parametrize(
    ("before", "patch", "after"),
    [  # the examples of RFC 7396, appendix A, that are objects
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_patch_is_merged_as_the_standard_says(
    before: dict[str, Any], patch: dict[str, Any], after: dict[str, Any]
) -> None:
    kept = repr(before)
    assert merged(before, patch) == after
    assert repr(before) == kept


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=2), max_leaves=4
)
OBJECTS = st.dictionaries(st.sampled_from("abc"), JSON | st.dictionaries(st.sampled_from("ab"), JSON, max_size=2))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(OBJECTS, OBJECTS)
def test_a_patch_twice_is_as_once(before: dict[str, Any], patch: dict[str, Any]) -> None:
    once = merged(before, patch)
    assert merged(once, patch) == once
    assert all(name not in once for name, value in patch.items() if value is None)


def test_a_change_is_on_top_of_a_generation_and_of_edits_and_lasts_through_a_fold(shop: Shop) -> None:
    shop.ingest(shop.rows(4))
    gallery = shop.open()
    before, photo = gallery.item("item-1"), gallery.photo("item-1")
    assert apply(shop.gallery, Change("item-1", {"size": "M", "color": None})) == CHANGED
    assert apply(shop.gallery, Change("item-1", {"size": "M"})) == UNCHANGED
    assert apply(shop.gallery, Change("item-1", {"price": 9}, "p-1")) == CHANGED
    put(shop.gallery, "new", 77, color="red")
    assert apply(shop.gallery, Change("new", {"color": "blue"}, KEEP)) == CHANGED
    delete(shop.gallery, "item-2")
    for absent in ("item-2", "never"):
        assert apply(shop.gallery, Change(absent, {"size": "M"})) == ABSENT
    for _ in range(2):
        item = gallery.item("item-1")
        rest = {name: value for name, value in before.metadata.items() if name != "color"}
        assert item.metadata == {**rest, "size": "M", "price": 9}
        assert item.product_id == "p-1"
        assert (item.box, gallery.photo("item-1")) == (before.box, photo)
        assert gallery.item("new").metadata == {"color": "blue"}
        fold(shop.gallery)
        gallery = shop.open()
    assert not verify(shop.gallery).problems
    apply(shop.gallery, Change("item-1", {}, None))
    assert shop.open().item("item-1").product_id is None


def test_an_item_does_not_outgrow_what_is_kept_of_one(shop: Shop) -> None:
    shop.ingest(shop.rows(2))
    half = "x" * (MAX_METADATA_BYTES // 2)
    apply(shop.gallery, Change("item-0", {"a": half}))
    with pytest.raises(TooMuchMetadataError, match=f"at most {MAX_METADATA_BYTES}"):
        apply(shop.gallery, Change("item-0", {"b": half}))
    assert "b" not in shop.open().item("item-0").metadata
