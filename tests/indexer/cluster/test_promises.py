"""What docs/cluster.md promises of edits, one test a sentence, against real engines that are killed with -9."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.support.clusters import address, edit_cluster, fill
from tests.support.made_up import content, regions, unit, version
from threadmatch.indexer.edits.live_writes import Change, Delete, Edit, Edited, Put
from threadmatch.indexer.errors import EditBusyError, EditError, GalleryError, ItemNotFoundError, StoreUnavailableError
from threadmatch.service.bench.engines import Server, redis, redis_cluster, running, settings_file, until

if TYPE_CHECKING:
    from threadmatch.indexer.cluster.gallery import ClusterGallery

pytestmark = pytest.mark.cluster
ITEMS = {f"item-{n}": vector for n, vector in enumerate(unit(40))}
NEW = unit(40, seed=5)


@pytest.fixture(scope="module")
def place(cluster_settings: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a gallery of ITEMS that all tests share; each edits items of its own."""
    made = address(cluster_settings)
    fill(made, tmp_path_factory.mktemp("promises") / "gallery", ITEMS)
    return made


@pytest.fixture
def gallery(place: str) -> Iterator[ClusterGallery]:
    yield from opened(place)


@pytest.fixture
def replica(place: str) -> Iterator[ClusterGallery]:
    """Another process's view: connections and caches of its own."""
    yield from opened(place)


def opened(place: str) -> Iterator[ClusterGallery]:
    from threadmatch.indexer.cluster.gallery import ClusterGallery

    made = ClusterGallery.open(place)
    yield made
    made.close()


def edited(gallery: ClusterGallery, edit: Edit) -> Edited | EditError:
    from threadmatch.indexer.cluster.editing import ClusterEditor

    (outcome,) = ClusterEditor(gallery).apply([edit])
    return outcome


def put(gallery: ClusterGallery, name: str, vector: np.ndarray, **metadata: object) -> Edited:
    outcome = edited(gallery, Put(version(name, **metadata), content(name, vector)))
    assert isinstance(outcome, Edited), outcome
    return outcome


def nearest(gallery: ClusterGallery, vector: np.ndarray, k: int = 1) -> list[tuple[str, float]]:
    return [(found.id, round(found.distance, 3)) for found in gallery.current.shortlist(vector, k)]


def test_the_next_search_of_every_replica_finds_what_was_put(gallery: ClusterGallery, replica: ClusterGallery) -> None:
    for number in range(12):
        vector = NEW[number]
        outcome = put(gallery, f"put-{number}", vector, lot=number)
        assert outcome == Edited(existed=False, changed=True)
        for reader in (replica, gallery):
            assert nearest(reader, vector) == [(f"put-{number}", 0.0)]
            (found,) = reader.current.shortlist(vector, 5, filter=f"lot == {number}")
            np.testing.assert_array_equal(reader.current.features("regions", [found])[0], regions(found.id))


def test_a_put_takes_the_place_of_what_was_there(gallery: ClusterGallery, replica: ClusterGallery) -> None:
    before = gallery.current.item_count
    assert put(gallery, "item-0", NEW[20]) == Edited(existed=True, changed=True)
    assert nearest(replica, NEW[20]) == [("item-0", 0.0)]
    assert ("item-0", 0.0) not in nearest(replica, ITEMS["item-0"], 40)
    assert replica.current.item_count == before
    assert put(gallery, "item-0", NEW[20]) == Edited(existed=True, changed=False)


def test_no_search_finds_what_was_deleted_and_what_is_put_again_is_back(
    gallery: ClusterGallery, replica: ClusterGallery
) -> None:
    before = gallery.current.item_count
    assert edited(gallery, Delete("item-1")) == Edited(existed=True, changed=True)
    assert edited(gallery, Delete("item-1")) == Edited(existed=False, changed=False)
    assert "item-1" not in dict(nearest(replica, ITEMS["item-1"], 100))
    assert replica.current.item_count == before - 1
    with pytest.raises(ItemNotFoundError):
        replica.current.item("item-1")
    assert put(gallery, "item-1", ITEMS["item-1"]) == Edited(existed=False, changed=True)
    assert nearest(replica, ITEMS["item-1"]) == [("item-1", 0.0)]


def test_a_change_keeps_the_photo_and_filters_know_it_at_once(gallery: ClusterGallery, replica: ClusterGallery) -> None:
    assert edited(gallery, Change("item-2", {"fresh": "yes"})) == Edited(existed=True, changed=True)
    found = replica.current.shortlist(ITEMS["item-2"], 3, filter='fresh == "yes"')
    assert [candidate.id for candidate in found] == ["item-2"]
    assert replica.columns()["fresh"] == "string"
    assert edited(gallery, Change("nobody", {"fresh": "yes"})) == Edited(existed=False, changed=False)


