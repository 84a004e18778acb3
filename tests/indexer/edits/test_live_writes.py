"""Edits of a gallery in service: durable, seen by every process's next search, folded, rolled back, refused."""

from __future__ import annotations

import csv
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.edits import apply, content, delete, editor, feature, put, put_edit
from tests.support.former import make_former
from tests.support.shop import EMBEDDING_SIZE, PixelEncoder, Shop, answers, contents
from threadmatch.indexer.catalogue.values import metadata_json
from threadmatch.indexer.edits.folding import delete_items, fold
from threadmatch.indexer.edits.live_writes import ContentGoneError, Delete, Edited, Editor, Put
from threadmatch.indexer.errors import (
    BacklogError,
    EditFailedError,
    GalleryBusyError,
    GalleryFullError,
    ItemNotFoundError,
)
from threadmatch.indexer.export import export
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.indexer.reading.overlay import describe_changes
from threadmatch.indexer.store.database import DATABASE, open_read_only
from threadmatch.indexer.store.versions import Version
from threadmatch.indexer.upkeep import compact, list_generations, rollback, verify
from threadmatch.model.features import EMBEDDING, REGIONS

CHANGED, UNCHANGED = Edited(existed=True, changed=True), Edited(existed=True, changed=False)
NEW, ABSENT = Edited(existed=False, changed=True), Edited(existed=False, changed=False)


def query(seed: int = 0) -> NDArray[np.float32]:
    vector = np.random.default_rng(seed).standard_normal(EMBEDDING_SIZE).astype(np.float32)
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def found(gallery: Gallery, **options: str) -> set[str]:
    return {candidate.id for candidate in gallery.shortlist(query(), 1000, **options)}


def test_every_open_gallery_sees_an_edit_in_its_next_search(shop: Shop) -> None:
    shop.ingest(shop.rows(6))
    here, there = shop.open(), shop.open()
    before = here.current
    assert put(shop.gallery, "new", 77, color="red") == NEW
    assert put(shop.gallery, "item-2", 78, color="white", size="L") == CHANGED
    assert delete(shop.gallery, "item-4") == CHANGED
    for gallery in (here, there, shop.open()):
        assert found(gallery) == {"item-0", "item-1", "item-2", "item-3", "item-5", "new"}
        assert gallery.current.item_count == 6
        assert gallery.shortlist(feature(78, EMBEDDING), 1)[0].id == "item-2"
        assert gallery.shortlist(feature(78, EMBEDDING), 1)[0].distance < 1e-6
        assert found(gallery, filter='color == "red"') == {"item-0", "item-3", "new"}
        assert found(gallery, filter='size == "L"') == {"item-2"}
        assert gallery.columns()["size"] == "string"
        assert gallery.item("item-2").metadata == {"color": "white", "size": "L"}
        assert gallery.photo("new") == content(77).photo
        candidates = gallery.shortlist(query(), 6)
        assert [item.id for item in gallery.items(candidates)] == [candidate.id for candidate in candidates]
        for candidate, regions in zip(candidates, gallery.current.features("regions", candidates), strict=True):
            if candidate.id == "new":
                np.testing.assert_array_equal(regions, feature(77, REGIONS))
        vectors = gallery.current.embeddings(candidates)
        np.testing.assert_allclose(1 - vectors @ query(), [candidate.distance for candidate in candidates], atol=1e-5)
        assert gallery.generation == "000001"
        with pytest.raises(ItemNotFoundError, match="item-4"):
            gallery.item("item-4")
    assert {c.id for c in before.shortlist(query(), 10)} == {f"item-{n}" for n in range(6)}  # a search under way


