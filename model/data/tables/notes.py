"""What was odd about a table and was taken all the same: counted by kind, the first few places of each kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

PLACES_SHOWN: Final = 5


@dataclass(slots=True)
class Notes:
    """Notes of one pass over a table. Memory does not grow with the table."""

    _found: dict[str, tuple[int, list[str]]] = field(default_factory=dict)

    def add(self, message: str, place: str = "") -> None:
        """Note one thing.

        Args:
            message: what was found and what became of it; equal ones are counted together.
            place: where, such as "line 7"; "" where it is about the whole table.
        """
        count, places = self._found.get(message, (0, []))
        if place and len(places) < PLACES_SHOWN:
            places.append(place)
        self._found[message] = (count + 1, places)

    def __iter__(self) -> Iterator[str]:
        for message, (count, places) in self._found.items():
            more = f" and {count - len(places):,} more" if count > len(places) and places else ""
            yield f"{message}: {', '.join(places)}{more}" if places else message
