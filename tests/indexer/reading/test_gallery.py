"""The reading side: snapshots, refresh while searched, damage, read-only folders, changes beside the index."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.edits import put
from tests.support.patience import wait_until
from tests.support.shop import EMBEDDING_SIZE, REGIONS_SHAPE, PixelEncoder, Shop, answers, contents
from tests.support.side_files import take_away
from threadmatch.indexer.edits.folding import delete_items, fold
from threadmatch.indexer.errors import (
    DamagedItemError,
    FilterError,
    GalleryError,
    IndexerError,
    ItemNotFoundError,
)
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.indexer.store import generation_index
from threadmatch.indexer.store.database import open_read_only
from threadmatch.indexer.upkeep import compact, list_generations, rollback, verify


def query(seed: int = 0) -> NDArray[np.float32]:
    vector = np.random.default_rng(seed).standard_normal(EMBEDDING_SIZE).astype(np.float32)
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def change(shop: Shop, statement: str) -> None:
    """Write into the database behind the gallery's back."""
    database = sqlite3.connect(shop.gallery / "gallery.sqlite3")
    database.execute(statement)
    database.commit()
    database.close()


def test_a_shortlist_is_what_comparing_with_every_item_gives(shop: Shop) -> None:
    model = PixelEncoder()
    shop.ingest(shop.rows(30), model, batch_size=8)
    gallery = shop.open()
    found = gallery.shortlist(query(), 10)
    assert len(found) == 10
    assert [c.distance for c in found] == sorted(c.distance for c in found)
    everything = gallery.shortlist(query(), 1000)
    assert len(everything) == 30
    assert everything[:10] == found
    assert gallery.current.features("regions", found).shape == (10, *REGIONS_SHAPE)
    assert gallery.current.features("regions", found).dtype == np.float16
    assert [item.id for item in gallery.items(found)] == [c.id for c in found]
    assert gallery.current.features("regions", []).shape == (0, *REGIONS_SHAPE)


def test_a_filter_narrows_the_gallery_before_the_shortlist_is_cut(shop: Shop) -> None:
    shop.ingest(shop.rows(30), batch_size=8)
    gallery = shop.open()
    everything = gallery.shortlist(query(), 30)
    red = [c for c in everything if gallery.item(c.id).metadata["color"] == "red"]
    assert len(red) == 10
    assert gallery.shortlist(query(), 8, filter='color == "red"') == red[:8]
    assert gallery.shortlist(query(), 50, filter='color == "red"') == red
    assert gallery.shortlist(query(), 50, filter="price > 1000") == []
    assert len(gallery.shortlist(query(), 50, filter="  ")) == 30
    with pytest.raises(FilterError, match="did you mean color"):
        gallery.shortlist(query(), 5, filter='colour == "red"')


def test_what_is_not_there_is_named(shop: Shop, tmp_path: Path) -> None:
    shop.ingest(shop.rows(2))
    with pytest.raises(ItemNotFoundError, match="nope"):
        shop.open().item("nope")
    with pytest.raises(ItemNotFoundError):
        shop.open().photo("nope")
    with pytest.raises(GalleryError, match="not a gallery"):
        Gallery.open(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="embedding is"):
        shop.open().shortlist(query()[:5], 3)


@pytest.mark.parametrize("part", ["embedding", "regions", "photo"])
def test_a_damaged_row_is_named_never_served_and_mended_by_the_next_ingestion(shop: Shop, part: str) -> None:
    shop.ingest(shop.rows(4))
    where = "photos" if part == "photo" else "features"
    named = "" if part == "photo" else f" AND name = '{part}'"
    change(shop, f"UPDATE {where} SET data = zeroblob(length(data)) WHERE content = 2{named}")
    take_away(shop.gallery)
    gallery = shop.open()
    report = verify(shop.gallery)
    assert report.damaged_items == ["item-1"]
    assert part in report.problems[0]
    if part == "regions":
        with pytest.raises(DamagedItemError, match="item-1"):
            gallery.current.features("regions", gallery.shortlist(query(), 4))
    if part == "photo":
        with pytest.raises(DamagedItemError, match="item-1"):
            gallery.photo("item-1")
    model = PixelEncoder()
    assert shop.ingest(shop.rows(4), model).generation == "000002"
    assert model.encoded == 1
    assert verify(shop.gallery).problems == []


