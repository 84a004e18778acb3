"""Galleries of any size with made-up items, written through the store as an ingestion writes them.

Nothing is encoded: vectors are those of `indexer.index_bench.made_up`, other features are random, photos come from a
small set. Sizes on the disk are real but for the photo, which is small (PHOTO_PX) so that a million of them have room.

Letters  E embedding size
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from threadmatch.indexer.edits.edits_bench import MadeUp
from threadmatch.indexer.edits.live_writes import Editor, Put
from threadmatch.indexer.index_bench import made_up
from threadmatch.indexer.store import generations
from threadmatch.indexer.store.contents import Content
from threadmatch.indexer.store.manifest import Manifest
from threadmatch.indexer.store.publish import Maker, Occasion, publish, tie
from threadmatch.indexer.store.versions import Store, Version
from threadmatch.model.features import CELLS, EMBEDDING, TINTS, FeatureSpec, indexed_feature
from threadmatch.model.progress import Progress

DIM: Final = 512  # E, as the model that ships
SPECS: Final = (
    FeatureSpec(EMBEDDING, (DIM,), "float32", indexed=True),
    FeatureSpec(CELLS, (49, 256), "int4"),
    FeatureSpec(TINTS, (3, 49), "int8"),
)
PHOTO_PX: Final = (192, 256)
PHOTOS: Final = 512
PHOTO_BYTES: Final = 4096
"""About what one of those has."""
RECORDS: Final = 512
COMMIT_ROWS: Final = 500
SHARES: Final = 1000
"""Column `part` has each of 0 to 999 equally often: `part < 100` lets a tenth of the items through."""


def add_items(
    folder: Path, first: int, count: int, tell: Progress, *, pictures: bool = True, model: Maker | None = None
) -> tuple[Manifest, float]:
    """Write items `first` and on, and publish a generation of them and what was there.

    Args:
        folder: of the gallery, made when missing.
        first, count: numbers of the items.
        tell: hears how far it is.
        pictures: False for photos that are none, which nobody compares: a million of them take long.
        model: whose features they are to look like; None for SPECS.

    Returns:
        The manifest, and the seconds that publishing took.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = model or MadeUp(features=SPECS)
    with generations.lock(folder):
        store = Store(folder)
        try:
            tie(store, model)
            current = generations.current_name(folder)
            base = generations.read_manifest(folder, current) if current else None
            run = store.start_run(kind="ingest", plan=f"scale {first}", base=base)
            store.commit()
            for number, (version, content) in enumerate(items(first, count, pictures=pictures, specs=model.features)):
                added = store.add_content(content)
                store.put_version(run, Version(version.id, version.product_id, version.metadata, "", added))
                if number % COMMIT_ROWS == COMMIT_ROWS - 1:
                    store.commit()
                    tell("writing items", number + 1, count)
            store.commit()
            started = time.perf_counter()
            manifest = publish(folder, store, run, Occasion(kind="ingest"), tell=tell)
            return manifest, time.perf_counter() - started
        finally:
            store.close()


def put_items(folder: Path, first: int, count: int) -> float:
    """Put items beside the index, as the service does, 32 a commit. Returns edits a second."""
    editor = Editor(folder, features_fingerprint=MadeUp(features=SPECS).features_fingerprint)
    edits = [Put(version, content) for version, content in items(first, count)]
    started = time.perf_counter()
    for start in range(0, count, 32):
        for done in editor.apply(edits[start : start + 32]):
            if isinstance(done, Exception):
                raise done
    editor.close()
    return count / (time.perf_counter() - started)


def items(
    first: int, count: int, *, pictures: bool = True, specs: Sequence[FeatureSpec] = SPECS
) -> Iterator[tuple[Version, Content]]:
    """Items by number; the same each time."""
    photos = [_photo(seed) if pictures else bytes(PHOTO_BYTES) for seed in range(PHOTOS)]
    indexed, gathered = indexed_feature(specs), [spec for spec in specs if not spec.indexed]
    records = [{spec.key: _record(spec, seed) for spec in gathered} for seed in range(RECORDS)]
    random = np.random.default_rng(first)
    for numbers, vectors in made_up(count, indexed.shape[0], seed=first)():
        choices = random.integers(0, PHOTOS * RECORDS, len(numbers))
        for number, vector, choice in zip((numbers + first).tolist(), vectors, choices.tolist(), strict=True):
            yield (
                Version(f"item-{number}", f"product-{number // 3}", _metadata(number), "", 0),
                Content(
                    source="",
                    sha256=hashlib.sha256(str(number).encode()).hexdigest(),
                    asked_box="",
                    width=900,
                    height=1200,
                    box=(0.0, 0.0, 900.0, 1200.0),
                    features={indexed.key: vector.tobytes(), **records[choice % RECORDS]},
                    photo=photos[choice // RECORDS],
                ),
            )


def _metadata(number: int) -> str:
    random = np.random.default_rng(number)
    brand, color, kind = random.integers(0, (300, 12, 40)).tolist()
    about = {
        "name": f"Garment {number} of brand {brand}",
        "brand": f"brand {brand}",
        "color": f"color {color}",
        "category": f"category {kind}",
        "price": round(float(random.lognormal(3.5, 0.6)), 2),
        "part": (number * 7919) % SHARES,
        "in_stock": bool(number % 5),
        "materials": ["cotton", "wool", "linen"][: 1 + number % 3],
        "url": f"https://shop.example/garments/{number}",
    }
    return json.dumps(about, separators=(",", ":"))


def _photo(seed: int) -> bytes:
    random = np.random.default_rng(seed)
    tiles = random.integers(0, 256, (8, 6, 3), dtype=np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(tiles).resize(PHOTO_PX, Image.Resampling.BICUBIC).save(file, "JPEG", quality=85)
        return file.getvalue()


def _record(spec: FeatureSpec, seed: int) -> bytes:
    values = np.random.default_rng(seed).standard_normal(spec.shape).astype(np.float32)
    return spec.pack(values / np.linalg.norm(values, axis=-1, keepdims=True))
