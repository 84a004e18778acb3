"""What a search shows of an item, in one record: so that no table has to be asked for 200 of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

FORM = {"format": 1}


@dataclass(frozen=True, slots=True)
class Card:
    """A row of `items` with its content. Size is of the upright original, the box the part that was encoded; pixels."""

    id: str
    product_id: str | None
    metadata: dict[str, Any]
    content: int
    size: tuple[int, int]
    box: tuple[float, float, float, float]


def pack(item_id: str, product_id: str | None, metadata: str, content: int, place: tuple[float, ...]) -> bytes:
    """A record.

    Args:
        item_id, product_id, content: of the item.
        metadata: JSON object, as the database has it.
        place: width, height, x0, y0, x1, y1.
    """
    names = json.dumps([item_id, product_id], ensure_ascii=False)[:-1]
    return f"{names},{content},{json.dumps(place)},{metadata}]".encode()


def unpack(data: bytes) -> Card:
    """Read what `pack` wrote."""
    item_id, product_id, content, place, metadata = json.loads(data)
    width, height, x0, y0, x1, y1 = place
    return Card(item_id, product_id, metadata, content, (width, height), (x0, y0, x1, y1))
