"""What rejected rows may do to a gallery: too many stop it, and none of them deletes anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.shop import PixelEncoder, Shop, photo
from threadmatch.indexer.errors import CatalogueError
from threadmatch.indexer.ingest import ingest
from threadmatch.indexer.ingest_options import IngestOptions, IngestResult
from threadmatch.indexer.rejects import RejectBound


def ingested(shop: Shop, catalogue: Path, **options: Any) -> IngestResult:
    settings = IngestOptions(images=shop.images, batch_size=2, workers=1, **options)
    return ingest(catalogue, shop.gallery, model=PixelEncoder(), options=settings)


def ids(shop: Shop) -> list[str]:
    return sorted(item.id for item in shop.open().current.stored_items())


@pytest.mark.parametrize(
    ("text", "rejected", "rows", "too_many"),
    [
        ("0", 0, 5, False),
        ("0", 1, 5, True),
        ("2", 2, 5, False),
        ("2", 3, 5, True),
        ("10%", 1, 10, False),
        ("10 %", 2, 10, True),
        ("2.5%", 25, 1000, False),
        ("2.5%", 26, 1000, True),
        ("100%", 9, 10, False),
        ("100%", 10, 10, True),
        ("100", 10, 10, True),
    ],
)
def test_a_bound_is_a_number_or_a_share_and_all_are_always_too_many(
    text: str, rejected: int, rows: int, too_many: bool
) -> None:
    assert bool(RejectBound.parse(text).fault(rejected, rows)) == too_many


@pytest.mark.parametrize("text", ["", "many", "-1", "1.5", "101%", "5%%"])
def test_what_is_no_bound_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no bound"):
        RejectBound.parse(text)


def test_too_many_rejects_put_nothing_in_service_and_keep_what_was_encoded(shop: Shop) -> None:
    shop.ingest(shop.rows(2))
    rows = [*shop.rows(6)[2:], shop.row(7, image="missing.jpg"), shop.row(8, image="missing.jpg")]
    with pytest.raises(CatalogueError, match="2 of 6 rows were rejected, at most 1 may be"):
        shop.ingest(rows, max_rejects=RejectBound(rows=1))
    assert ids(shop) == ["item-0", "item-1"]
    result = shop.ingest(rows, max_rejects=RejectBound(rows=2))
    assert (result.items, result.rejected, result.encoded) == (6, 2, 0)


def test_a_damaged_file_prunes_nothing_and_says_so(shop: Shop) -> None:
    shop.ingest(shop.rows(5))
    damaged = shop.folder / "items.csv"
    damaged.write_text('id,image,title\nitem-0,000.jpg,"open\nitem-1,001.jpg,x\nitem-2,002.jpg,y\n')
    result = ingested(shop, damaged, prune=True)
    assert ids(shop) == [f"item-{number}" for number in range(5)]
    assert any("nothing was pruned" in warning for warning in result.warnings)


def test_a_row_that_is_rejected_keeps_its_item_from_being_pruned(shop: Shop) -> None:
    shop.ingest(shop.rows(4))
    rows = [shop.row(0), shop.row(1, image="missing.jpg"), shop.row(2, image="")]
    result = shop.ingest(rows, prune=True)
    assert result.rejected == 2
    assert not result.warnings
    assert ids(shop) == ["item-0", "item-1", "item-2"]


def test_what_was_odd_about_a_catalogue_is_in_the_result(shop: Shop) -> None:
    rows = [{"ID": row["id"], "image": row["image"], "product_id": "nan"} for row in shop.rows(2)]
    result = shop.ingest(rows)
    assert ids(shop) == ["item-0", "item-1"]
    assert shop.open().item("item-0").product_id is None
    assert [warning.split(":")[0] for warning in result.warnings] == [
        "column 'ID' is read as 'id'",
        "product_id is empty in 2 rows that say nan, null or the like",
    ]
    assert result.as_json()["warnings"] == result.warnings


def test_columns_can_be_mapped(shop: Shop) -> None:
    rows = [{"sku": row["id"], "image_link": row["image"]} for row in shop.rows(2)]
    result = shop.ingest(rows, mapped={"id": "sku", "image": "image_link"})
    assert (result.items, ids(shop)) == (2, ["item-0", "item-1"])
    with pytest.raises(CatalogueError, match="no column 'skus' to map; did you mean sku"):
        shop.ingest(rows, mapped={"id": "skus", "image": "Image Link"})


@pytest.mark.parametrize("parts", [1, 2])
def test_photos_that_the_catalogue_holds_itself_become_items(shop: Shop, parts: int) -> None:
    shop.images.mkdir(parents=True)
    folder = shop.folder / "set"
    folder.mkdir(parents=True)
    numbers = range(4)
    for part in range(parts):
        own = [number for number in numbers if number % parts == part]
        images = [{"bytes": photo(number), "path": f"{number}.jpg" if number else None} for number in own]
        table = pa.table({"image": images, "product_id": [float(number) for number in own]})
        pq.write_table(table, folder / f"train-{part:05d}.parquet")
    result = ingested(shop, folder)
    assert (result.items, result.encoded, result.rejected) == (4, 4, 0)
    assert shop.open().item("3.jpg").product_id == "3"
    assert ingested(shop, folder, prune=True).encoded == 0


@pytest.mark.parametrize("item_id", ["👩\u200d🦰", "क\u094d\u200dष", "\u200fقميص", "a b"])
def test_ids_of_any_script_are_taken(shop: Shop, item_id: str) -> None:
    shop.ingest([shop.row(0, id=item_id)])
    assert ids(shop) == [item_id]


@pytest.mark.parametrize("item_id", [".", "..", "a\u0007b", "a\ufeffb"])
def test_ids_that_no_address_or_line_can_hold_are_rejected(shop: Shop, item_id: str) -> None:
    result = shop.ingest([shop.row(0, id=item_id), shop.row(1)])
    assert (result.rejected, ids(shop)) == (1, ["item-1"])
