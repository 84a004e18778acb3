"""The store of the Redis protocol, against a real Redis: what it promises, and what it says when it cannot."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from threadmatch.indexer.errors import GalleryError, StoreUnavailableError
from threadmatch.indexer.store.cards import Card
from threadmatch.service.bench.engines import Server, redis, running

pytest.importorskip("redis", reason="the extra `cluster` is not installed")
pytest.importorskip("pymilvus", reason="the extra `cluster` is not installed")

from threadmatch.indexer.cluster.contents import PHOTO, Contents
from threadmatch.indexer.cluster.generation import padded
from threadmatch.indexer.cluster.items import ItemRecord, Items, RowEntry, pack, unpack
from threadmatch.indexer.cluster.names import ROWS_A_BUCKET, Names
from threadmatch.indexer.cluster.settings import StoreSettings
from threadmatch.indexer.cluster.store import RAISE, RecordStore

CARD = Card("ä/1", None, '{"price": 3}', 2**127 + 5, (30, 40), (0.5, 1.0, 20.0, 30.0))


@pytest.fixture
def store(redis_server: Server) -> RecordStore:
    return RecordStore(StoreSettings(nodes=(f"127.0.0.1:{redis_server.port}",)))


@pytest.fixture
def items(store: RecordStore) -> Items:
    return Items(store, Names(f"t{uuid.uuid4().hex[:20]}", "shop"), "000001")


def test_a_record_is_read_as_it_was_written() -> None:
    for record in (ItemRecord(7, CARD, "photos/ä.jpg"), ItemRecord(2**40)):
        assert unpack(pack(record)) == record
    with pytest.raises(GalleryError, match="damaged"):
        unpack(b"7")
    with pytest.raises(GalleryError, match="damaged"):
        unpack(pack(ItemRecord(7, CARD))[:60])


def test_the_later_of_two_edits_stays_whichever_comes_last(items: Items) -> None:
    assert items.put("a", ItemRecord(5, CARD)) == (True, None)
    assert items.put("a", ItemRecord(9)) == (True, ItemRecord(5, CARD))
    assert items.put("a", ItemRecord(7, CARD)) == (False, ItemRecord(9))
    assert items.read(["a", "b"]) == [ItemRecord(9), None]


def test_a_change_of_what_was_changed_meanwhile_is_refused(items: Items) -> None:
    items.put("a", ItemRecord(5, CARD))
    assert items.put("a", ItemRecord(8, CARD), expected=4) == (False, ItemRecord(5, CARD))
    assert items.put("a", ItemRecord(8, CARD), expected=5) == (True, ItemRecord(5, CARD))
    assert items.put("new", ItemRecord(6, CARD), expected=-1) == (True, None)


def test_a_write_that_is_tried_again_is_no_other_write(items: Items) -> None:
    items.put("a", ItemRecord(5, CARD))
    for _ in range(2):  # the first answer was lost
        done, _ = items.put("a", ItemRecord(8, CARD), expected=5)
        assert done


def test_rows_are_listed_in_their_order_across_buckets(items: Items) -> None:
    rows = [1, ROWS_A_BUCKET - 1, ROWS_A_BUCKET, 5 * ROWS_A_BUCKET + 3, 40 * ROWS_A_BUCKET]
    items.store.ask([items.entry_command(RowEntry(row, f"id-{row}", row)) for row in reversed(rows)])
    assert [entry.row for entry in items.entries(1, rows[-1])] == rows
    assert [entry.id for entry in items.entries(2, rows[-2])] == [f"id-{row}" for row in rows[1:-1]]
    assert items.contents([rows[2], 77_777]) == {rows[2]: rows[2]}
    for row in rows:
        items.put(f"id-{row}", ItemRecord(row, CARD))
    items.put(f"id-{rows[1]}", ItemRecord(rows[-1] + 1))
    assert [record.row for record in items.live(1, rows[-1], block=2)] == [rows[0], *rows[2:]]


def test_a_time_is_never_set_back(store: RecordStore) -> None:
    key = uuid.uuid4().hex
    for time in (470_781_792_241_844_237, 470_781_792_241_844_238, 99):  # alike, if they were floats
        store.write("EVAL", RAISE, 1, key, "written", padded(time), key=key)
    assert int(store.one("HGET", key, "written")) == 470_781_792_241_844_238


def test_what_fails_its_checksum_is_as_good_as_missing(store: RecordStore) -> None:
    contents = Contents(store, f"t{uuid.uuid4().hex[:20]}", "model")
    store.write("HSET", contents.key(1), PHOTO, b"\x00\x00\x00\x00photo")
    store.write("HSET", contents.key(2), PHOTO, b"\x00")
    assert contents.read(PHOTO, [1, 2, 3]) == {}
    assert contents.lacking([1], []) == {1}


def test_a_store_that_is_not_there_is_named_and_what_it_refuses_too(store: RecordStore) -> None:
    with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1:1 does not answer"):
        RecordStore(StoreSettings(nodes=("127.0.0.1:1",), retry_s=0.1))
    with pytest.raises(GalleryError, match="refused a call"):
        store.one("HGET", "only a key")


def test_a_write_is_answered_when_the_replica_has_it_and_not_without(tmp_path: Path) -> None:
    master = redis(tmp_path / "master", "--repl-diskless-sync-delay", "0")
    replica = redis(tmp_path / "replica", "--replicaof", "127.0.0.1", str(master.port))
    with running(master, replica):
        place = (f"127.0.0.1:{master.port}",)
        patient = RecordStore(StoreSettings(nodes=place, wait_replicas=1, wait_s=0.2, timeout_s=60, retry_s=240))
        patient.write("SET", "a", "1")  # tried again until the replica has joined
        patient.settle("settled")
        copy = RecordStore(StoreSettings(nodes=(f"127.0.0.1:{replica.port}",)))
        assert copy.one("GET", "a") == b"1"
        replica.kill()
        with pytest.raises(StoreUnavailableError, match="0 replicas have the write, 1 should"):
            RecordStore(StoreSettings(nodes=place, wait_replicas=1, wait_s=0.1, timeout_s=60, retry_s=0)).write(
                "SET", "b", "1"
            )


def test_a_password_is_read_from_its_file_and_stays_out_of_messages(tmp_path: Path) -> None:
    server = redis(tmp_path / "redis")
    file = tmp_path / "password"
    file.write_text("s3cret word\n", "utf-8")
    place = (f"127.0.0.1:{server.port}",)
    with running(server):
        RecordStore(StoreSettings(nodes=place)).one("CONFIG", "SET", "requirepass", "s3cret word")
        RecordStore(StoreSettings(nodes=place, password_file=file)).write("SET", "a", "1")
        file.write_text("another s3cret", "utf-8")
        for settings in (
            StoreSettings(nodes=place, retry_s=0),
            StoreSettings(nodes=place, password_file=file, retry_s=0),
        ):
            with pytest.raises(GalleryError) as raised:
                RecordStore(settings)
            assert "s3cret" not in str(raised.value)
    with pytest.raises(GalleryError, match="cannot read the secret"):
        RecordStore(StoreSettings(nodes=place, password_file=tmp_path / "none"))
