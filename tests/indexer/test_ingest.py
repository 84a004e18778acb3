"""Ingestion as a whole, with real files, real processes, real SQLite and real Faiss; only the model is a small one."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.hostile import hostile_images
from tests.support.shop import PixelEncoder, Shop, answers, contents, photo
from threadmatch.indexer.errors import CatalogueError, GalleryBusyError, GalleryError, GalleryModelMismatchError
from threadmatch.indexer.ingest import ingest
from threadmatch.indexer.ingest_options import IngestOptions, Progress
from threadmatch.indexer.making import MIN_WINDOW
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.indexer.store.generations import lock
from threadmatch.model.features import EMBEDDING, REGIONS, Features
from threadmatch.model.images import load_image
from threadmatch.model.inference import Model


def rejects(result: Any) -> list[dict[str, Any]]:
    if result.rejects_file is None:
        return []
    return [json.loads(line) for line in Path(result.rejects_file).read_text("utf-8").splitlines()]


def reasons(result: Any) -> dict[int, str]:
    return {reject["row"]: reject["reason"] for reject in rejects(result)}


def test_a_catalogue_becomes_a_gallery_that_finds_its_own_items(shop: Shop) -> None:
    model = PixelEncoder()
    result = shop.ingest(shop.rows(7), model)
    assert (result.items, result.rejected, result.skipped, result.encoded) == (7, 0, 0, 7)
    assert (result.generation, result.rejects_file) == ("000001", None)
    assert model.batches == [2, 2, 2, 1]
    gallery = shop.open()
    item = gallery.item("item-3")
    assert (item.product_id, item.metadata, item.width, item.height) == (
        "product-1",
        {"color": "red", "price": 13},
        40,
        50,
    )  # fmt: skip
    assert gallery.photo("item-3")[:2] == b"\xff\xd8"
    assert gallery.columns() == {"color": "string", "price": "integer"}


def test_json_has_the_fields_of_the_contract(shop: Shop) -> None:
    result = shop.ingest(shop.rows(2)).as_json()
    expected = {"items", "rejected", "skipped", "seconds", "images_per_second", "generation", "rejects_file"}
    assert expected <= result.keys()


def test_csv_json_lines_and_parquet_give_the_same_gallery(tmp_path: Path) -> None:
    galleries = []
    for name in ("items.csv", "items.jsonl", "items.parquet"):
        shop = Shop(tmp_path / name.replace(".", "-"))
        shop.ingest(shop.rows(9), name=name)
        galleries.append(shop.open())
    first = galleries[0]
    for other in galleries[1:]:
        assert contents(other) == contents(first)
        assert answers(other) == answers(first)
        assert other.columns() == first.columns()


@pytest.mark.parametrize("dies_on", [1, 2, 3, 4])
def test_a_rerun_encodes_only_what_the_dead_run_left(tmp_path: Path, dies_on: int) -> None:
    shop, whole = Shop(tmp_path / "killed"), Shop(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="power cut"):
        shop.ingest(shop.rows(8), PixelEncoder(dies_on=dies_on))
    with pytest.raises(GalleryError, match="no finished generation"):
        shop.open()
    second = PixelEncoder()
    result = shop.ingest(shop.rows(8), second)
    assert second.batches == [2] * (5 - dies_on)
    assert (result.encoded, result.skipped) == (2 * (5 - dies_on), 2 * (dies_on - 1))
    whole.ingest(whole.rows(8))
    assert contents(shop.open()) == contents(whole.open())
    assert answers(shop.open()) == answers(whole.open())


def test_a_dead_run_leaves_the_gallery_in_service_as_it_was(shop: Shop) -> None:
    shop.ingest(shop.rows(4))
    before = contents(shop.open()), answers(shop.open())
    changed = [shop.row(number, price=1000) for number in range(8)]
    with pytest.raises(RuntimeError, match="power cut"):
        shop.ingest(changed, PixelEncoder(dies_on=2))
    assert (contents(shop.open()), answers(shop.open())) == before
    assert shop.open().generation == "000001"


def test_another_catalogue_after_a_dead_run_uses_what_was_encoded_and_nothing_else_of_it(shop: Shop) -> None:
    with pytest.raises(RuntimeError, match="power cut"):
        shop.ingest(shop.rows(8), PixelEncoder(dies_on=3))
    second = PixelEncoder()
    result = shop.ingest([shop.row(number, price=1) for number in (0, 1, 2, 9)], second)
    assert second.encoded == 1
    assert set(contents(shop.open())) == {"item-0", "item-1", "item-2", "item-9"}
    assert (result.items, result.skipped) == (4, 3)


def test_the_same_catalogue_again_changes_nothing(shop: Shop) -> None:
    shop.ingest(shop.rows(5))
    model = PixelEncoder()
    result = shop.ingest(shop.rows(5), model)
    assert (result.items, result.skipped, result.encoded, result.generation) == (5, 5, 0, "000001")
    assert model.batches == []


def test_new_metadata_is_taken_without_encoding_and_a_new_photo_with(shop: Shop) -> None:
    rows = shop.rows(4)
    shop.ingest(rows)
    (shop.images / "002.jpg").write_bytes(photo(99, size=(120, 90)))
    model = PixelEncoder()
    rows[1]["price"] = 999
    result = shop.ingest(rows, model)
    assert (result.generation, result.encoded, result.skipped) == ("000002", 1, 3)
    gallery = shop.open()
    assert gallery.item("item-1").metadata["price"] == 999
    assert (gallery.item("item-2").width, gallery.item_count) == (120, 4)


def test_a_new_box_is_encoded_and_used(shop: Shop) -> None:
    shop.ingest(shop.rows(2))
    model = PixelEncoder()
    shop.ingest([shop.row(0, box="5,5,35.5,45"), shop.row(1)], model)
    assert model.encoded == 1
    box = shop.open().item("item-0").box
    assert (box.x0, box.y0, box.x1, box.y1) == (5, 5, 35.5, 45)


def test_one_photo_of_two_items_is_encoded_once(shop: Shop) -> None:
    model = PixelEncoder()
    result = shop.ingest([shop.row(0), shop.row(1, image="000.jpg"), shop.row(2)], model, batch_size=8)
    assert (result.items, result.encoded, result.skipped) == (3, 2, 1)


def test_items_that_the_catalogue_lacks_stay_unless_pruned(shop: Shop) -> None:
    shop.ingest(shop.rows(5))
    assert shop.ingest(shop.rows(3)).items == 5
    assert shop.ingest(shop.rows(3), prune=True).items == 3
    assert set(contents(shop.open())) == {"item-0", "item-1", "item-2"}


def test_a_pruned_catalogue_keeps_an_item_whose_new_photo_is_bad(shop: Shop) -> None:
    shop.ingest(shop.rows(3))
    (shop.images / "001.jpg").write_bytes(b"not an image")
    result = shop.ingest(shop.rows(3), prune=True)
    assert (result.items, result.rejected) == (3, 1)


def test_fresh_encodes_every_row_again(shop: Shop) -> None:
    shop.ingest(shop.rows(5))
    model = PixelEncoder()
    result = shop.ingest(shop.rows(5), model, fresh=True)
    assert (model.encoded, result.generation, result.items) == (5, "000002", 5)


def test_a_fresh_run_that_died_goes_on_as_one(shop: Shop) -> None:
    shop.ingest(shop.rows(6))
    with pytest.raises(RuntimeError, match="power cut"):
        shop.ingest(shop.rows(6), PixelEncoder(dies_on=3), fresh=True)
    model = PixelEncoder()
    assert shop.ingest(shop.rows(6), model).generation == "000002"
    assert model.encoded == 2


def test_bad_rows_are_listed_with_row_and_reason_and_the_job_goes_on(shop: Shop) -> None:
    (shop.folder / "secret.jpg").parent.mkdir(parents=True)
    (shop.folder / "secret.jpg").write_bytes(photo(1))
    rows = [
        shop.row(0),
        shop.row(1, image="missing.jpg"),
        shop.row(2, id="item-0"),
        shop.row(3, image=""),
        shop.row(4, box="1,2,3"),
        shop.row(5, box="500,500,600,600"),
        shop.row(6, image="../secret.jpg"),
        shop.row(7, image="."),
        shop.row(8, image="ftp://example.com/a.jpg"),
        shop.row(9, image="https://example.com/a.jpg"),
        shop.row(10, id="x" * 600),
        shop.row(11),
        shop.row(12, image="link.jpg"),
        shop.row(13, image=str(shop.folder / "secret.jpg")),
        shop.row(14, image=str(shop.images / "014.jpg")),
    ]
    (shop.images / "link.jpg").symlink_to(shop.folder / "secret.jpg")
    result = shop.ingest(rows)
    assert reasons(result) == {
        2: "missing_file",
        3: "duplicate_id",
        4: "no_image",
        5: "bad_box",
        6: "bad_box",
        7: "outside_images",
        8: "outside_images",
        9: "url_scheme",
        10: "url_host_not_allowed",
        11: "bad_id",
        13: "outside_images",
        14: "outside_images",
    }
    assert (result.items, result.rejected) == (3, 12)
    assert all(reject["message"] and (reject["image"] or reject["reason"] == "no_image") for reject in rejects(result))
    assert set(contents(shop.open())) == {"item-0", "item-11", "item-14"}


def test_the_hostile_corpus_is_taken_or_rejected_image_by_image(shop: Shop) -> None:
    shop.images.mkdir(parents=True)
    corpus = hostile_images()
    rows = []
    for number, (case, image) in enumerate(corpus.items()):
        (shop.images / f"{number}").write_bytes(image.data)
        rows.append({"id": case, "image": f"{number}"})
    result = shop.ingest(rows, batch_size=32, workers=2)
    refused = {reject["id"]: reject["reason"] for reject in rejects(result)}
    assert refused == {case: image.reason for case, image in corpus.items() if image.reason is not None}
    gallery = shop.open()
    for case, image in corpus.items():
        if image.reason is None and image.size is not None:
            item = gallery.item(case)
            assert (item.width, item.height) == image.size, case


def test_a_catalogue_with_nothing_usable_fails_and_makes_no_gallery(shop: Shop) -> None:
    shop.images.mkdir(parents=True)
    (shop.images / "no.jpg").write_bytes(b"<html>")
    with pytest.raises(CatalogueError, match=r"none of the 3 rows.*; 2 of 3 are \w+, such as row 2: .*a\.jpg"):
        shop.ingest([shop.row(2, image="no.jpg"), shop.row(0, image="a.jpg"), shop.row(1, image="b.jpg")])
    assert not (shop.gallery / "CURRENT").exists()
    assert shop.ingest(shop.rows(2)).generation == "000001"


def test_a_catalogue_with_nothing_usable_fails_and_leaves_a_gallery_alone(shop: Shop) -> None:
    shop.ingest(shop.rows(2))
    with pytest.raises(CatalogueError, match="none of the 1 rows"):
        shop.ingest([shop.row(5, image="a.jpg")], prune=True)
    gallery = shop.open()
    assert (gallery.manifest.items, gallery.manifest.generation) == (2, "000001")


def test_a_gallery_of_another_model_is_refused_by_name(shop: Shop) -> None:
    shop.ingest(shop.rows(2))
    with pytest.raises(GalleryModelMismatchError, match=r"'pixels'.*'other'"):
        shop.ingest(shop.rows(2), PixelEncoder(name="other"))
    with pytest.raises(GalleryModelMismatchError, match="another folder"):
        Gallery.open(shop.gallery, features_fingerprint="other-features", model_name="other")
    with pytest.raises(GalleryModelMismatchError, match=r"other weights of model 'pixels'.*another folder"):
        Gallery.open(shop.gallery, features_fingerprint="other-features", model_name="pixels")


def test_a_gallery_that_never_published_can_go_to_another_model(shop: Shop) -> None:
    with pytest.raises(CatalogueError):
        shop.ingest([shop.row(0, image="missing.jpg")])
    with pytest.raises(RuntimeError, match="power cut"):
        shop.ingest(shop.rows(4), PixelEncoder(name="other", dies_on=2))
    with pytest.raises(GalleryModelMismatchError, match=r"'other'.*'pixels'"):
        shop.ingest(shop.rows(4))
    assert shop.ingest(shop.rows(4), fresh=True).encoded == 4
    assert shop.open().manifest.model.name == "pixels"


def test_a_full_disk_is_an_error_of_ours_and_leaves_the_gallery_as_it_was(shop: Shop) -> None:
    shop.ingest(shop.rows(2))

    class FullDisk(PixelEncoder):
        def encode(self, pixels: NDArray[np.uint8]) -> Features:
            del pixels
            raise sqlite3.OperationalError("database or disk is full")

    with pytest.raises(GalleryError, match="disk is full"):
        shop.ingest(shop.rows(4), FullDisk())
    assert shop.open().item_count == 2


def test_one_ingestion_at_a_time(shop: Shop) -> None:
    shop.gallery.mkdir(parents=True)
    with lock(shop.gallery), pytest.raises(GalleryBusyError, match="process"):
        shop.ingest(shop.rows(2))
    (shop.gallery / ".lock").write_text("process 999999999")  # left by a dead process: nobody holds it
    assert shop.ingest(shop.rows(2)).items == 2


def test_only_a_window_of_images_is_in_memory_whatever_the_size_of_the_catalogue(shop: Shop) -> None:
    """When the first batch is encoded all photos are taken away: what still arrives had been loaded by then."""

    class Robber(PixelEncoder):
        def encode(self, pixels: NDArray[np.uint8]) -> Features:
            for path in shop.images.iterdir():
                path.unlink()
            return super().encode(pixels)

    rows = shop.rows(120)
    result = shop.ingest(rows, Robber())
    assert result.items + result.rejected == 120
    assert result.items <= MIN_WINDOW + 4


def test_progress_counts_up_to_the_end(shop: Shop) -> None:
    seen: list[Progress] = []
    catalogue = shop.write([*shop.rows(5), shop.row(6, image="missing.jpg")])
    options = IngestOptions(images=shop.images, batch_size=2, workers=1)
    ingest(catalogue, shop.gallery, model=PixelEncoder(), options=options, progress=seen.append)
    stages = list(dict.fromkeys(progress.stage for progress in seen))
    assert stages == ["reading", "encoding", "indexing", "writing side files", "comparing photos", "verifying"]
    last = seen[-1]
    assert (last.rows, last.done, last.encoded, last.rejected) == (6, 6, 5, 1)


def test_a_photo_in_the_gallery_equals_the_same_photo_encoded_online(shop: Shop, tiny_model: Model) -> None:
    shop.ingest(shop.rows(5), tiny_model, batch_size=4)
    gallery = shop.open()
    for number in range(5):
        prepared, _ = load_image((shop.images / f"{number:03d}.jpg").read_bytes(), image_px=tiny_model.image_px)
        features = tiny_model.encode(prepared.pixels[None])
        best = gallery.shortlist(features[EMBEDDING][0], 1)
        assert best[0].id == f"item-{number}"
        assert best[0].distance < 1e-5
        regions = gallery.current.features("regions", best)[0].astype("f4")
        assert abs(regions - features[REGIONS][0]).max() < 2e-3 * abs(features[REGIONS][0]).max() + 1e-5
