"""What a search shows of a catalogue entry."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from threadmatch.model.images import Box


@dataclass(frozen=True, slots=True)
class Item:
    """A catalogue entry. Width and height are of the upright original, the box is the part of it that was encoded."""

    id: str
    product_id: str | None
    metadata_text: str  # JSON: of 200 candidates an answer shows ten
    width: int
    height: int
    box: Box

    @property
    def metadata(self) -> dict[str, Any]:
        """The catalogue's other columns."""
        values: dict[str, Any] = json.loads(self.metadata_text)
        return values
