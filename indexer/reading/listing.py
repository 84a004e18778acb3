"""The items of a snapshot, page by page, in an order that lasts: those of the generation, then those that edits put.

A listing has every item that is there from its first page to its last at least once. An item that is edited meanwhile
may come twice; so may items that edits put, when those edits are folded into a generation meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from threadmatch.indexer.reading.conditions import Always, Condition
from threadmatch.indexer.reading.filter_sql import to_sql
from threadmatch.indexer.store.database import ALIVE
from threadmatch.indexer.store.versions import NEWEST_EDITS

Row = tuple[Any, ...]
Query = Callable[[str, dict[str, Any]], list[Row]]
"""Runs an SQL query with its values against the gallery's database."""
_CURSOR: Final = re.compile(r"(\d{1,18})\.(-?\d{1,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page of a listing ends.

    Fields:
        seq: the last row number of the generation that was listed.
        row: of the page's last item; negative where an edit put it.
    """

    seq: int
    row: int

    def __str__(self) -> str:
        return f"{self.seq}.{self.row}"

    @classmethod
    def read(cls, text: str) -> Place:
        """Read what `str` wrote.

        Raises:
            ValueError: something else.
        """
        found = _CURSOR.fullmatch(text)
        if found is None:
            raise ValueError(f"{text[:80]!r} is no place in a listing; take `next` of the page before, as it is")
        return cls(int(found[1]), int(found[2]))


START: Final = Place(0, 0)


@dataclass(frozen=True, slots=True)
class Listed:
    """What a listing is of: numbers of a snapshot's generation and edits (`overlay.Changes`), and who runs queries."""

    query: Query
    seq: int
    after: int
    upto: int
    hidden: frozenset[int]

    def page(self, fields: str, count: int, *, start: Place, where: Condition | None) -> tuple[list[Row], Place | None]:
        """Some rows, and where they end.

        Args:
            fields: SQL, of the row `i` and its content `c`.
            count: of rows, at most.
            start: where the page before ended.
            where: which items, None for all.

        Returns:
            The fields of each row; None for the place where nothing follows.
        """
        clause = to_sql(where or Always(value=True))
        row = start.row
        if row < 0 and -row <= self.after:  # that edit is folded by now: its items follow the rows of then
            row = start.seq
        found = [] if row < 0 else self._of_generation(fields, clause.sql, clause.values, row, count + 1)
        if len(found) <= count and self.upto > self.after:
            last = max(-row, self.after)
            found += self._of_edits(fields, clause.sql, clause.values, last, count + 1 - len(found))
        end = Place(self.seq, found[count - 1][0]) if len(found) > count else None
        return [one[1:] for one in found[:count]], end

    def _of_generation(self, fields: str, sql: str, values: dict[str, Any], last: int, count: int) -> list[Row]:
        found: list[Row] = []
        while len(found) < count:
            rows = self.query(
                f"SELECT i.seq, {fields} FROM items i JOIN contents c USING (content)"  # noqa: S608
                f" WHERE i.seq > :last AND {ALIVE} AND ({sql}) ORDER BY i.seq LIMIT :count",
                {**values, "last": last, "seq": self.seq, "count": count},
            )
            found += [one for one in rows if one[0] not in self.hidden]
            if len(rows) < count:
                break
            last = rows[-1][0]
        return found[:count]

    def _of_edits(self, fields: str, sql: str, values: dict[str, Any], last: int, count: int) -> list[Row]:
        rows = self.query(
            f"SELECT -i.edit, {fields} FROM edits i JOIN contents c USING (content) WHERE i.edit > :last"  # noqa: S608
            f" AND i.deleted = 0 AND i.edit IN ({NEWEST_EDITS}) AND ({sql}) ORDER BY i.edit LIMIT :count",
            {**values, "last": last, "after": self.after, "upto": self.upto, "count": count},
        )
        return list(rows)
