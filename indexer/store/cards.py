"""What a search shows of an item, in one record: so that no table has to be asked for 200 of them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

FORM: Final[dict[str, Any]] = {"format": 1}
_HEAD: Final = struct.Struct("<qii4dii")  # content, width, height, box, bytes of the id, of the product id (-1: none)


@dataclass(frozen=True, slots=True)
class Card:
    """A row of `items` with its content. Size is of the upright original, the box the part that was encoded; pixels."""

    id: str
    product_id: str | None
    metadata: str  # JSON object
    content: int
    size: tuple[int, int]
    box: tuple[float, float, float, float]


def card_of(item_id: str, product_id: str | None, metadata: str, content: int, place: Sequence[float]) -> Card:
    """A card of the database's fields.

    Args:
        item_id, product_id, metadata, content: of the item.
        place: width, height, x0, y0, x1, y1.
    """
    width, height, x0, y0, x1, y1 = place
    return Card(item_id, product_id, metadata, content, (int(width), int(height)), (x0, y0, x1, y1))


def pack(card: Card) -> bytes:
    """A record."""
    item_id = card.id.encode()
    product_id = b"" if card.product_id is None else card.product_id.encode()
    head = _HEAD.pack(
        card.content, *card.size, *card.box, len(item_id), -1 if card.product_id is None else len(product_id)
    )
    return head + item_id + product_id + card.metadata.encode()


def unpack(data: bytes) -> Card:
    """Read what `pack` wrote."""
    content, width, height, x0, y0, x1, y1, id_bytes, product_bytes = _HEAD.unpack_from(data)
    at = _HEAD.size + id_bytes
    end = at + max(0, product_bytes)
    product_id = None if product_bytes < 0 else data[at:end].decode()
    item_id, metadata = data[_HEAD.size : at].decode(), data[end:].decode()
    return Card(item_id, product_id, metadata, content, (width, height), (x0, y0, x1, y1))
