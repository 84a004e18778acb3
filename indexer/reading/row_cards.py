"""What is shown of rows: from the generation's cards, and from the database where they have none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from threadmatch.indexer.index import Ids
from threadmatch.indexer.reading.connections import Readers
from threadmatch.indexer.reading.kept import Kept
from threadmatch.indexer.reading.rows import by_row
from threadmatch.indexer.reading.side_files import SideFiles
from threadmatch.indexer.store.cards import Card, card_of

KEPT_CARDS: Final = 20_000
"""Of a generation, 1 to 2 KB each."""
_FIELDS = "i.id, i.product_id, i.metadata, i.content, c.width, c.height, c.x0, c.y0, c.x1, c.y1"


class RowCards:
    """Cards by row number. Rows never change. Thread-safe.

    Args:
        readers: connections to the gallery's database.
        side: the generation's side files.
    """

    def __init__(self, readers: Readers, side: SideFiles) -> None:
        self._readers, self._side = readers, side
        self._kept: Kept[Card] = Kept(KEPT_CARDS)

    def get(self, rows: Sequence[int] | Ids) -> dict[int, Card]:
        """Cards of rows, positive for a generation's and negative for edits; those that are gone are left out."""
        numbers = [int(row) for row in rows]
        kept = self._kept.get(numbers)
        read = self._read([row for row in numbers if row not in kept]) if len(kept) < len(numbers) else {}
        self._kept.put(read)
        return kept | read

    def _read(self, numbers: Sequence[int]) -> dict[int, Card]:
        found = self._side.cards([row for row in numbers if row > 0])
        missing = [row for row in numbers if row not in found]
        if missing:
            with self._readers.connection() as connection:
                rest = by_row(connection, _FIELDS, missing, "JOIN contents c USING (content)")
            for row, (item_id, product_id, metadata, content, *place) in rest.items():
                found[row] = card_of(item_id, product_id, metadata, content, place)
        return found
