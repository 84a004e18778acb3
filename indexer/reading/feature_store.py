"""Gathering features of a shortlist: the seam, and its bodies: the database, and files that are mapped before it.

Letters  N rows
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from threadmatch.indexer.errors import FeatureMissingError
from threadmatch.indexer.reading.connections import Readers
from threadmatch.indexer.reading.rows import by_row
from threadmatch.indexer.reading.side_files import SideFiles
from threadmatch.indexer.store import records
from threadmatch.model.coded import Stored, floats
from threadmatch.model.features import FeatureSpec


class DamagedRecordError(Exception):
    """A row whose record of a feature is missing or fails its checksum.

    Args:
        row: its number.
        name: of the feature.
    """

    def __init__(self, row: int, name: str) -> None:
        super().__init__(f"row {row} has no undamaged record of feature {name!r}")
        self.row, self.name = row, name


class FeatureStore(Protocol):
    """Features by row number. Rows never change, so a body may remember them. Thread-safe."""

    @property
    def specs(self) -> tuple[FeatureSpec, ...]:
        """What it keeps of each photo."""
        ...

    def get(self, name: str, rows: Sequence[int]) -> NDArray[Any]:
        """What `stored` gives, as floats (N, *shape)."""
        ...

    def stored(self, name: str, rows: Sequence[int]) -> Stored:
        """One feature of some rows.

        Args:
            name: of the feature.
            rows: N numbers, as a `Shortlist` gives them; one may come twice.

        Returns:
            N of them as `FeatureSpec.stored` gives them, in the order of `rows`; writable, the caller's own.

        Raises:
            FeatureMissingError: it does not keep this feature.
            DamagedRecordError: a record is missing or damaged; names the first such row.
            GalleryError: it cannot be read.
        """
        ...


class SqliteFeatures:
    """The features in a gallery's database.

    Args:
        readers: connections to it.
        specs: of the generation's manifest.
    """

    def __init__(self, readers: Readers, specs: Iterable[FeatureSpec]) -> None:
        self._readers = readers
        self._specs = {spec.name: spec for spec in specs}

    @property
    def specs(self) -> tuple[FeatureSpec, ...]:
        """What it keeps of each photo."""
        return tuple(self._specs.values())

    def spec(self, name: str) -> FeatureSpec:
        """Of one feature; FeatureMissingError where it is not kept."""
        if name not in self._specs:
            raise FeatureMissingError(name, self._specs)
        return self._specs[name]

    def get(self, name: str, rows: Sequence[int]) -> NDArray[Any]:
        """See FeatureStore."""
        return floats(self.stored(name, rows))

    def stored(self, name: str, rows: Sequence[int]) -> Stored:
        """See FeatureStore."""
        found = self.records(name, rows)
        return self.spec(name).stored([found[row] for row in rows])

    def records(self, name: str, rows: Sequence[int]) -> dict[int, bytes]:
        """Packed records by row; FeatureMissingError, DamagedRecordError, GalleryError as `FeatureStore.stored`."""
        spec = self.spec(name)
        with self._readers.connection() as connection:
            contents = {row: fields[0] for row, fields in by_row(connection, "i.content", rows).items()}
            found = records.read(connection, spec, contents.values())
        for row in rows:
            if contents.get(row) not in found:
                raise DamagedRecordError(row, name)
        return {row: found[contents[row]] for row in rows}


class MappedFeatures:
    """The features in a generation's side files; what they lack comes from the database.

    Args:
        side: the files.
        behind: the database.
    """

    def __init__(self, side: SideFiles, behind: SqliteFeatures) -> None:
        self._side, self._behind = side, behind

    @property
    def specs(self) -> tuple[FeatureSpec, ...]:
        """What it keeps of each photo."""
        return self._behind.specs

    def get(self, name: str, rows: Sequence[int]) -> NDArray[Any]:
        """See FeatureStore."""
        return floats(self.stored(name, rows))

    def stored(self, name: str, rows: Sequence[int]) -> Stored:
        """See FeatureStore."""
        spec = self._behind.spec(name)
        numbers = np.asarray(rows, np.int64)
        records, whole = self._side.gather(name, numbers, spec.size_bytes)
        if not whole.all():
            missing = numbers[~whole].tolist()
            found = self._behind.records(name, missing)
            joined = b"".join(found[row] for row in missing)
            records[~whole] = np.frombuffer(joined, np.uint8).reshape(len(missing), -1)
        return spec.stored_rows(records)
