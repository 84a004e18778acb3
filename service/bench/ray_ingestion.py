"""How ingestion grows with the nodes of a Ray cluster, and what a node's death costs; on one machine.

    python -m threadmatch.service.bench.ray_ingestion

The encoder is replaced by a sleep of the same length for each photo: two nodes of one machine would share its cores
else. Everything else is real: the cluster, reading, decoding, the tasks, the store, the index. One and two nodes take
turns, in one run; then two begin and one is killed with -9. It exits with 1 where an item is missing or there twice.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from threadmatch.indexer.ingest import ingest
from threadmatch.indexer.ingest_options import IngestOptions, IngestResult, Progress, RayNodes
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.model.features import EMBEDDING, Features, FeatureSpec
from threadmatch.model.framing import SQUASHED
from threadmatch.service.bench.engines import Server, running
from threadmatch.service.bench.ray_nodes import address, head, lacking_ray, node

SIDE_PX: Final = 64
SIZE: Final = 32
BATCH: Final = 16


class SleepingEncoder:
    """Takes a fixed time for each photo and no processor; the embedding is made up from the pixels.

    Args:
        seconds: for a photo.
    """

    name, fingerprint, features_fingerprint = "sleeping", "sleeping", "sleeping"
    features = (FeatureSpec(EMBEDDING, (SIZE,), "float32", indexed=True),)
    image_px, framing = SIDE_PX, SQUASHED

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def encode(self, pixels: NDArray[np.uint8]) -> Features:
        """See `features.Encoder.encode`."""
        time.sleep(self._seconds * len(pixels))
        vectors = pixels.reshape(len(pixels), -1)[:, :SIZE].astype(np.float32) + 1  # (B, SIZE)
        return {EMBEDDING: vectors / np.linalg.norm(vectors, axis=1, keepdims=True)}


def write_shop(folder: Path, photos: int) -> Path:
    """A catalogue of so many different small photos; its path."""
    random = np.random.default_rng(0)
    images = folder / "images"
    images.mkdir(parents=True)
    for number in range(photos):
        tiles = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        picture = Image.fromarray(tiles).resize((2 * SIDE_PX, 2 * SIDE_PX), Image.Resampling.NEAREST)
        picture.save(images / f"{number}.jpg", quality=90)
    catalogue = folder / "items.csv"
    catalogue.write_text("id,image\n" + "".join(f"{n},images/{n}.jpg\n" for n in range(photos)), "utf-8")
    return catalogue


class Run:
    """One ingestion on the nodes that there are.

    Args:
        catalogue: of `write_shop`.
        cluster: its head.
        seconds: that a photo takes.
    """

    def __init__(self, catalogue: Path, cluster: Server, seconds: float) -> None:
        self._catalogue, self._seconds = catalogue, seconds
        self._nodes = RayNodes(address=address(cluster), opens=partial(SleepingEncoder, seconds))
        self.rate = 0.0

    def __call__(self, gallery: Path, at: Callable[[Progress], None] = lambda _: None) -> IngestResult:
        """Fill a gallery. `rate` is then that of the last three quarters: processes that start are in the first."""
        seen: list[tuple[float, int]] = []

        def tell(now: Progress) -> None:
            if now.stage == "encoding" and 4 * now.encoded >= now.rows:
                seen.append((time.monotonic(), now.encoded))
            at(now)

        options = IngestOptions(batch_size=BATCH, ray=self._nodes)
        result = ingest(self._catalogue, gallery, model=SleepingEncoder(0), options=options, progress=tell)
        (begun, first), (ended, last) = seen[0], seen[-1]
        self.rate = (last - first) / (ended - begun)
        return result


def check(gallery: Path, photos: int) -> None:
    """Each photo is an item, once; ValueError else."""
    with_ids = [one.id for one in Gallery.open(gallery).current.stored_items()]
    if sorted(with_ids) != sorted(map(str, range(photos))):
        raise ValueError(f"{len(with_ids)} items, {len(set(with_ids))} of them different; expected {photos}")


def growth(run: Run, one: Server, two: Server, work: Path, photos: int, turns: int) -> None:
    """Measure one and two nodes in turn, and print it."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    for turn in range(turns):
        for nodes in (1, 2):
            with ExitStack() as stack:
                stack.enter_context(running(one))
                if nodes == 2:
                    stack.enter_context(running(two))
                gallery = work / f"gallery-{turn}-{nodes}"
                run(gallery)
                check(gallery, photos)
            rates[nodes].append(run.rate)
            print(f"{nodes} node(s): {rates[nodes][-1]:.1f} photos a second", flush=True)
    slow, fast = (statistics.median(rates[nodes]) for nodes in (1, 2))
    print(f"median of {turns}: {slow:.1f} with one node, {fast:.1f} with two: {fast / slow:.2f} times as many")


def death(run: Run, one: Server, two: Server, gallery: Path, photos: int) -> None:
    """Kill one of two nodes when a third is encoded, and print what became of it."""
    killed = threading.Event()

    def kill(now: Progress) -> None:
        if now.encoded * 3 >= photos and not killed.is_set():
            killed.set()
            two.kill()

    with running(one), running(two):
        result = run(gallery, kill)
    check(gallery, photos)
    print(
        f"one of two nodes killed with -9 in the midst: {result.items} of {photos} items, each once, "
        f"{result.rejected} rejected, {result.seconds:.1f} s in all"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--photos", type=int, default=1600)
    parser.add_argument("--milliseconds", type=float, default=30.0, help="that a photo takes")
    parser.add_argument("--turns", type=int, default=2, help="of one node and two")
    asked = parser.parse_args(arguments)
    if reason := lacking_ray():
        sys.exit(f"cannot start: {reason}")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        catalogue = write_shop(work / "shop", asked.photos)
        cluster = head(work / "head")
        with running(cluster):
            one, two = (node(work / name, cluster) for name in ("one", "two"))
            run = Run(catalogue, cluster, asked.milliseconds / 1000)
            growth(run, one, two, work, asked.photos, asked.turns)
            death(run, one, two, work / "gallery-death", asked.photos)


if __name__ == "__main__":
    main()
