"""A gallery filled from a catalogue, without a service: behind `threadmatch.ingest` and the command of the same name.

Nothing of HTTP is imported here: a start of the command is no longer than what it needs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias, TypedDict, Unpack

from threadmatch.indexer.cluster.settings import is_cluster
from threadmatch.indexer.errors import IndexerError
from threadmatch.indexer.ingest import ingest as ingest_catalogue
from threadmatch.indexer.ingest_options import IngestOptions, IngestResult, Progress, RayNodes
from threadmatch.indexer.opening import current_manifest
from threadmatch.indexer.rejects import RejectBound
from threadmatch.indexer.store.manifest import BoxRule
from threadmatch.model.descriptions import DEFAULT_MODEL, shipped_models
from threadmatch.model.inference import Model, load_model

AnyPath: TypeAlias = str | os.PathLike[str]


class IngestChoices(TypedDict, total=False):
    """What `ingest` may be told beside the places, as `indexer.ingest_options.IngestOptions` describes it.

    `box` is "auto" where it is not given.
    """

    batch_size: int
    workers: int
    fresh: bool
    prune: bool
    predict: bool
    allow_hosts: tuple[str, ...]
    allow_private_network: bool
    headers: tuple[tuple[str, str, str], ...]
    max_rejects: RejectBound
    mapped: dict[str, str]
    preset: str
    box: BoxRule


def ingest(
    catalogue: AnyPath,
    gallery: AnyPath,
    *,
    images: AnyPath | None = None,
    model: AnyPath | Model | None = None,
    device: str = "auto",
    ray: str = "",
    progress: Callable[[Progress], None] = lambda _: None,
    **options: Unpack[IngestChoices],
) -> IngestResult:
    """Encode a catalogue's photos into a gallery and put it in service, as `threadmatch ingest` does.

        >>> import threadmatch
        >>> result = threadmatch.ingest("shop/catalogue.csv", "gallery", images="shop")
        >>> result.items, result.rejected
        (60, 0)

    The same call again goes on where one that was killed stopped, and takes up what changed in the catalogue.

    Args:
        catalogue: CSV, JSON Lines or Parquet file, an item a row.
        gallery: folder, made when missing; or `cluster://NAME` (docs/cluster.md).
        images: folder that image paths are below; None for the catalogue's own.
        model: name of a shipped model, folder of a checkpoint, or what `threadmatch.load_model` gave; None for the
            shipped one that the gallery was made with, and for a new gallery DEFAULT_MODEL.
        device: "auto", "cpu" or "cuda"; of no effect on a model that is loaded already.
        ray: address of a Ray cluster whose nodes read, decode and encode (docs/cluster.md); "" for this machine.
        progress: called now and then, in this thread.
        options: `batch_size`, `workers`, `fresh`, `prune` and others; see IngestChoices.

    Raises:
        IndexerError: the catalogue cannot be read or the gallery cannot take it; a bad photo is counted, not raised.
        CheckpointError: no such model.
        ValueError: a model that is loaded already, and nodes that are to load it.
    """
    model = model or _usual_model(gallery)
    loaded = model if isinstance(model, Model) else load_model(os.fspath(model), device=device)
    options.setdefault("box", "auto")
    nodes = _nodes(ray, model, loaded.device) if ray else None
    chosen = IngestOptions(images=None if images is None else Path(images), ray=nodes, **options)
    if is_cluster(gallery):
        from threadmatch.indexer.cluster.staged_ingest import ingest_to_cluster

        return ingest_to_cluster(Path(catalogue), gallery, model=loaded, options=chosen, progress=progress)
    return ingest_catalogue(Path(catalogue), Path(gallery), model=loaded, options=chosen, progress=progress)


def _usual_model(gallery: AnyPath) -> str:
    """A gallery goes on with its own model when another became the default."""
    try:
        name = current_manifest(gallery).model.name
    except IndexerError:  # there is none yet, or what is there is told by who opens it
        return DEFAULT_MODEL
    return name if name in shipped_models() else DEFAULT_MODEL


def _nodes(address: str, model: AnyPath | Model, device: str) -> RayNodes:
    if isinstance(model, Model):
        raise ValueError("nodes of a Ray cluster load the model themselves; give its name or its folder")
    name = os.fspath(model)
    name = str(Path(name).resolve()) if Path(name).is_dir() else name  # a node has another current folder
    opens = partial(load_model, name, device=device, threads=1)
    return RayNodes(address=address, opens=opens, gpus=int(device == "cuda"))
