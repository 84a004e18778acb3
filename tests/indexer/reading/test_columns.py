"""What the columns hold: few texts are choices, numbers a range, all from a bounded look at the gallery."""

from __future__ import annotations

from tests.support.shop import Shop
from threadmatch.indexer.edits.folding import delete_items
from threadmatch.indexer.reading.columns import MAX_VALUES, Column, describe_columns
from threadmatch.indexer.store.database import open_read_only


def described(shop: Shop) -> dict[str, Column]:
    return {column.name: column for column in shop.open().current.described_columns()}


def test_few_texts_are_choices_and_numbers_a_range(shop: Shop) -> None:
    rows = [
        shop.row(n, note=f"note {n}", soft=n % 2 == 0, fabrics=["wool", "silk"][: 1 + n % 2])
        for n in range(MAX_VALUES + 2)
    ]
    rows[3]["color"] = rows[6]["color"] = "green"  # more than the others
    rows[4]["price"] = 4.5
    rows[9]["color"] = None
    shop.ingest(rows, name="items.jsonl", batch_size=16)
    found = described(shop)
    assert list(found) == list(shop.open().columns())
    assert found["color"] == Column("color", "string", ("green", "blue", "red"), (12, 11, 8))
    assert found["price"] == Column("price", "number", None, None, 4.5, 10 + MAX_VALUES + 1)
    assert found["fabrics"] == Column("fabrics", "list", ("wool", "silk"), (32, 16))
    assert found["note"] == Column("note", "string"), "as many texts as items are no choice"
    assert found["soft"] == Column("soft", "boolean")


def test_deleted_and_replaced_rows_do_not_count(shop: Shop) -> None:
    shop.ingest(shop.rows(6))
    delete_items(shop.gallery, ["item-1", "item-4"])
    assert described(shop)["color"].values == ("green", "red")
    shop.ingest([shop.row(0, color="pink", price=99)])
    assert described(shop)["color"].values == ("green", "pink", "red")
    assert described(shop)["price"].high == 99


def test_the_look_is_bounded_and_spread_over_the_gallery(shop: Shop) -> None:
    shop.ingest([shop.row(n, half="first" if n < 10 else "second", note=f"note {n}") for n in range(20)], batch_size=10)
    kinds, seq = shop.open().columns(), shop.open().manifest.seq
    sampled = describe_columns(open_read_only(shop.gallery), kinds=kinds, seq=seq, sampled_rows=4)
    found = {column.name: column for column in sampled}
    assert found["note"].values is not None
    assert len(found["note"].values) == 4
    assert found["half"].values == ("first", "second")
    assert (found["price"].low, found["price"].high) == (10, 29), "first and last row are among the sample"


def test_an_empty_gallery_has_columns_without_values(shop: Shop) -> None:
    shop.ingest(shop.rows(1))
    delete_items(shop.gallery, ["item-0"])
    assert all(column.values is None and column.low is None for column in described(shop).values())
