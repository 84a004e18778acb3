"""Feeds of shop systems become rows: a row a photo, products shared, amounts as numbers."""

from __future__ import annotations

import csv
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


def feed(path: Path, header: str, *lines: dict[str, str], delimiter: str = ",") -> Path:
    """A file with all columns of a documented layout, most of them empty, as exports are."""
    names = next(csv.reader([header]))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, delimiter=delimiter)
        writer.writeheader()
        writer.writerows(lines)
    return path


WOOCOMMERCE = (
    'ID,Type,SKU,"GTIN, UPC, EAN, or ISBN",Name,Published,"Is featured?","Visibility in catalog","Short description",'
    'Description,"Date sale price starts","Date sale price ends","Tax status","Tax class","In stock?",Stock,'
    '"Low stock amount","Backorders allowed?","Sold individually?","Weight (kg)","Length (cm)","Width (cm)",'
    '"Height (cm)","Allow customer reviews?","Purchase note","Sale price","Regular price",Categories,Tags,'
    '"Shipping class",Images,"Download limit","Download expiry days",Parent,"Grouped products",Upsells,Cross-sells,'
    '"External URL","Button text",Position,Brands,"Attribute 1 name","Attribute 1 value(s)","Attribute 1 visible",'
    '"Attribute 1 global","Attribute 1 default"'
)
"""As the exporter of WooCommerce writes it."""


def test_variations_of_woocommerce_are_their_parent_s_product_whether_by_sku_or_by_id(tmp_path: Path) -> None:
    path = feed(
        tmp_path / "wc.csv", WOOCOMMERCE,
        {"ID": "44", "Type": "variable", "SKU": "vneck", "Name": "V-Neck", "Images": "https://x/1.jpg, https://x/2.jpg"},
        {"ID": "45", "Type": "variation", "SKU": "vneck-red", "Parent": "vneck", "Images": "https://x/3.jpg"},
        {"ID": "46", "Type": "variation", "Parent": "id:44", "Images": "https://x/4.jpg"},
        {"ID": "47", "Type": "variation", "Parent": "id:44", "Regular price": "20"},
        {"ID": "48", "Type": "simple", "SKU": "cap", "Name": "Cap", "Regular price": "1.234,50 €",
         "Images": "https://x/5.jpg"},
    )  # fmt: skip
    catalogue = Catalogue.open(path, preset="woocommerce")
    found = [row for row in catalogue if isinstance(row, CatalogueRow)]
    assert keys(found) == [
        ("44", "https://x/1.jpg", "44"), ("44#2", "https://x/2.jpg", "44"), ("45", "https://x/3.jpg", "44"),
        ("46", "https://x/4.jpg", "44"), ("48", "https://x/5.jpg", None),
    ]  # fmt: skip
    assert any("no items of their own" in note and "line 5" in note for note in catalogue.warnings)


MAGENTO = (
    "sku,store_view_code,attribute_set_code,product_type,categories,product_websites,name,description,short_description,"
    "weight,product_online,tax_class_name,visibility,price,special_price,special_price_from_date,special_price_to_date,"
    "url_key,meta_title,meta_keywords,meta_description,base_image,base_image_label,small_image,small_image_label,"
    "thumbnail_image,thumbnail_image_label,swatch_image,swatch_image_label,created_at,updated_at,new_from_date,"
    "new_to_date,display_product_options_in,map_price,msrp_price,map_enabled,gift_message_available,custom_design,"
    "custom_design_from,custom_design_to,custom_layout_update,page_layout,product_options_container,"
    "msrp_display_actual_price_type,country_of_manufacture,additional_attributes,qty,out_of_stock_qty,"
    "use_config_min_qty,is_qty_decimal,allow_backorders,related_skus,crosssell_skus,upsell_skus,additional_images,"
    "additional_image_labels,hide_from_product_page,custom_options,bundle_price_type,bundle_sku_type,"
    "configurable_variations,configurable_variation_labels,associated_skus"
)
"""As Adobe Commerce and Magento Open Source 2.4 write it."""


def test_variants_of_magento_are_their_configurable_product_and_translations_are_no_items(tmp_path: Path) -> None:
    path = feed(
        tmp_path / "m.csv", MAGENTO,
        {"sku": "MH01-XS-Black", "product_type": "simple", "price": "52.0000", "base_image": "/m/h/black.jpg",
         "additional_images": "/m/h/black.jpg,/m/h/back.jpg"},
        {"sku": "MH01-XS-Black", "store_view_code": "fr", "name": "Sweat"},
        {"sku": "MH01-XS-Gray", "product_type": "simple", "base_image": "/m/h/gray.jpg"},
        {"sku": "MH01", "product_type": "configurable", "base_image": "/m/h/main.jpg",
         "configurable_variations": "sku=MH01-XS-Black,size=XS,color=Black|sku=MH01-XS-Gray,size=XS,color=Gray"},
        {"sku": "24-MB01", "product_type": "simple", "base_image": "/m/b/bag.jpg"},
    )  # fmt: skip
    assert keys(rows(path, "magento")) == [
        ("MH01-XS-Black", "m/h/black.jpg", "MH01"), ("MH01-XS-Black#2", "m/h/back.jpg", "MH01"),
        ("MH01-XS-Gray", "m/h/gray.jpg", "MH01"), ("MH01", "m/h/main.jpg", "MH01"), ("24-MB01", "m/b/bag.jpg", None),
    ]  # fmt: skip


