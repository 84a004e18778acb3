"""A small shop for the indexer's tests: photos, catalogues of any kind, and an encoder that is quick and can die.

Its `main` ingests like `threadmatch ingest`, but without torch, so that a test can kill it many times.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import sqlite3
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from threadmatch.indexer.errors import GalleryError
from threadmatch.indexer.ingest import ingest
from threadmatch.indexer.ingest_options import IngestOptions, IngestResult
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.indexer.store.database import open_read_only
from threadmatch.model.features import EMBEDDING, REGIONS, Features, FeatureSpec
from threadmatch.model.framing import SQUASHED

EMBEDDING_SIZE, REGIONS_SHAPE = 24, (3, 5)
SPECS = (
    FeatureSpec(EMBEDDING, (EMBEDDING_SIZE,), "float32", indexed=True),
    FeatureSpec(REGIONS, REGIONS_SHAPE, "float16"),
)


def photo(seed: int, *, size: tuple[int, int] = (40, 50)) -> bytes:
    """A JPEG of coarse coloured tiles, other ones for each seed."""
    tiles = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(tiles).resize(size, Image.Resampling.NEAREST).save(file, "JPEG", quality=90)
        return file.getvalue()


class PixelEncoder:
    """Features that depend on the pixels alone, each image on its own; counts what it encodes.

    Args:
        name: of the model.
        dies_on: the call of `encode`, from 1, that fails as a power cut would.
    """

    image_px, framing = 16, SQUASHED
    features = SPECS

    def __init__(self, *, name: str = "pixels", dies_on: int = 0) -> None:
        self.name, self.dies_on = name, dies_on
        self.fingerprint = f"{name}-whole"
        self.features_fingerprint = f"{name}-features"
        self.batches: list[int] = []
        random = np.random.default_rng(0)
        inputs = self.image_px**2 * 3
        self._projection = random.standard_normal((inputs, EMBEDDING_SIZE + math.prod(REGIONS_SHAPE)))

    @property
    def encoded(self) -> int:
        return sum(self.batches)

    def encode(self, pixels: NDArray[np.uint8]) -> Features:
        assert pixels.dtype == np.uint8
        assert pixels.shape[1:] == (self.image_px, self.image_px, 3)
        if len(self.batches) + 1 == self.dies_on:
            raise RuntimeError("power cut")
        self.batches.append(len(pixels))
        rows = [(image.reshape(-1) / 255.0 - 0.5) @ self._projection for image in pixels]
        values = np.stack(rows).astype(np.float32)  # (B, E + R * C)
        vectors = values[:, :EMBEDDING_SIZE]
        return {
            EMBEDDING: vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
            REGIONS: values[:, EMBEDDING_SIZE:].reshape(-1, *REGIONS_SHAPE),
        }


@dataclass(frozen=True)
class Shop:
    """A folder with photos and a catalogue in it, and the gallery beside it."""

    folder: Path

    @property
    def images(self) -> Path:
        return self.folder / "images"

    @property
    def gallery(self) -> Path:
        return self.folder / "gallery"

    def row(self, number: int, **changes: Any) -> dict[str, Any]:
        """Row `number` of the catalogue; its photo is written when missing."""
        self.images.mkdir(parents=True, exist_ok=True)
        path = self.images / f"{number:03d}.jpg"
        if not path.exists():
            path.write_bytes(photo(number))
        row: dict[str, Any] = {
            "id": f"item-{number}",
            "image": path.name,
            "product_id": f"product-{number // 2}",
            "color": ("red", "blue", "green")[number % 3],
            "price": 10 + number,
        }
        return row | changes

    def rows(self, count: int) -> list[dict[str, Any]]:
        return [self.row(number) for number in range(count)]

    def write(self, rows: list[dict[str, Any]], name: str = "items.csv") -> Path:
        """A catalogue of these rows, of the kind its name says."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        elif path.suffix == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            pq.write_table(pa.Table.from_pylist(rows), path)
        else:
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
                writer.writeheader()
                writer.writerows(rows)
        return path

    def ingest(
        self, rows: list[dict[str, Any]], model: Any = None, *, name: str = "items.csv", **options: Any
    ) -> IngestResult:
        """Write the catalogue and ingest it, two images a batch and one decoding process unless told otherwise."""
        settings: dict[str, Any] = {"images": self.images, "batch_size": 2, "workers": 1, **options}
        catalogue = self.write(rows, name)
        return ingest(catalogue, self.gallery, model=model or PixelEncoder(), options=IngestOptions(**settings))

    def open(self) -> Gallery:
        return Gallery.open(self.gallery)


def answers(gallery: Gallery, *, queries: int = 5, k: int = 50) -> list[list[tuple[str, float]]]:
    """What a gallery answers to fixed queries: ids and distances."""
    random = np.random.default_rng(1)
    found = []
    for _ in range(queries):
        query = random.standard_normal(gallery.manifest.embedding_dim).astype(np.float32)
        query /= np.linalg.norm(query)
        found.append([(c.id, round(c.distance, 5)) for c in gallery.shortlist(query, k)])
    return found


def contents(gallery: Gallery) -> dict[str, Any]:
    """All that a gallery says of its items, by id."""
    everything: dict[str, Any] = {}
    for stored in gallery.current.stored_items():
        item = gallery.item(stored.id)
        everything[stored.id] = (item, gallery.photo(stored.id))
    return everything


class HeldEncoder(PixelEncoder):
    """Stands still before it encodes the photo after so many, until a line comes in: a moment that a test can look at.

    Args:
        after: photos.
    """

    def __init__(self, after: int) -> None:
        super().__init__()
        self._after = after

    def encode(self, pixels: NDArray[np.uint8]) -> Features:
        if self.encoded >= self._after:
            sys.stdin.readline()
        return super().encode(pixels)


def committed(folder: Path) -> int:
    """Photos whose features are durable in a gallery's folder, while somebody else makes it."""
    try:
        with contextlib.closing(open_read_only(folder)) as connection:
            return int(connection.execute("SELECT count(*) FROM contents").fetchone()[0])
    except (GalleryError, sqlite3.Error):  # not there yet, or being made at this moment
        return 0


def main() -> None:
    """Arguments: catalogue, gallery, images; and after how many photos to stand still."""
    catalogue, gallery, images = map(Path, sys.argv[1:4])
    options = IngestOptions(images=images, batch_size=4, workers=1)
    model = HeldEncoder(int(sys.argv[4])) if len(sys.argv) > 4 else PixelEncoder()
    result = ingest(catalogue, gallery, model=model, options=options)
    print(json.dumps(result.as_json()))
