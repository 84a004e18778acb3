"""What edits cost: `python -m threadmatch.indexer.edits.edits_bench`.

Made-up vectors; the figures are in docs/results.md.

Galleries with 0, 100 and 1,000 changed items beside the index are searched in turns in one run: stage one, and the
regions and metadata of 200 candidates, as a search reads them before the model ranks them. Then edits a second.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from threadmatch.indexer.edits.live_writes import Editor, Put
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.indexer.store.contents import Content, content_of
from threadmatch.indexer.store.publish import Occasion, publish, tie
from threadmatch.indexer.store.versions import Store, Version
from threadmatch.model.features import EMBEDDING, REGIONS, Features, FeatureSpec
from threadmatch.model.framing import SQUASHED, Framing

ROUNDS = 60
CANDIDATES = 200
DIM, REGIONS_SHAPE = 512, (24, 256)
PHOTO_BYTES = 30_000


SPECS = (FeatureSpec(EMBEDDING, (DIM,), "float32", indexed=True), FeatureSpec(REGIONS, REGIONS_SHAPE))


@dataclass(frozen=True)
class MadeUp:
    """Stands for a model that makes `features`; encodes nothing. `service.bench.scale` takes it too."""

    name: str = "made-up"
    fingerprint: str = "made-up"
    features_fingerprint: str = "made-up"
    features: tuple[FeatureSpec, ...] = SPECS
    image_px: int = 224
    framing: Framing = SQUASHED

    def encode(self, pixels: NDArray[np.uint8]) -> Features:
        """Never called."""
        raise NotImplementedError(f"{pixels.shape}")


def content(number: int) -> Content:
    """Features of a photo that does not exist; the same for the same number."""
    random = np.random.default_rng(number)
    vector = random.standard_normal(DIM).astype(np.float32)
    return content_of(
        {EMBEDDING: vector / np.linalg.norm(vector), REGIONS: random.standard_normal(REGIONS_SHAPE)},
        SPECS,
        sha256=hashlib.sha256(str(number).encode()).hexdigest(),
        asked_box="",
        size=(480, 640),
        box=(0, 0, 480, 640),
        photo=random.bytes(PHOTO_BYTES),
    )


def build(folder: Path, items: int) -> None:
    """A gallery of made-up items."""
    store = Store(folder)
    tie(store, MadeUp())
    run = store.start_run(kind="ingest", plan="bench", base=None)
    for number in range(items):
        version = Version(f"item-{number}", None, '{"price": 5}', "", store.add_content(content(number)))
        store.put_version(run, version)
        if number % 500 == 0:
            store.commit()
    publish(folder, store, run, Occasion(kind="ingest"))
    store.close()


def search_ms(gallery: Gallery, query: NDArray[np.float32]) -> float:
    """Milliseconds of processor time for all that the gallery does in one search; other work hardly shows in it."""
    started = time.thread_time()
    snapshot = gallery.current
    candidates = snapshot.shortlist(query, CANDIDATES)
    snapshot.features(REGIONS, candidates)
    snapshot.items(candidates)
    return 1000 * (time.thread_time() - started)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=5000)
    parser.add_argument("--folder", type=Path, help="where to build the galleries; a temporary folder by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as root:
        galleries: dict[int, Gallery] = {}
        whole = Path(root) / "whole"
        whole.mkdir()
        build(whole, options.items)
        for changed in (0, 100, 1000):
            folder = Path(shutil.copytree(whole, Path(root) / str(changed)))
            editor = Editor(folder, features_fingerprint="made-up")
            edits = [  # every other one replaces an item
                Put(Version(f"item-{n}" if n % 2 else f"new-{n}", None, "{}", "", 0), content(10**6 + n))
                for n in range(changed)
            ]
            started = time.perf_counter()
            for edit in edits:
                editor.apply([edit])
            if edits:
                print(f"{changed} edits, one a commit: {changed / (time.perf_counter() - started):.0f} a second")
            galleries[changed] = Gallery.open(folder)
            galleries[changed].current  # noqa: B018  read them before the clock runs
        random = np.random.default_rng(1)
        times: dict[int, list[float]] = {changed: [] for changed in galleries}
        for _ in range(ROUNDS):
            query = random.standard_normal(DIM).astype(np.float32)
            query /= np.linalg.norm(query)
            for changed, gallery in galleries.items():
                times[changed].append(search_ms(gallery, query))
        base = float(np.median(times[0]))
        for changed, each in times.items():
            p50 = float(np.median(each))
            print(f"{changed:5} changed items: p50 {p50:.2f} ms, best {min(each):.2f} ms, {p50 / base:.2f} x")
        batch = [Put(Version(f"b-{n}", None, "{}", "", 0), content(2 * 10**6 + n)) for n in range(320)]
        started = time.perf_counter()
        for first in range(0, len(batch), 32):
            editor.apply(batch[first : first + 32])
        print(f"320 edits, 32 a commit: {320 / (time.perf_counter() - started):.0f} a second")


if __name__ == "__main__":
    main()
