"""Which rows of a shop system's export are one product: what each system says of variants, and rows that are no items.

WooCommerce  a variation's `Parent` is its parent's SKU, or `id:` and its ID; its `Images` are empty
             where they are the parent's
Magento      a configurable product lists its variants: `configurable_variations` is `sku=A,size=S|sku=B,size=M`;
             rows with a `store_view_code` translate the row above
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

Values = dict[str, Any]
Family = Callable[[Values], Values | None]
"""A row with its product; None for a row that is no item."""

_VARIANT: Final = re.compile(r"(?:^|\|)\s*sku=([^,|]+)")


def woocommerce(rows: Iterable[Mapping[str, Any]]) -> Family:
    """The families of a WooCommerce export.

    Args:
        rows: all of them, their `id`, `image` and `product_id` named already.
    """
    by_sku: dict[str, str] = {}
    named: set[str] = set()
    for row in rows:
        if row.get("SKU") and row.get("id"):
            by_sku[str(row["SKU"])] = str(row["id"])
        if row.get("product_id"):
            named.add(str(row["product_id"]))

    def product(parent: str) -> str:
        return parent.removeprefix("id:") if parent.startswith("id:") else by_sku.get(parent, parent)

    parents = {product(name) for name in named}

    def told(row: Values) -> Values | None:
        own, parent = str(row.get("id") or ""), str(row.get("product_id") or "")
        if parent and not row.get("image"):
            return None
        found = product(parent) if parent else own if own in parents else None
        return {**row, "product_id": found}

    return told


def magento(rows: Iterable[Mapping[str, Any]]) -> Family:
    """The families of a Magento (Adobe Commerce) export; `rows` as for `woocommerce`."""
    parents: dict[str, str] = {}
    for row in rows:
        for variant in _VARIANT.findall(str(row.get("configurable_variations") or "")):
            parents[variant.strip()] = str(row.get("id"))
    products = set(parents.values())

    def told(row: Values) -> Values | None:
        if row.get("store_view_code"):
            return None
        own = str(row.get("id") or "")
        image = None if row.get("image") == "no_selection" else row.get("image")
        given = row.get("product_id")
        return {**row, "image": image, "product_id": given or parents.get(own, own if own in products else None)}

    return told
