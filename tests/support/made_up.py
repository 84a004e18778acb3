"""Galleries of made-up vectors: many items in little time, with any vectors a test wants."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support.shop import PixelEncoder
from threadmatch.indexer.edits.live_writes import Delete, Editor, Put
from threadmatch.indexer.store.contents import Content, content_of
from threadmatch.indexer.store.publish import Occasion, publish, tie
from threadmatch.indexer.store.versions import Store, Version
from threadmatch.model.features import EMBEDDING, REGIONS

MODEL = PixelEncoder()
SIZE = MODEL.features[0].shape[0]
SHAPE = MODEL.features[1].shape
PHOTO = b"\xff\xd8 no photo"


def unit(count: int, seed: int = 0) -> NDArray[np.float32]:
    """(count, E) unit vectors."""
    values = np.random.default_rng(seed).standard_normal((count, SIZE)).astype(np.float32)
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True), np.float32)


def regions(name: str) -> NDArray[np.float16]:
    """(R, C) another one for each name."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float16)


def content(name: str, vector: NDArray[np.float32], *, photo: bytes = PHOTO) -> Content:
    """What the photo of an item would have become."""
    key = hashlib.sha256(name.encode() + vector.tobytes()).hexdigest()
    made: Mapping[str, NDArray[Any]] = {EMBEDDING: vector, REGIONS: regions(name)}
    return content_of(made, MODEL.features, sha256=key, asked_box="", size=(3, 4), box=(0, 0, 3, 4), photo=photo)


def version(name: str, **metadata: Any) -> Version:
    return Version(name, None, json.dumps(metadata), "", 0)


def build(
    folder: Path,
    items: Mapping[str, NDArray[np.float32]],
    *,
    flat_max: int = 50_000,
    projected_min: int = 100_000,
    photo: bytes = PHOTO,
    metadata: Mapping[str, Mapping[str, Any]] | None = None,
    gone: Sequence[str] = (),
) -> None:
    """Publish a generation with these items, on top of what the folder holds, and without `gone`."""
    from threadmatch.indexer.store import generations

    folder.mkdir(parents=True, exist_ok=True)
    store = Store(folder)
    tie(store, MODEL)
    current = generations.current_name(folder)
    base = generations.read_manifest(folder, current) if current else None
    run = store.start_run(kind="ingest", plan="made up", base=base)
    for name, vector in items.items():
        number = store.add_content(content(name, vector, photo=photo))
        about = json.dumps((metadata or {}).get(name, {}))
        store.put_version(run, Version(name, None, about, "", number))
    store.delete(run, gone)
    publish(folder, store, run, Occasion(kind="ingest", flat_max=flat_max, projected_min=projected_min))
    store.close()


def edit(
    folder: Path,
    items: Mapping[str, NDArray[np.float32]],
    *,
    metadata: Mapping[str, Mapping[str, Any]] | None = None,
    gone: Sequence[str] = (),
) -> None:
    """Put and delete items as the service does."""
    editor = Editor(folder, features_fingerprint=MODEL.features_fingerprint)
    edits: list[Put | Delete] = [
        Put(version(name, **(metadata or {}).get(name, {})), content(name, vector)) for name, vector in items.items()
    ]
    for outcome in editor.apply([*edits, *map(Delete, gone)]):
        assert not isinstance(outcome, Exception), outcome
    editor.close()