SHOPIFY_BEFORE = (
    'Handle,Title,"Body (HTML)",Vendor,"Product Category",Type,Tags,Published,"Option1 Name","Option1 Value",'
    '"Option1 Linked To","Option2 Name","Option2 Value","Option2 Linked To","Option3 Name","Option3 Value",'
    '"Option3 Linked To","Variant SKU","Variant Grams","Variant Inventory Tracker","Variant Inventory Qty",'
    '"Variant Inventory Policy","Variant Fulfillment Service","Variant Price","Variant Compare At Price",'
    '"Variant Requires Shipping","Variant Taxable","Variant Barcode","Image Src","Image Position","Image Alt Text",'
    '"Gift Card","SEO Title","SEO Description","Variant Image","Variant Weight Unit","Variant Tax Code",'
    '"Cost per item",Status'
)
SHOPIFY = (
    'Title,"URL handle",Description,Vendor,"Product category",Type,Tags,"Published on online store",Status,SKU,Barcode,'
    '"Option1 name","Option1 value","Option1 Linked To","Option2 name","Option2 value","Option2 Linked To",'
    '"Option3 name","Option3 value","Option3 Linked To",Price,"Compare-at price","Cost per item","Charge tax",'
    '"Tax code","Unit price total measure","Inventory tracker","Inventory quantity",'
    '"Continue selling when out of stock","Weight value (grams)","Weight unit for display","Requires shipping",'
    '"Fulfillment service","Product image URL","Image position","Image alt text","Variant image URL","Gift card",'
    '"SEO title","SEO description"'
)


@pytest.mark.parametrize(
    ("header", "handle", "image", "price"),
    [(SHOPIFY_BEFORE, "Handle", "Image Src", "Variant Price"), (SHOPIFY, "URL handle", "Product image URL", "Price")],
)
def test_both_layouts_of_shopify_give_a_row_a_photo(
    tmp_path: Path, header: str, handle: str, image: str, price: str
) -> None:
    path = feed(
        tmp_path / "products_export.csv", header,
        {handle: "tee", "Title": "Tee", image: "https://x/1.jpg", price: "10.00"},
        {handle: "tee", image: "https://x/2.jpg", price: "10.00"},
        {handle: "tee", price: "10.00"},
        {handle: "hat", "Title": "Hat", image: "https://x/3.jpg", price: "5.00"},
    )  # fmt: skip
    found = rows(path, "shopify")
    assert [(row.image, row.product_id) for row in found] == [
        ("https://x/1.jpg", "tee"), ("https://x/2.jpg", "tee"), ("https://x/3.jpg", "hat")
    ]  # fmt: skip
    assert [json.loads(row.metadata)[price] for row in found] == [10, 10, 5]


GOOGLE = (
    "id,title,description,link,image_link,additional_image_link,mobile_link,availability,availability_date,"
    "expiration_date,price,sale_price,sale_price_effective_date,google_product_category,product_type,brand,gtin,mpn,"
    "identifier_exists,condition,adult,age_group,color,gender,material,pattern,size,size_type,size_system,item_group_id,"
    "shipping,tax"
)
"""Of Google's product data specification, as a tab-separated feed has them."""


@pytest.mark.parametrize(
    ("written", "amount"),
    [
        ("15.00 USD", 15), ("15,550.00 RUB", 15550), ("1.234,56 EUR", 1234.56), ("19,99 EUR", 19.99),
        ("1 234,50 €", 1234.5), ("12,000 KRW", 12000), ("USD 7", 7),
    ],
)  # fmt: skip
def test_amounts_of_google_merchant_are_numbers_however_they_are_written(
    tmp_path: Path, written: str, amount: float
) -> None:
    row = {"id": "1", "image_link": "https://x/1.jpg", "price": written, "item_group_id": "g", "gtin": "00012345600012"}
    (found,) = rows(feed(tmp_path / "feed.tsv", GOOGLE, row, delimiter="\t"), "google")
    said = json.loads(found.metadata)
    assert said["price"] == amount
    assert said["gtin"] == "00012345600012"
    assert len(said["price_currency"]) in (1, 3)
    assert found.product_id == "g"


def test_what_is_no_amount_leaves_the_column_text(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("id,image_link,price\n1,a.jpg,19.99 USD\n2,b.jpg,on request\n")
    assert [json.loads(row.metadata)["price"] for row in rows(tmp_path / "f.csv", "google")] == ["19.99", "on request"]
