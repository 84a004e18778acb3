"""A generation in a cluster: its manifest and the numbers that change while it is in service.

Fields of its `about` hash: `manifest` and `described` (JSON), `items` (how many), `edits` (made on top of it),
`written` (Milvus's time of the last one that put an item), `closed` (1 once it takes no more edits).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from pydantic import ValidationError

from threadmatch.indexer.cluster.names import Names
from threadmatch.indexer.cluster.store import RAISE, RecordStore
from threadmatch.indexer.errors import GalleryError
from threadmatch.indexer.reading.columns import Column
from threadmatch.indexer.store.manifest import ColumnKind, Manifest

FIRST_ROW: Final = "first_row"
"""Of the parameters of a manifest's index: where its rows begin; those of edits follow."""
MANIFEST, DESCRIBED, ITEMS, EDITS, WRITTEN, CLOSED = "manifest", "described", "items", "edits", "written", "closed"


@dataclass(frozen=True, slots=True)
class Moment:
    """What changes of a generation in service: two equal ones are the same state.

    Fields:
        items, edits: how many; one off for each writer that was killed amid an edit, or whose answer was lost.
        written: the time of the last write that a search must see.
        columns: metadata columns and their kinds, in no order.
    """

    items: int
    edits: int
    written: int
    columns: tuple[tuple[str, ColumnKind], ...]


def read_manifest(store: RecordStore, names: Names, generation: str) -> Manifest:
    """A generation's manifest; GalleryError where there is none, or one this version cannot read."""
    data = store.one("HGET", names.about(generation), MANIFEST)
    if data is None:
        raise GalleryError(
            f"the store has no generation {generation} of gallery {names.gallery!r}, and Milvus has: copy the gallery "
            "there again"
        )
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        raise GalleryError(
            f"generation {generation} of {names.gallery!r} is not one this version can read: {error}"
        ) from error


def read_described(store: RecordStore, names: Names, generation: str) -> list[Column]:
    """What the metadata columns hold, as of the time it was published."""
    data = store.one("HGET", names.about(generation), DESCRIBED)
    return [_column(values) for values in json.loads(data or b"[]")]


def read_moment(store: RecordStore, names: Names, generation: str) -> Moment:
    """The state of now: what every replica asks before each search."""
    numbers, kinds = store.ask(
        [("HMGET", names.about(generation), ITEMS, EDITS, WRITTEN), ("HGETALL", names.columns(generation))]
    )
    items, edits, written = (int(number or 0) for number in numbers)
    pairs = kinds.items() if isinstance(kinds, Mapping) else zip(kinds[::2], kinds[1::2], strict=True)
    columns: list[tuple[str, Any]] = sorted((name.decode(), kind.decode()) for name, kind in pairs)
    return Moment(items, edits, written, tuple(columns))


def write_generation(
    store: RecordStore, names: Names, manifest: Manifest, described: Sequence[Column], *, written: int
) -> None:
    """Write down a generation that is complete; nobody reads it before the alias stands for it."""
    for name, kind in manifest.columns.items():
        store.write("HSET", names.columns(manifest.generation), name, kind)
    told = json.dumps([asdict(column) for column in described])
    values = (MANIFEST, manifest.to_json(), DESCRIBED, told, ITEMS, manifest.items, EDITS, 0, WRITTEN, padded(written))
    store.write("HSET", names.about(manifest.generation), *values)


def padded(time: int) -> str:
    """A time of Milvus's as text, so that texts are in the order of times."""
    return f"{time:020d}"


def raise_written(store: RecordStore, names: Names, generation: str, time: int) -> None:
    """Let every search that begins from now on see the write of this time."""
    about = names.about(generation)
    store.write("EVAL", RAISE, 1, about, WRITTEN, padded(time), key=about)


def _column(values: dict[str, Any]) -> Column:
    listed = {name: tuple(values[name]) for name in ("values", "counts") if values.get(name) is not None}
    return Column(**{**values, **listed})