def test_changes_of_one_item_by_many_lose_none(place: str) -> None:
    """Each adds a column of its own; a change that read an older state begins anew."""
    outcomes: list[Edited | EditError] = []

    def change(number: int) -> None:
        for gallery in opened(place):
            outcomes.append(edited(gallery, Change("item-3", {f"by_{number}": number})))

    threads = [threading.Thread(target=change, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [Edited(existed=True, changed=True)] * 4
    for gallery in opened(place):
        assert gallery.item("item-3").metadata == {f"by_{number}": number for number in range(4)}


def test_of_two_puts_one_stays_everywhere_and_for_good(place: str, replica: ClusterGallery) -> None:
    def write(number: int) -> None:
        for gallery in opened(place):
            put(gallery, "item-4", NEW[30 + number])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    at = [number for number in range(4) if nearest(replica, NEW[30 + number])[0] == ("item-4", 0.0)]
    assert len(at) == 1
    assert [name for name, _ in nearest(replica, NEW[30], 100)].count("item-4") == 1


def test_a_writer_that_dies_before_its_last_step_leaves_nothing_to_be_seen(
    gallery: ClusterGallery, replica: ClusterGallery
) -> None:
    """All it did but the item's record: the row is in Milvus, and its time is told."""
    from threadmatch.indexer.cluster.filling import new_row
    from threadmatch.indexer.cluster.generation import raise_written

    of = gallery.opened
    (record,) = of.items.read(["item-5"])
    assert record is not None
    assert record.card is not None
    row = int(of.items.store.write("INCR", of.items.names.sequence))
    time = of.engine.insert(of.collection, [new_row(row, record.card, NEW[39])])
    raise_written(of.items.store, of.items.names, of.manifest.generation, time)
    assert nearest(replica, NEW[39])[0] != ("item-5", 0.0)
    assert nearest(replica, ITEMS["item-5"]) == [("item-5", 0.0)]


def test_a_generation_that_was_edited_is_not_replaced_unasked(place: str, tmp_path: Path) -> None:
    for gallery in opened(place):
        put(gallery, "late", NEW[38])
    with pytest.raises(GalleryError, match=r"were put or deleted since it was filled"):
        fill(place, tmp_path / "other", ITEMS)
    for gallery in opened(place):
        assert nearest(gallery, NEW[38]) == [("late", 0.0)]
        put(gallery, "later", NEW[37])  # and it still takes edits


def test_a_generation_that_is_out_of_service_takes_no_edit(place: str) -> None:
    from threadmatch.indexer.cluster.filling import close, reopen

    for gallery in opened(place):
        close(gallery.cluster, gallery.generation, replace=True)
        outcome = edited(gallery, Delete("item-6"))
        assert isinstance(outcome, EditBusyError)
        reopen(gallery.cluster, gallery.generation)
        assert nearest(gallery, ITEMS["item-6"]) == [("item-6", 0.0)]


def test_what_was_answered_is_there_after_both_engines_were_killed(
    milvus_server: Server, redis_server: Server, tmp_path: Path
) -> None:
    del redis_server  # skips where there is none; this test kills one of its own
    store = redis(tmp_path / "redis")
    with running(store):
        place = address(settings_file(tmp_path, stores=[store], milvus=milvus_server, retry_s=0))
        fill(place, tmp_path / "gallery", ITEMS)
        for gallery in opened(place):
            edit_cluster(gallery, {f"new-{n}": NEW[n] for n in range(20)}, gone=["item-7"])
            milvus_server.kill()
            store.kill()
            with pytest.raises(StoreUnavailableError):
                gallery.current.shortlist(NEW[0], 1)
            store.start()
            milvus_server.start()
            until(partial(_answers, gallery), "a Milvus that is healthy may still be loading what it has")
            for number in range(20):
                assert nearest(gallery, NEW[number]) == [(f"new-{number}", 0.0)]
            assert "item-7" not in dict(nearest(gallery, ITEMS["item-7"], 100))
            assert gallery.current.item_count == len(ITEMS) + 20 - 1


def _answers(gallery: ClusterGallery) -> bool:
    try:
        gallery.current.shortlist(NEW[0], 1)
    except GalleryError:
        return False
    return True


def test_a_master_that_is_killed_costs_no_answered_write_and_no_error(redis_server: Server, tmp_path: Path) -> None:
    """Three masters with a replica each: calls are tried again until the replica has taken over."""
    from threadmatch.indexer.cluster.settings import StoreSettings
    from threadmatch.indexer.cluster.store import RecordStore

    del redis_server  # skips where there is none
    servers = redis_cluster(tmp_path)
    try:
        nodes = tuple(f"127.0.0.1:{server.port}" for server in servers)
        store = RecordStore(StoreSettings(nodes=nodes, cluster=True, wait_replicas=1, retry_s=120))
        keys = [f"key-{number}" for number in range(60)]
        for key in keys[:30]:
            store.write("SET", key, key)
        store.settle("settled")
        servers[0].kill()
        assert store.ask([("GET", key) for key in keys[:30]]) == [key.encode() for key in keys[:30]]
        alone = RecordStore(StoreSettings(nodes=nodes[1:], cluster=True, retry_s=120))  # its replica is gone: no WAIT
        for key in keys[30:]:
            alone.write("SET", key, key)
        assert store.ask([("GET", key) for key in keys]) == [key.encode() for key in keys]
    finally:
        for server in servers:
            server.kill()


def test_an_item_with_more_metadata_than_milvus_takes_is_refused_by_name(gallery: ClusterGallery) -> None:
    from threadmatch.indexer.errors import TooMuchMetadataError

    outcome = edited(gallery, Change("item-8", {"text": "x" * 70_000}))
    assert isinstance(outcome, TooMuchMetadataError)
    assert "'item-8'" in str(outcome)
    assert gallery.item("item-8").metadata == {}
