"""Feeds of shop systems become rows: a row a photo, products shared, amounts as numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from threadmatch.indexer.catalogue.feeds import PRESETS
from threadmatch.indexer.catalogue.rows import Catalogue, CatalogueRow
from threadmatch.indexer.errors import CatalogueError
from threadmatch.service.cli.feed_options import ShopSystem


def rows(path: Path, preset: str) -> list[CatalogueRow]:
    found = list(Catalogue.open(path, preset=preset))
    assert all(isinstance(row, CatalogueRow) for row in found), found
    return [row for row in found if isinstance(row, CatalogueRow)]


def keys(found: list[CatalogueRow]) -> list[tuple[str, str, str | None]]:
    return [(row.id, row.image, row.product_id) for row in found]


def test_the_command_line_offers_every_preset() -> None:
    assert {system.value for system in ShopSystem} == PRESETS.keys()


def test_a_google_merchant_table(tmp_path: Path) -> None:
    (tmp_path / "feed.tsv").write_text(
        "id\ttitle\timage link\tadditional image link\titem group id\tprice\n"
        "1\tTee\thttps://x/1.jpg\thttps://x/2.jpg,https://x/3,4.jpg\tg\t19.99 USD\n"
        "2\tDress\thttps://x/5.jpg\t\t\t5.00 USD\n"
    )
    found = rows(tmp_path / "feed.tsv", "google")
    assert keys(found) == [
        ("1", "https://x/1.jpg", "g"),
        ("1#2", "https://x/2.jpg", "g"),
        ("1#3", "https://x/3,4.jpg", "g"),
        ("2", "https://x/5.jpg", None),
    ]
    assert json.loads(found[0].metadata) == {"title": "Tee", "price": 19.99, "price_currency": "USD"}


@pytest.mark.parametrize("atom", [True, False])
def test_a_google_merchant_xml(tmp_path: Path, atom: bool) -> None:
    name = "entry" if atom else "item"
    (tmp_path / "feed.xml").write_text(
        f'<?xml version="1.0"?><rss xmlns:g="http://base.google.com/ns/1.0"><channel><title>Shop</title><{name}>'
        "<g:id>7</g:id><title>Tee &amp; co</title><g:image_link>https://x/1.jpg</g:image_link>"
        "<g:additional_image_link>https://x/2.jpg</g:additional_image_link>"
        "<g:additional_image_link>https://x/3.jpg</g:additional_image_link>"
        f"<g:price>EUR 12.50</g:price></{name}></channel></rss>"
    )
    found = rows(tmp_path / "feed.xml", "google")
    assert keys(found) == [
        ("7", "https://x/1.jpg", "7"),
        ("7#2", "https://x/2.jpg", "7"),
        ("7#3", "https://x/3.jpg", "7"),
    ]
    assert json.loads(found[2].metadata) == {"title": "Tee & co", "price": 12.5, "price_currency": "EUR"}
    (tmp_path / "cut.xml").write_text((tmp_path / "feed.xml").read_text()[:-30])
    with pytest.raises(CatalogueError, match="damaged XML"):
        rows(tmp_path / "cut.xml", "google")


def test_a_shopify_export(tmp_path: Path) -> None:
    (tmp_path / "products.csv").write_text(
        "Handle,Title,Option1 Value,Variant Price,Image Src\n"
        "tee,Tee,S,10.00,https://x/1.jpg\ntee,,M,10.00,https://x/2.jpg\ntee,,L,10.00,\nhat,Hat,,5.00,https://x/3.jpg\n"
    )
    found = rows(tmp_path / "products.csv", "shopify")
    assert [(row.image, row.product_id) for row in found] == [
        ("https://x/1.jpg", "tee"), ("https://x/2.jpg", "tee"), ("https://x/3.jpg", "hat")
    ]  # fmt: skip
    assert [json.loads(row.metadata)["Title"] for row in found] == ["Tee", "Tee", "Hat"]


def test_a_woocommerce_export(tmp_path: Path) -> None:
    (tmp_path / "wc.csv").write_text(
        'ID,SKU,Name,Regular price,Images,Parent\n10,a,Tee,19.9,"https://x/1.jpg, https://x/2.jpg",\n11,b,Hat,5,https://x/3.jpg,10\n'
    )
    found = rows(tmp_path / "wc.csv", "woocommerce")
    assert keys(found) == [
        ("10", "https://x/1.jpg", "10"), ("10#2", "https://x/2.jpg", "10"), ("11", "https://x/3.jpg", "10")
    ]  # fmt: skip


def test_a_magento_export(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(
        'sku,name,price,base_image,additional_images\nMH01,Hoodie,$52.00,/m/h/1.jpg,"/m/h/1.jpg,/m/h/2.jpg"\n'
    )
    found = rows(tmp_path / "m.csv", "magento")
    assert keys(found) == [("MH01", "m/h/1.jpg", "MH01"), ("MH01#2", "m/h/2.jpg", "MH01")]
    assert json.loads(found[0].metadata)["price"] == 52


def test_what_is_no_amount_leaves_the_column_text(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("id,image_link,price\n1,a.jpg,19.99 USD\n2,b.jpg,on request\n")
    assert [json.loads(row.metadata)["price"] for row in rows(tmp_path / "f.csv", "google")] == ["19.99", "on request"]