def test_searches_go_on_while_generations_change(shop: Shop) -> None:
    """Generation g gives every item the price g: a search that mixed two generations would show two prices."""
    shop.ingest([shop.row(n, price=1) for n in range(12)], batch_size=8)
    gallery, stop = shop.open(), threading.Event()
    failures: list[BaseException] = []
    seen: set[int] = set()

    def search() -> None:
        try:
            while not stop.is_set():
                with gallery.snapshot() as snapshot:
                    found = snapshot.shortlist(query(), 50)
                    prices = {item.metadata["price"] for item in snapshot.items(found)}
                    assert prices == {int(snapshot.generation)}
                    assert len(found) == 12
                    assert len(snapshot.features("regions", found)) == 12
                    seen.update(prices)
        except BaseException as error:
            failures.append(error)

    def refresh() -> None:
        while not stop.is_set():
            gallery.refresh()
            time.sleep(0.002)

    threads = [threading.Thread(target=search) for _ in range(4)] + [threading.Thread(target=refresh)]
    for thread in threads:
        thread.start()
    for generation in range(2, 7):
        shop.ingest([shop.row(n, price=generation) for n in range(12)], batch_size=8)
        wait_until(lambda now=generation: now in seen or bool(failures), f"generation {generation} is searched")
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert seen == {1, 2, 3, 4, 5, 6}
    assert gallery.refresh() is False


def test_a_broken_newer_generation_is_refused_and_the_old_one_stays(shop: Shop) -> None:
    shop.ingest(shop.rows(3))
    gallery = shop.open()
    before = answers(gallery)
    shop.ingest(shop.rows(5))
    index = shop.gallery / "generations" / "000002" / "index.faiss"
    data = bytearray(index.read_bytes())
    data[-3] ^= 1
    index.write_bytes(data)
    with pytest.raises(GalleryError, match="does not match its manifest"):
        gallery.refresh()
    assert (gallery.generation, answers(gallery)) == ("000001", before)
    assert verify(shop.gallery).problems
    compact(shop.gallery)  # builds a new index from the truth
    assert verify(shop.gallery).problems == []
    assert gallery.refresh() is True
    assert gallery.item_count == 5


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("CURRENT", "nonsense", "expected the name of a generation"),
        ("CURRENT", "000009", "which is not there"),
        ("generations/000001/manifest.json", "{}", "manifest format None"),
        ("generations/000001/manifest.json", '{"format": 99}', "manifest format 99"),
        ("generations/000001/manifest.json", "{", "cannot read"),
        ("generations/000001/manifest.json", '{"format": 1}', "not a manifest"),
        ("gallery.sqlite3", "not a database at all, but long enough to look at", "used: file is not a database"),
    ],
)
def test_a_gallery_that_cannot_be_read_says_why(shop: Shop, file: str, text: str, message: str) -> None:
    shop.ingest(shop.rows(2))
    (shop.gallery / file).write_text(text)
    with pytest.raises(GalleryError, match=message):
        shop.open().item("item-0")


def test_an_unknown_format_is_refused(shop: Shop) -> None:
    shop.ingest(shop.rows(2))
    change(shop, "PRAGMA user_version = 7")
    with pytest.raises(GalleryError, match="format 7"):
        shop.open().item("item-0")
    with pytest.raises(GalleryError, match="format 7"):
        shop.ingest(shop.rows(2))


def test_a_folder_without_a_writer_can_be_copied_and_opened_as_immutable(shop: Shop, tmp_path: Path) -> None:
    shop.ingest(shop.rows(3))
    assert not list(shop.gallery.glob("*-wal"))
    copy = tmp_path / "copy"
    shutil.copytree(shop.gallery, copy)
    assert contents(Gallery.open(copy)) == contents(shop.open())
    path = (copy / "gallery.sqlite3").absolute().as_uri()
    database = sqlite3.connect(f"{path}?immutable=1", uri=True)
    assert database.execute("SELECT count(*) FROM items").fetchone() == (3,)
    open_read_only(copy).close()


def test_rollback_is_exact_and_what_follows_builds_on_it(shop: Shop) -> None:
    shop.ingest(shop.rows(4))
    first = contents(shop.open()), answers(shop.open())
    shop.ingest([shop.row(0, price=1), shop.row(7)], prune=True)
    second = contents(shop.open()), answers(shop.open())
    rollback(shop.gallery)
    assert (contents(shop.open()), answers(shop.open())) == first
    rollback(shop.gallery, "000002")
    assert (contents(shop.open()), answers(shop.open())) == second
    rollback(shop.gallery, "1")
    model = PixelEncoder()
    result = shop.ingest([shop.row(5)], model)
    assert (result.generation, result.items) == ("000003", 5)
    assert set(contents(shop.open())) == {f"item-{n}" for n in (0, 1, 2, 3, 5)}
    assert shop.open().item("item-0").metadata["price"] == 10
    with pytest.raises(GalleryError, match="no generation 000042"):
        rollback(shop.gallery, "42")
    assert [entry["current"] for entry in list_generations(shop.gallery)] == [False, False, True]


def test_a_rollback_and_a_compaction_then_an_ingestion(shop: Shop) -> None:
    shop.ingest(shop.rows(4))
    delete_items(shop.gallery, ["item-1"])
    rollback(shop.gallery)
    compact(shop.gallery)
    shop.ingest([shop.row(6)])
    assert set(contents(shop.open())) == {f"item-{n}" for n in (0, 1, 2, 3, 6)}
    assert verify(shop.gallery).problems == []


