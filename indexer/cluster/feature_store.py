"""Features of a shortlist from a store of the Redis protocol, gathered in pipelines.

Letters  N rows
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from cachetools import LRUCache
from numpy.typing import NDArray

from threadmatch.indexer.cluster.contents import FEATURE, Contents
from threadmatch.indexer.cluster.items import Items
from threadmatch.indexer.errors import FeatureMissingError
from threadmatch.indexer.reading.feature_store import DamagedRecordError
from threadmatch.model.coded import Stored, floats
from threadmatch.model.features import FeatureSpec

_REMEMBERED: Final = 100_000


class RowContents:
    """Which content each row has. Rows never change, so it is remembered. Thread-safe.

    Args:
        items: of the generation.
    """

    def __init__(self, items: Items) -> None:
        self._items = items
        self._known: LRUCache[int, int] = LRUCache(_REMEMBERED)
        self._lock = threading.Lock()

    def remember(self, contents: Mapping[int, int]) -> None:
        """Keep contents by row, as a shortlist has just read them."""
        with self._lock:
            self._known.update(contents)

    def get(self, rows: Iterable[int]) -> dict[int, int]:
        """Contents by row; rows that never were are left out."""
        wanted = set(rows)
        with self._lock:
            found = {row: self._known[row] for row in wanted if row in self._known}
        missing = sorted(wanted - found.keys())
        if missing:
            read = self._items.contents(missing)
            self.remember(read)
            found |= read
        return found


class StoredFeatures:
    """A `FeatureStore` over a store of the Redis protocol.

    Args:
        contents: of the model's features.
        rows: which content each row has.
        specs: of the generation's manifest.
    """

    def __init__(self, contents: Contents, rows: RowContents, specs: Iterable[FeatureSpec]) -> None:
        self._contents, self._rows = contents, rows
        self._specs = {spec.name: spec for spec in specs}

    @property
    def specs(self) -> tuple[FeatureSpec, ...]:
        """What it keeps of each photo."""
        return tuple(self._specs.values())

    def get(self, name: str, rows: Sequence[int]) -> NDArray[Any]:
        """See FeatureStore."""
        return floats(self.stored(name, rows))

    def stored(self, name: str, rows: Sequence[int]) -> Stored:
        """See FeatureStore."""
        if name not in self._specs:
            raise FeatureMissingError(name, self._specs)
        spec = self._specs[name]
        contents = self._rows.get(rows)
        found = self._contents.read(FEATURE + spec.key, list(contents.values())) if contents else {}
        records = []
        for row in rows:
            record = found.get(contents[row]) if row in contents else None
            if record is None or len(record) != spec.size_bytes:
                raise DamagedRecordError(row, name)
            records.append(record)
        return spec.stored(records)
