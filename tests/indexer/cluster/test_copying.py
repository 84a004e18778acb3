"""A gallery to a cluster and back, and what looks after it there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.clusters import address, connected
from tests.support.made_up import MODEL, build, edit, regions, unit
from tests.support.shop import Shop
from threadmatch.indexer import keeping
from threadmatch.indexer.errors import FilterError, GalleryError, ItemNotFoundError
from threadmatch.indexer.ingest import ingest
from threadmatch.indexer.ingest_options import IngestOptions
from threadmatch.indexer.opening import current_manifest, open_gallery
from threadmatch.indexer.reading.conditions import Equal, Named
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.indexer.reading.listing import START
from threadmatch.indexer.reading.opened import OpenGallery

pytestmark = pytest.mark.cluster
COUNT = 60


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Ingested, with edits on top."""
    made = Shop(tmp_path_factory.mktemp("copied"))
    ingest(made.write(made.rows(COUNT)), made.gallery, model=MODEL, options=IngestOptions(images=made.images))
    edit(made.gallery, {"put": unit(1, seed=3)[0]}, metadata={"put": {"title": "näw", "tags": ["a"]}}, gone=["item-5"])
    return made


@pytest.fixture(scope="module")
def place(shop: Shop, cluster_settings: Path) -> str:
    made = address(cluster_settings)
    copied = keeping.copy(shop.gallery, made)
    assert (copied["items"], copied["sent"], copied["agreement"]) == (COUNT, COUNT, 1.0)
    return made


@pytest.fixture
def gallery(place: str) -> Iterator[OpenGallery]:
    made = open_gallery(place)
    yield made
    made.close()


def everything(gallery: OpenGallery) -> list[object]:
    snapshot = gallery.current
    told: list[object] = []
    for stored in snapshot.stored_items():
        item = snapshot.item(stored.id)
        features = [snapshot.features_of(spec.name, stored.id).tobytes() for spec in snapshot.feature_specs]
        told.append((item, stored.source, stored.asked_box, stored.sha256, features, snapshot.photo(stored.id)))
    return told


def test_it_is_the_same_gallery_there_and_back(shop: Shop, place: str, gallery: OpenGallery, tmp_path: Path) -> None:
    copied = keeping.copy(place, tmp_path / "back")
    assert copied["items"] == COUNT
    before, after = Gallery.open(shop.gallery), Gallery.open(tmp_path / "back")
    assert everything(before) == everything(gallery) == everything(after)
    assert before.columns() == gallery.columns() == after.columns()
    for query in unit(10, seed=11):
        found = [[one.id for one in of.current.shortlist(query, 10)] for of in (before, gallery, after)]
        assert found[0] == found[1] == found[2]
    assert keeping.verify(tmp_path / "back").problems == []
    with pytest.raises(GalleryError, match="has a gallery already"):
        keeping.copy(place, tmp_path / "back")


def test_looks_come_along_and_know_each_other(gallery: OpenGallery, shop: Shop) -> None:
    here, there = Gallery.open(shop.gallery).current, gallery.current
    query = unit(1, seed=12)[0]
    ours, theirs = here.shortlist(query, COUNT), there.shortlist(query, COUNT)
    looks = {one.id: look for one, look in zip(ours, here.looks(ours), strict=True)}
    copied = {one.id: look for one, look in zip(theirs, there.looks(theirs), strict=True)}
    assert looks.keys() == copied.keys()
    compared = 0
    for item_id, look in looks.items():
        other = copied[item_id]
        assert (look is None) == (other is None)
        if look is not None and other is not None:
            assert (look.data[:16], sorted(look.verdicts.values())) == (
                other.data[:16],
                sorted(other.verdicts.values()),
            )
            compared += 1
    assert compared == COUNT - 1  # the made-up photo is no picture, its look is empty or none


def test_items_are_listed_page_by_page_with_and_without_a_filter(gallery: OpenGallery, shop: Shop) -> None:
    here = Gallery.open(shop.gallery).current
    for asked in (None, "price >= 30", '"ed" in color', 'color == "red" and not (price < 40)'):
        expected = {item.id for item in here.page(1_000, filter=asked)[0]}
        found, place = [], START
        while place is not None:
            items, place = gallery.current.page(7, start=place, filter=asked)
            assert len(items) == 7 or place is None
            found += [item.id for item in items]
        assert len(found) == len(set(found))
        assert set(found) == expected, asked


def test_a_part_of_a_text_is_looked_for_among_all(gallery: OpenGallery) -> None:
    query = unit(1, seed=13)[0]
    found = gallery.current.shortlist(query, COUNT, filter='"lu" in color')
    assert len(found) == sum(n % 3 == 1 and n != 5 for n in range(COUNT))


