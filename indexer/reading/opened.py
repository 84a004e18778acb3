"""What a gallery is to those who search it, wherever it is kept: a folder (`gallery`) or a cluster (`indexer.cluster`).

Letters  E embedding size, N candidates
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from threadmatch.indexer.index import Vectors
from threadmatch.indexer.reading.columns import Column
from threadmatch.indexer.reading.gallery import StoredPhoto
from threadmatch.indexer.reading.items import Item
from threadmatch.indexer.reading.listing import START, Place
from threadmatch.indexer.reading.shortlist import Candidate
from threadmatch.indexer.reading.snapshot import StoredItem
from threadmatch.indexer.store.looks import Look
from threadmatch.indexer.store.manifest import ColumnKind, Manifest
from threadmatch.model.coded import Stored
from threadmatch.model.features import FeatureSpec


class OpenSnapshot(Protocol):
    """A gallery at one moment, for all steps of one search. `Snapshot` describes each member; thread-safe."""

    @property
    def manifest(self) -> Manifest:
        """Of the generation."""
        ...

    @property
    def generation(self) -> str:
        """Its name, such as "000003"."""
        ...

    @property
    def item_count(self) -> int:
        """Items in it, edits counted."""
        ...

    @property
    def pending(self) -> int:
        """Edits that wait for being folded into the generation."""
        ...

    @property
    def feature_specs(self) -> tuple[FeatureSpec, ...]:
        """What the gallery keeps of each photo."""
        ...

    def columns(self) -> dict[str, ColumnKind]:
        """The metadata columns and their kinds."""
        ...

    def described_columns(self) -> list[Column]:
        """The metadata columns with the values to choose from."""
        ...

    def shortlist(self, embedding: NDArray[np.float32], k: int, *, filter: str | None = None) -> list[Candidate]:
        """The items whose embeddings, (E,) of unit length, are most like this one."""
        ...

    def features(self, name: str, candidates: Sequence[Candidate]) -> NDArray[Any]:
        """(N, *shape) one feature of the candidates, in their order."""
        ...

    def stored_features(self, name: str, candidates: Sequence[Candidate]) -> Stored:
        """The same as they are kept: whole numbers and scales, where they are."""
        ...

    def embeddings(self, candidates: Sequence[Candidate]) -> Vectors:
        """(N, E) unit vectors of the candidates, in their order."""
        ...

    def looks(self, candidates: Sequence[Candidate]) -> list[Look | None]:
        """What the candidates' photos look like, in their order; None where that is not known."""
        ...

    def items(self, candidates: Sequence[Candidate]) -> list[Item]:
        """The candidates' items, in their order."""
        ...

    def features_of(self, name: str, item_id: str) -> NDArray[Any]:
        """(*shape) one feature of one item by its id."""
        ...

    def item(self, item_id: str) -> Item:
        """One item by its id."""
        ...

    def photo(self, item_id: str) -> bytes:
        """An item's display photo, JPEG."""
        ...

    def page(self, count: int, *, start: Place = START, filter: str | None = None) -> tuple[list[Item], Place | None]:
        """Some items, and where they end; None for the place where nothing follows."""
        ...

    def stored_items(self) -> Iterator[StoredItem]:
        """Every item, in the order of rows."""
        ...


class OpenGallery(Protocol):
    """A gallery, open for reading. `Gallery` describes each member; thread-safe."""

    @property
    def folder(self) -> Path:
        """Where it is: its folder, or its address as a path."""
        ...

    @property
    def current(self) -> OpenSnapshot:
        """What is in it now."""
        ...

    @property
    def generation(self) -> str:
        """Name of the generation in service."""
        ...

    @property
    def item_count(self) -> int:
        """Items in it, as of the last look."""
        ...

    @property
    def manifest(self) -> Manifest:
        """What the generation says about itself."""
        ...

    @property
    def features(self) -> tuple[FeatureSpec, ...]:
        """What is kept of each photo."""
        ...

    def snapshot(self) -> AbstractContextManager[OpenSnapshot]:
        """What is in the gallery now, for all steps of one search."""
        ...

    def refresh(self) -> bool:
        """Take the generation that is in service now. True when it is another one than before."""
        ...

    def close(self) -> None:
        """Close what no search is using."""
        ...

    def columns(self) -> dict[str, ColumnKind]:
        """The metadata columns and their kinds."""
        ...

    def item(self, item_id: str) -> Item:
        """One item by its id."""
        ...

    def photo(self, item_id: str) -> bytes:
        """An item's display photo, JPEG."""
        ...

    def find_photo(self, sha256: str, asked_box: str) -> StoredPhoto | None:
        """What the photo of these bytes, with this box, became; None where it has to be encoded."""
        ...

    def describe(self) -> dict[str, Any]:
        """The manifest as JSON data."""
        ...

    def describe_changes(self) -> dict[str, Any]:
        """The edits on top of the generation."""
        ...