def test_edits_answer_as_an_ingestion_of_the_same_items_would(shop: Shop, tmp_path: Path) -> None:
    """Many random edits; then the same after a fold, and after a compaction."""
    shop.ingest(shop.rows(12), batch_size=8)
    random = np.random.default_rng(3)
    truth = {f"item-{n}": n for n in range(12)}
    reader, writer = shop.open(), editor(shop.gallery)
    for step in range(60):
        name = f"item-{random.integers(0, 18)}"
        if random.random() < 0.3:
            assert writer.apply([Delete(name)]) == [CHANGED if truth.pop(name, None) is not None else ABSENT]
        else:
            seed = int(random.integers(0, 40))
            writer.apply([put_edit(name, seed)])
            truth[name] = seed
        if step % 20 == 10:
            fold(shop.gallery)
            reader.refresh()
        assert reader.current.item_count == len(truth)
    expected = Shop(tmp_path / "expected")
    expected.ingest([{"id": name, "image": expected.row(seed)["image"]} for name, seed in truth.items()], batch_size=8)
    photos = {name: content(seed).photo for name, seed in truth.items()}
    wanted = [sorted(each) for each in answers(expected.open())]

    def check(gallery: Gallery) -> None:
        assert [sorted(each) for each in answers(gallery)] == wanted
        assert {name: photo for name, (_, photo) in contents(gallery).items()} == photos

    check(reader)
    assert verify(shop.gallery).problems == []
    fold(shop.gallery)
    check(reader)  # on the older generation still
    reader.refresh()
    check(reader)
    compact(shop.gallery)
    reader.refresh()
    check(reader)
    assert verify(shop.gallery).problems == []


def test_edits_are_safe_to_repeat(shop: Shop) -> None:
    shop.ingest(shop.rows(3))
    assert put(shop.gallery, "a", 50, price=1) == NEW
    assert put(shop.gallery, "a", 50, price=1) == UNCHANGED
    assert put(shop.gallery, "a", 50, price=2) == CHANGED
    assert delete(shop.gallery, "a") == CHANGED
    assert delete(shop.gallery, "a") == ABSENT
    assert delete(shop.gallery, "never there") == ABSENT
    connection = open_read_only(shop.gallery)
    assert connection.execute("SELECT count(*) FROM edits").fetchone() == (3,)
    assert connection.execute("SELECT count(*) FROM contents").fetchone() == (4,)  # photo 50 was kept once
    connection.close()


@pytest.mark.parametrize("item_id", ["a/b", "../up", "per%20cent", "日本", "x" * 512, "a b?c#d", "'; DROP TABLE edits"])
def test_an_id_is_a_text_and_nothing_else(shop: Shop, item_id: str) -> None:
    shop.ingest(shop.rows(2))
    put(shop.gallery, item_id, 60)
    gallery = shop.open()
    assert item_id in found(gallery)
    assert gallery.item(item_id).id == item_id
    fold(shop.gallery)
    assert shop.open().item(item_id).id == item_id
    delete(shop.gallery, item_id)
    assert item_id not in found(gallery)


def test_an_edit_made_after_an_ingestion_began_wins_until_the_next_one(shop: Shop) -> None:
    shop.ingest(shop.rows(6))
    put(shop.gallery, "item-0", 70, price=-1)  # before: the catalogue's row wins
    put(shop.gallery, "kept", 71)  # before, and not in the catalogue: stays
    writer = editor(shop.gallery)

    class Meanwhile(PixelEncoder):
        def encode(self, pixels):  # type: ignore[no-untyped-def]
            if self.encoded == 2:
                edits: list[Put | Delete] = [
                    put_edit("item-1", 80, price=-2),
                    put_edit("late", 81),
                    Delete("item-2"),
                    Delete("item-9"),
                ]
                assert writer.apply(edits) == [CHANGED, NEW, CHANGED, NEW]  # item-9 is in the catalogue to come
                assert found(reader) == {"item-0", "item-1", "item-3", "item-4", "item-5", "kept", "late"}
                same = Put(Version("item-3", "product-1", metadata_json({"color": "red", "price": 13}), "003.jpg", 4))
                assert writer.apply([same]) == [CHANGED]  # as it is now, but the catalogue will say otherwise
            return super().encode(pixels)

    reader = shop.open()
    rows = [*(shop.row(n, price=100 + n) for n in range(6)), *(shop.row(n) for n in range(8, 14))]
    model = Meanwhile()
    shop.ingest(rows, model)
    reader.refresh()
    assert reader.generation == "000002"
    prices = {name: item.metadata.get("price") for name, (item, _) in contents(reader).items()}
    assert prices == {
        "item-0": 100, "item-1": -2, "item-3": 13, "item-4": 104, "item-5": 105, "kept": None, "late": None,
        **{f"item-{n}": 10 + n for n in (8, 10, 11, 12, 13)},
    }  # fmt: skip
    shop.ingest(rows)  # the next one
    assert {item.metadata.get("price") for item, _ in contents(shop.open()).values()} >= {101, 102, 103}
    assert "item-9" in contents(shop.open())


