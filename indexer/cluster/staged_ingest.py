"""`threadmatch ingest` into a cluster: into a folder of this machine first, then copied there.

The folder is an ordinary gallery, so that resuming, rejects and retries are what they are on one machine; it stays,
for the next ingestion to build on. The copy sends only photos that the cluster does not have.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from threadmatch.indexer.cluster.gallery import Cluster
from threadmatch.indexer.cluster.settings import read_address
from threadmatch.indexer.cluster.to_cluster import copy_to_cluster
from threadmatch.indexer.errors import GalleryError
from threadmatch.indexer.ingest import ingest
from threadmatch.indexer.ingest_options import IngestOptions, IngestResult, Progress
from threadmatch.model.features import Encoder


def ingest_to_cluster(
    catalogue: Path,
    place: str | os.PathLike[str],
    *,
    model: Encoder,
    options: IngestOptions,
    progress: Callable[[Progress], None],
) -> IngestResult:
    """Bring a catalogue's rows into a cluster's gallery and put the outcome in service.

    Args:
        catalogue, model, options, progress: see `indexer.ingest.ingest`.
        place: `cluster://NAME`.

    Raises:
        GalleryError: the settings name no folder for staging, or as for `copy_to_cluster`: items that were edited in
            the cluster are nowhere else, so it is not replaced.
        CatalogueError and others: as for `indexer.ingest.ingest`.
    """
    started = time.monotonic()
    address = read_address(place)
    if address.settings.staging is None:
        raise GalleryError(
            'the settings of the cluster name no folder for staging: add staging = "FOLDER" at their top, on a disk '
            "with room for the gallery"
        )
    cluster = Cluster(address)
    try:
        staged = ingest(
            catalogue, address.settings.staging / address.name, model=model, options=options, progress=progress
        )

        def tell(stage: str, done: int, total: int, note: str = "") -> None:
            del note
            progress(Progress(stage=stage, rows=total, done=done, rejected=staged.rejected))

        copied = copy_to_cluster(address.settings.staging / address.name, cluster, tell=tell)
    finally:
        cluster.close()
    return replace(staged, generation=copied.generation, items=copied.items, seconds=time.monotonic() - started)
