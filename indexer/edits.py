"""Small changes to a gallery: delete items, put one item. Each publishes a generation of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from indexer import generations
from indexer.catalogue_values import metadata_json
from indexer.errors import GalleryError, ItemNotFoundError
from indexer.ingest import Encoder
from indexer.manifest import Manifest
from indexer.publish import Occasion, publish, recover, tie
from indexer.sources import normal_box
from indexer.store import Content, Run, Store, Version
from model.images import Box, ImageLimits, display_photo, load_image

DEFAULT_LIMITS = ImageLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewItem:
    """An item to put: its photo's bytes, and a catalogue row's other fields."""

    id: str
    photo: bytes
    product_id: str | None = None
    box: str = ""
    metadata: dict[str, Any]


def delete_items(folder: Path, item_ids: Sequence[str]) -> Manifest:
    """Publish a generation without these items.

    Raises:
        ItemNotFoundError: one of them is not in the gallery; nothing is deleted.
        GalleryBusyError, GalleryError: the gallery cannot be changed now.
    """
    with editing(folder) as (store, run):
        for item_id in item_ids:
            if store.live_version(item_id) is None:
                raise ItemNotFoundError(item_id)
        store.delete(run, item_ids)
        return publish(folder, store, run, Occasion(kind="edit"))


def put_item(folder: Path, item: NewItem, *, model: Encoder, limits: ImageLimits = DEFAULT_LIMITS) -> Manifest:
    """Publish a generation with this item, in place of one with the same id.

    Raises:
        InvalidImageError: the photo or the box cannot be used.
        GalleryModelMismatchError: the gallery was made by another model.
        GalleryBusyError, GalleryError: the gallery cannot be changed now.
    """
    asked_box = normal_box(item.box)
    box = Box.parse(asked_box) if asked_box else None
    prepared, decoded = load_image(item.photo, image_px=model.image_px, box=box, limits=limits)
    features = model.encode(prepared.pixels[None])
    with editing(folder) as (store, run):
        tie(store, model)
        content = Content(
            source="",
            sha256=hashlib.sha256(item.photo).hexdigest(),
            asked_box=asked_box,
            width=prepared.width,
            height=prepared.height,
            box=(prepared.box.x0, prepared.box.y0, prepared.box.x1, prepared.box.y1),
            embedding=features.embeddings[0],
            regions=features.regions[0].astype(np.float16),
            photo=display_photo(decoded),
        )
        number = store.add_content(content)
        store.put_version(run, Version(item.id, item.product_id, metadata_json(item.metadata), "", number))
        return publish(folder, store, run, Occasion(kind="edit"))


@contextmanager
def editing(folder: Path) -> Iterator[tuple[Store, Run]]:
    """Hold the gallery and begin a run on top of the generation in service; an error leaves the gallery as it was.

    What an unfinished ingestion has encoded is kept: when it is run again, its photos are read but not encoded anew.
    """
    name = generations.current_name(folder)
    if name is None:
        raise GalleryError(f"{folder} has no finished generation to change; run `threadmatch ingest` first")
    with generations.lock(folder):
        store = Store(folder)
        try:
            unfinished = recover(folder, store)
            if unfinished is not None:
                store.drop_run(unfinished)
            name = generations.current_name(folder) or ""
            base = generations.read_manifest(folder, name)
            yield store, store.start_run(kind="edit", plan="edit", base=name, base_seq=base.seq, fresh=False)
        finally:
            store.close()  # rolls back what was not committed