def test_a_dead_ingestion_after_a_rollback_goes_on(shop: Shop) -> None:
    shop.ingest(shop.rows(2))
    shop.ingest(shop.rows(4))
    rollback(shop.gallery)
    with pytest.raises(RuntimeError, match="power cut"):
        shop.ingest(shop.rows(10), PixelEncoder(dies_on=2))
    model = PixelEncoder()
    assert shop.ingest(shop.rows(10), model).items == 10
    assert set(contents(shop.open())) == {f"item-{n}" for n in range(10)}
    assert model.encoded == 4


def test_compaction_keeps_what_kept_generations_need(shop: Shop) -> None:
    shop.ingest(shop.rows(6))
    for price in (1, 2, 3):
        shop.ingest([shop.row(n, price=price) for n in range(5)], prune=True, fresh=True)
    before = contents(shop.open()), answers(shop.open())
    result = compact(shop.gallery)
    assert (result["generations"], result["rows"], result["contents"]) == (2, 12, 11)
    assert result["bytes"] > 0
    assert (contents(shop.open()), answers(shop.open())) == before
    assert verify(shop.gallery).problems == []
    rollback(shop.gallery)
    assert {item.metadata["price"] for item, _ in contents(shop.open()).values()} == {2}


def test_compaction_leaves_an_unfinished_ingestion_its_work(shop: Shop) -> None:
    shop.ingest(shop.rows(2))
    with pytest.raises(RuntimeError, match="power cut"):
        shop.ingest(shop.rows(8), PixelEncoder(dies_on=3))
    compact(shop.gallery)
    model = PixelEncoder()
    shop.ingest(shop.rows(8), model)
    assert model.encoded == 2


def test_deleting_an_item_publishes_a_generation_without_it(shop: Shop) -> None:
    shop.ingest(shop.rows(4))
    gallery = shop.open()
    manifest = delete_items(shop.gallery, ["item-1", "item-2"])
    assert (manifest.generation, manifest.items, manifest.kind) == ("000002", 2, "edit")
    assert gallery.item("item-1").id == "item-1"  # of the generation that is open
    assert gallery.refresh() is True
    assert {c.id for c in gallery.shortlist(query(), 10)} == {"item-0", "item-3"}
    with pytest.raises(ItemNotFoundError):
        gallery.item("item-1")
    with pytest.raises(ItemNotFoundError, match="item-1"):
        delete_items(shop.gallery, ["item-0", "item-1"])
    assert shop.open().item_count == 2
    delete_items(shop.gallery, ["item-0", "item-3"])
    assert shop.open().shortlist(query(), 5) == []


def test_a_few_changes_beside_a_large_index_are_searched_exactly(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation_index, "DELTA_MIN_ITEMS", 10)  # a constant of scale, not the thing under test
    monkeypatch.setattr(generation_index, "DELTA_SHARE", 0.5)
    shop.ingest(shop.rows(20), batch_size=8)
    delete_items(shop.gallery, ["item-3"])
    put(shop.gallery, "new", 77, color="red", price=0)
    assert fold(shop.gallery).generation == "000003"
    put(shop.gallery, "item-5", 78, box="1,1,20,20")
    assert fold(shop.gallery).folded == 1
    gallery = shop.open()
    assert gallery.manifest.index.seq == 20
    first = shop.gallery / "generations" / "000001" / "index.faiss"
    assert (shop.gallery / "generations" / "000004" / "index.faiss").samefile(first)
    found = {c.id for c in gallery.shortlist(query(), 100)}
    assert found == {f"item-{n}" for n in range(20) if n != 3} | {"new"}
    assert "new" in {c.id for c in gallery.shortlist(query(), 100, filter='color == "red"')}
    assert verify(shop.gallery).problems == []
    before = contents(gallery), answers(gallery)
    compact(shop.gallery)
    folded = shop.open()
    assert folded.manifest.index.seq == folded.manifest.seq
    assert (contents(folded), answers(folded)) == before


def test_a_search_on_a_generation_that_was_compacted_away_is_answered_from_its_files_or_fails_by_name(
    shop: Shop,
) -> None:
    shop.ingest(shop.rows(4))
    mapped = shop.open()
    take_away(shop.gallery)
    old = shop.open()
    before = mapped.current.items(mapped.shortlist(query(), 3))
    shop.ingest([shop.row(n) for n in range(4, 6)], prune=True)
    compact(shop.gallery, keep=1)
    assert mapped.current.items(mapped.shortlist(query(), 3)) == before
    with pytest.raises(IndexerError, match="compacted"):
        old.shortlist(query(), 3)
    assert old.refresh() is True
    assert len(old.shortlist(query(), 3)) == 2