def test_a_rollback_keeps_edits_unless_told_otherwise(shop: Shop) -> None:
    shop.ingest(shop.rows(3))
    first = contents(shop.open())
    put(shop.gallery, "a", 50)
    fold(shop.gallery)
    delete(shop.gallery, "item-1")
    shop.ingest([shop.row(n, price=0) for n in range(3)])
    put(shop.gallery, "b", 51)
    reader = shop.open()
    assert {item.metadata.get("price") for item, _ in contents(reader).values()} == {0, None}
    rollback(shop.gallery)
    reader.refresh()
    assert set(contents(reader)) == {"item-0", "item-2", "a", "b"}
    assert reader.item("item-0").metadata["price"] == 10
    rollback(shop.gallery, "000003")
    assert set(contents(shop.open())) == {"item-0", "item-1", "item-2", "a", "b"}
    manifest = rollback(shop.gallery, "000001", edits=False)
    assert (manifest.generation, manifest.kind) == ("000004", "rollback")
    assert contents(shop.open()) == first
    reader.refresh()
    put(shop.gallery, "c", 52)
    assert set(contents(reader)) == {*first, "c"}
    rollback(shop.gallery, "000003")  # the way forward: nothing was deleted
    assert set(contents(shop.open())) == {"item-0", "item-1", "item-2", "a", "b", "c"}
    assert verify(shop.gallery).problems == []


def test_folds_do_not_push_ingestions_out_of_reach(shop: Shop) -> None:
    shop.ingest(shop.rows(2))
    shop.ingest(shop.rows(3))
    for number in range(14):
        put(shop.gallery, f"new-{number}", 100 + number)
        assert fold(shop.gallery).folded == 1
    names = [entry["generation"] for entry in list_generations(shop.gallery)]
    assert names == ["000001", "000002", "000015", "000016"]
    assert fold(shop.gallery).folded == 0
    rollback(shop.gallery)
    assert shop.open().generation == "000001"
    assert len(contents(shop.open())) == 16


def test_an_unfinished_ingestion_is_not_lost_to_a_fold(shop: Shop) -> None:
    shop.ingest(shop.rows(2))
    with pytest.raises(RuntimeError, match="power cut"):
        shop.ingest(shop.rows(8), PixelEncoder(dies_on=3))
    put(shop.gallery, "a", 50)
    assert fold(shop.gallery).unfinished
    assert compact(shop.gallery)["pending"] == 1
    assert "a" in found(shop.open())
    model = PixelEncoder()
    shop.ingest(shop.rows(8), model)
    assert model.encoded == 2
    assert fold(shop.gallery).folded == 1
    assert len(contents(shop.open())) == 9


def test_a_search_on_edits_that_were_folded_and_removed_takes_the_newer_generation(shop: Shop) -> None:
    shop.ingest(shop.rows(4))
    put(shop.gallery, "a", 50)
    behind = shop.open()
    put(shop.gallery, "b", 51)
    shop.ingest(shop.rows(5))
    compact(shop.gallery, keep=1)
    connection = open_read_only(shop.gallery)
    assert connection.execute("SELECT count(*) FROM edits").fetchone() == (0,)
    connection.close()
    put(shop.gallery, "c", 52)
    assert found(behind) == {*(f"item-{n}" for n in range(5)), "a", "b", "c"}
    assert behind.generation == shop.open().generation


