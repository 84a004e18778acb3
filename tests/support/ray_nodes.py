"""Ray clusters of the tests, and an encoder that stands still on its node until a test has looked.

Run as a program it ingests over a Ray cluster, so that a test can kill the driver.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.patience import PATIENCE_S
from tests.support.shop import PixelEncoder
from threadmatch.indexer.ingest import ingest
from threadmatch.indexer.ingest_options import IngestOptions, RayNodes
from threadmatch.model.features import Features
from threadmatch.service.bench.engines import Server, running
from threadmatch.service.bench.ray_nodes import address, head, lacking_ray, node


class GatedEncoder(PixelEncoder):
    """Encodes so many photos, then stands still until the file `go` is in a folder; until then `held-PID` is there.

    Args:
        folder: of both files.
        after: photos of each process.
    """

    def __init__(self, folder: Path, after: int) -> None:
        super().__init__()
        self._folder, self._after = folder, after

    def encode(self, pixels: NDArray[np.uint8]) -> Features:
        if self.encoded >= self._after and not (self._folder / "go").exists():
            (self._folder / f"held-{os.getpid()}").touch()
            deadline = time.monotonic() + PATIENCE_S
            while not (self._folder / "go").exists() and time.monotonic() < deadline:
                time.sleep(0.005)
        return super().encode(pixels)


@dataclass(frozen=True)
class Nodes:
    """A head that only manages, and two nodes with a CPU each."""

    head: Server
    nodes: tuple[Server, Server]

    @property
    def address(self) -> str:
        return address(self.head)

    def encoding(self, folder: Path | None = None, after: int = 0) -> RayNodes:
        """Where photos are encoded: by a PixelEncoder, or by a gated one."""
        opens = PixelEncoder if folder is None else partial(GatedEncoder, folder, after)
        return RayNodes(address=self.address, opens=opens)


@contextmanager
def two_nodes(folder: Path) -> Iterator[Nodes]:
    """A cluster, and skips the test where there is no Ray."""
    if reason := lacking_ray():
        pytest.skip(reason)
    first = head(folder / "head")
    with running(first):  # one after the other: nodes that begin together on one host take each other's ports
        nodes = (node(folder / "one", first), node(folder / "two", first))
        with running(nodes[0]), running(nodes[1]):
            yield Nodes(first, nodes)


def main() -> None:
    """Arguments: catalogue, gallery, images, address, folder of the gate, photos before it."""
    catalogue, gallery, images, gate = map(Path, (*sys.argv[1:4], sys.argv[5]))
    nodes = RayNodes(address=sys.argv[4], opens=partial(GatedEncoder, gate, int(sys.argv[6])))
    options = IngestOptions(images=images, batch_size=2, ray=nodes)
    print(json.dumps(ingest(catalogue, gallery, model=PixelEncoder(), options=options).as_json()))


if __name__ == "__main__":
    main()
