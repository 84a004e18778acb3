"""Options that say how a catalogue is to be read, shared by `ingest` and `data check`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class ShopSystem(StrEnum):
    """Whose feeds `indexer.catalogue.feeds` knows."""

    GOOGLE = "google"
    SHOPIFY = "shopify"
    WOOCOMMERCE = "woocommerce"
    MAGENTO = "magento"


Mapped = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="FIELD=COLUMN", help="your name of id, image, product_id or box; again for more"),
]
Preset = Annotated[ShopSystem | None, typer.Option(help="the shop system whose feed it is")]


def mapping(pairs: list[str]) -> dict[str, str]:
    """ "image=image_link,id=sku" and the like, given once or several times."""
    from threadmatch.indexer.catalogue.rows import RESERVED

    found: dict[str, str] = {}
    for pair in filter(None, (part.strip() for given in pairs for part in given.split(","))):
        field, sign, column = (part.strip() for part in pair.partition("="))
        if not sign or not column or field not in RESERVED or field in found:
            raise typer.BadParameter(
                f"{pair!r} maps nothing; give FIELD=COLUMN, each FIELD once, one of {', '.join(RESERVED)}",
                param_hint="--map",
            )
        found[field] = column
    return found