def test_whoever_comes_during_a_fold_waits_for_it(shop: Shop) -> None:
    shop.ingest(shop.rows(2))
    code = (
        "import sys, time, pathlib\nfrom threadmatch.indexer.store.generations import lock\n"
        "with lock(pathlib.Path(sys.argv[1]), folding=True):\n print('held', flush=True)\n time.sleep(0.5)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(shop.gallery)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(GalleryBusyError, match="folding"):
            fold(shop.gallery)
        assert delete_items(shop.gallery, ["item-0"]).items == 1
        assert holder.wait() == 0


def test_too_many_edits_that_wait_are_refused(shop: Shop) -> None:
    shop.ingest(shop.rows(2))
    writer = editor(shop.gallery, max_pending=2)
    outcome = writer.apply([put_edit("a", 50), put_edit("b", 51), put_edit("c", 52)])
    assert outcome[:2] == [NEW, NEW]
    assert isinstance(outcome[2], BacklogError)
    fold(shop.gallery)
    assert writer.apply([put_edit("c", 52)]) == [NEW]


def test_an_edit_that_cannot_be_leaves_its_neighbours_alone(shop: Shop) -> None:
    shop.ingest(shop.rows(2))
    gone = Put(Version("x", None, "{}", "", 999))
    outcome = editor(shop.gallery).apply([put_edit("a", 50), gone, put_edit("b", 51)])
    assert outcome[0] == outcome[2] == NEW
    assert isinstance(outcome[1], ContentGoneError)
    assert found(shop.open()) == {"item-0", "item-1", "a", "b"}


def test_a_gallery_put_in_the_place_of_another_gets_the_edits(shop: Shop, tmp_path: Path) -> None:
    shop.ingest(shop.rows(2))
    other = Shop(tmp_path / "other")
    other.ingest([other.row(n) for n in range(5, 9)])
    reader, writer = shop.open(), editor(shop.gallery)
    assert writer.apply([put_edit("a", 50)]) == [NEW]
    shop.gallery.rename(tmp_path / "old")
    other.gallery.rename(shop.gallery)
    assert writer.apply([put_edit("b", 51)]) == [NEW]
    assert reader.refresh() is True
    assert found(reader) == {"item-5", "item-6", "item-7", "item-8", "b"}
    foreign = Editor(shop.gallery, features_fingerprint="another")
    assert isinstance(foreign.apply([put_edit("c", 52)])[0], EditFailedError)


def test_a_damaged_edit_is_left_out_of_searches_and_named(shop: Shop) -> None:
    shop.ingest(shop.rows(2))
    put(shop.gallery, "a", 50)
    put(shop.gallery, "b", 51)
    database = sqlite3.connect(shop.gallery / DATABASE)
    database.execute("UPDATE features SET data = zeroblob(length(data)) WHERE content = 3 AND name = 'embedding'")
    database.commit()
    database.close()
    assert found(shop.open()) == {"item-0", "item-1", "b"}
    report = verify(shop.gallery)
    assert report.damaged_items == ["a"]
    assert "change 1 of item 'a'" in report.problems[0]
    assert report.changes == 2


def test_a_full_database_refuses_the_edit_and_keeps_the_rest(shop: Shop) -> None:
    """SQLite's own limit on pages, on the real database: the same answer as that of a full disk."""
    shop.ingest(shop.rows(3))
    writer = editor(shop.gallery)
    assert writer.apply([put_edit("a", 50)]) == [NEW]
    connection = writer._open()
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    outcomes = [writer.apply([put_edit(f"more-{number}", 60 + number)])[0] for number in range(40)]
    kept = {f"more-{number}" for number, outcome in enumerate(outcomes) if outcome == NEW}
    refused = [outcome for outcome in outcomes if outcome != NEW]
    assert refused
    assert isinstance(refused[0], GalleryFullError)
    assert found(shop.open()) == {"item-0", "item-1", "item-2", "a", *kept}
    assert verify(shop.gallery).problems == []


def test_a_gallery_of_the_first_format_is_read_and_brought_up_to_date(shop: Shop) -> None:
    shop.ingest(shop.rows(3))
    make_former(shop.gallery, version=1)
    old = shop.open()
    assert len(found(old)) == 3
    assert verify(shop.gallery).problems == []
    assert put(shop.gallery, "a", 50) == NEW
    assert found(old) == {"item-0", "item-1", "item-2", "a"}
    assert fold(shop.gallery).folded == 1
    shop.ingest(shop.rows(4))
    assert verify(shop.gallery).problems == []


def test_edits_are_described_and_exported(shop: Shop, tmp_path: Path) -> None:
    shop.ingest(shop.rows(3))
    put(shop.gallery, "a", 50, brand="Acme")
    put(shop.gallery, "a", 51, brand="Acme")
    delete(shop.gallery, "item-0")
    gallery = shop.open()
    connection = open_read_only(shop.gallery)
    described = describe_changes(connection, gallery.manifest)
    connection.close()
    assert (described["pending"], described["put"], described["deleted"]) == (3, 1, 1)
    assert described["oldest"].startswith("20")
    export(shop.gallery, tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(encoding="utf-8") as file:
        rows = {row["id"]: row["brand"] for row in csv.DictReader(file)}
    assert rows == {"item-1": "", "item-2": "", "a": "Acme"}


def test_the_same_photo_and_box_is_stored_once(shop: Shop) -> None:
    shop.ingest(shop.rows(1))
    apply(shop.gallery, put_edit("a", 0))  # item-0's own photo
    connection = open_read_only(shop.gallery)
    assert connection.execute("SELECT count(*) FROM contents").fetchone() == (1,)
    connection.close()