def test_a_part_of_a_text_that_too_few_have_is_refused_not_answered_short(
    gallery: OpenGallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    from threadmatch.indexer.cluster import shortlist

    monkeypatch.setattr(shortlist, "MAX_FOUND", 30)  # a constant of scale, not the thing under test
    query = unit(1, seed=13)[0]
    assert len(gallery.current.shortlist(query, 5, filter='"lu" in color')) == 5
    with pytest.raises(FilterError, match="add a condition on a value") as raised:
        gallery.current.shortlist(query, 30, filter='"lu" in color')
    assert raised.value.expression == '"lu" in color'


def test_what_milvus_leaves_out_under_a_filter_is_compared_all_the_same(place: str) -> None:
    from threadmatch.indexer.cluster.gallery import ClusterGallery
    from threadmatch.indexer.cluster.shortlist import MilvusShortlist
    from threadmatch.indexer.cluster.vectors import FoundRow, VectorEngine

    class Coarse(VectorEngine):
        """Gives every second row, as an index that looks at a part of them."""

        def search(self, *arguments: Any, **named: Any) -> list[FoundRow]:
            return super().search(*arguments, **named)[::2]

    with connected(place) as cluster:
        of, moment = ClusterGallery(cluster).opened, ClusterGallery(cluster).current.moment
        coarse = MilvusShortlist(
            Coarse(cluster.address.settings.milvus), of.items, of.rows, of.features, after=moment.written
        )
        whole = MilvusShortlist(cluster.engine, of.items, of.rows, of.features, after=moment.written)
        for where in (None, Equal(Named("color", "string"), "red")):
            query = unit(1, seed=14)[0]
            found, expected = (one.search(query, COUNT, where=where) for one in (coarse, whole))
            assert [one.id for one in found] == [one.id for one in expected]


def test_a_copy_again_sends_nothing_and_rolls_back(shop: Shop, place: str, tmp_path: Path) -> None:
    first = current_manifest(place).generation
    build(shop.gallery, {"extra": unit(1, seed=4)[0]})
    copied = keeping.copy(shop.gallery, place)
    assert (copied["items"], copied["sent"]) == (COUNT + 1, 1)
    served = open_gallery(place)
    assert "extra" in {one.id for one in served.current.shortlist(unit(1, seed=4)[0], 3)}
    assert keeping.rollback(place).generation == first
    assert served.refresh() is True
    assert served.generation == first
    assert "extra" not in {one.id for one in served.current.shortlist(unit(1, seed=4)[0], 3)}
    with pytest.raises(ItemNotFoundError):
        served.current.item("extra")
    assert served.refresh() is False
    listed = keeping.list_generations(place)
    assert [entry["current"] for entry in listed] == [True, False]
    assert keeping.compact(place, keep=1)["generations"] == 0  # the last one and the one in service
    served.close()


def test_verifying_reads_everything(place: str) -> None:
    from threadmatch.indexer.cluster.contents import PHOTO
    from threadmatch.indexer.cluster.gallery import ClusterGallery

    assert keeping.verify(place).problems == []
    with connected(place) as cluster:
        of = ClusterGallery(cluster).opened
        (record,) = of.items.read(["item-9"])
        assert record is not None
        assert record.card is not None
        key = of.contents.key(record.card.content)
        whole = cluster.store.one("HGET", key, PHOTO)
        cluster.store.write("HSET", key, PHOTO, whole[:-1])
        (problem,) = keeping.verify(place).problems
        assert "'item-9'" in problem
        cluster.store.write("HSET", key, PHOTO, whole)
    assert keeping.verify(place).problems == []


def test_an_ingestion_goes_by_a_folder_of_this_machine(shop: Shop, cluster_settings: Path, tmp_path: Path) -> None:
    from threadmatch.indexer.cluster.staged_ingest import ingest_to_cluster

    place = address(cluster_settings)
    catalogue = shop.write([*shop.rows(6), shop.row(6, image="nowhere.jpg")], "some.jsonl")
    heard: list[str] = []
    for skipped in (0, 6):
        done = ingest_to_cluster(
            catalogue,
            place,
            model=MODEL,
            options=IngestOptions(images=shop.images),
            progress=lambda now: heard.append(now.stage),
        )
        assert (done.items, done.rejected, done.skipped) == (6, 1, skipped)
        assert done.rejects_file is not None
        assert "nowhere.jpg" in Path(done.rejects_file).read_text("utf-8")
    assert {"encoding", "copying", "verifying"} <= set(heard)
    assert json.loads(open_gallery(place).manifest.to_json())["kind"] == "copy"
    (found,) = open_gallery(place).current.shortlist(MODEL.encode(_pixels(shop, 3))["embedding"][0], 1)
    assert found.id == "item-3"


def _pixels(shop: Shop, number: int) -> object:
    from threadmatch.model.images import decode_image, prepare_image

    photo = decode_image((shop.images / f"{number:03d}.jpg").read_bytes())
    return prepare_image(photo, image_px=MODEL.image_px).pixels[None]


def test_two_folders_or_two_clusters_are_no_copy(place: str, tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="both are folders"):
        keeping.copy(tmp_path, tmp_path / "other")
    with pytest.raises(GalleryError, match="both are clusters"):
        keeping.copy(place, place)
    assert regions("item-1").shape == MODEL.features[1].shape
